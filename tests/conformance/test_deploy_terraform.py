"""Terraform applies, plans empty, changes and destroys a function, its mapping, queue, table and role."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.harness.deploying import Target, sample
from tests.oracles.deploy_tools import had_or_skip, terraform_mirror

NO_CHANGES, CHANGES = 0, 2
ROLE = "terraform-orders"


@pytest.mark.timeout(600)
def test_terraform_applies_plans_empty_changes_and_destroys(target: Target, tmp_path: Path) -> None:
    mirror = had_or_skip(terraform_mirror)
    folder = sample("terraform", tmp_path)
    with zipfile.ZipFile(folder / "orders.zip", "w") as package:
        package.write(folder / "orders" / "app.py", "app.py")
    (folder / "terraform.rc").write_text(
        f'provider_installation {{ filesystem_mirror {{ path = "{mirror}" }} }}\n'
    )

    def run(*arguments: str, expected: int = 0, batch_size: int = 10) -> str:
        environ = {
            "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
            "TF_VAR_cluster_arn": target.cluster_arn,
            "TF_VAR_batch_size": str(batch_size),
        }
        return target.run(["terraform", *arguments, "-no-color"], folder, environ, expected=(expected,))

    target.up.cli("topic", "create", "terraform-orders")
    run("init", "-input=false")
    run("apply", "-auto-approve", "-input=false")
    target.flows("terraform-orders", "terraform-results", "first")
    run("plan", "-detailed-exitcode", "-input=false", expected=NO_CHANGES)

    run("plan", "-detailed-exitcode", "-input=false", expected=CHANGES, batch_size=20)
    run("apply", "-auto-approve", "-input=false", batch_size=20)
    run("plan", "-detailed-exitcode", "-input=false", expected=NO_CHANGES, batch_size=20)
    target.flows("terraform-orders", "terraform-results", "second")

    run("destroy", "-auto-approve", "-input=false")
    target.nothing_is_left("terraform-")
    roles = target.up.client("iam").list_roles()["Roles"]
    assert ROLE not in {role["RoleName"] for role in roles}
