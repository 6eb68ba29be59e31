"""AWS CDK bootstraps, deploys and destroys an application with both kinds of Kafka event source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.deploying import Target, sample
from tests.oracles.deploy_tools import cdk, had_or_skip


@pytest.mark.timeout(600)
def test_cdk_bootstraps_deploys_and_destroys(target: Target, tmp_path: Path) -> None:
    packages = had_or_skip(cdk)
    folder = sample("cdk", tmp_path)
    (folder / "node_modules").symlink_to(packages / "node_modules")

    def run(*arguments: str) -> str:
        program = str(packages / "node_modules" / ".bin" / "cdk")
        quiet = {"CDK_DISABLE_CLI_TELEMETRY": "true"}
        return target.run([program, *arguments, "--no-notices", "--ci"], folder, quiet)

    for topic in ("cdk-orders", "cdk-returns"):
        target.up.cli("topic", "create", topic)
    run("bootstrap")
    run("deploy", "--require-approval", "never")
    table = target.outputs("orders-cdk")["TableName"]
    target.flows("cdk-orders", table, "managed")
    target.flows("cdk-returns", table, "self-managed")

    assert "There were no differences" in run("diff")
    assert "no changes" in run("deploy", "--require-approval", "never")

    run("destroy", "--force")
    target.nothing_is_left("orders-cdk")
