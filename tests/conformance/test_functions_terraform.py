"""A real Terraform, with AWS's provider, creates, reads, changes and destroys functions and their neighbours.

Skipped where `terraform` is not on PATH, or has no provider in a filesystem mirror; the latter fails in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.functions_server import FunctionsServer, running, zip_of

# Where a filesystem mirror of providers may lie.
MIRRORS = [Path(path) for path in (os.environ.get("TF_PLUGIN_MIRROR", ""), "/opt/tf-plugins") if path]
PROVIDER = "registry.terraform.io/hashicorp/aws"
CONFIGURATION = """
terraform {{
  required_providers {{ aws = {{ source = "hashicorp/aws" }} }}
}}
provider "aws" {{
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
  endpoints {{ lambda = "{url}" }}
}}
resource "aws_lambda_layer_version" "shared" {{
  layer_name          = "shared"
  filename            = "layer.zip"
  compatible_runtimes = ["python3.11"]
}}
resource "aws_lambda_function" "orders" {{
  function_name                  = "orders"
  role                           = "arn:aws:iam::123456789012:role/lambda"
  runtime                        = "python3.11"
  handler                        = "app.handler"
  filename                       = "{package}"
  source_code_hash               = filebase64sha256("{package}")
  timeout                        = {timeout}
  publish                        = true
  reserved_concurrent_executions = {reserved}
  layers                         = [aws_lambda_layer_version.shared.arn]
  environment {{ variables = {{ TABLE = "t{timeout}" }} }}
  tags                           = {{ team = "{team}" }}
}}
resource "aws_lambda_alias" "live" {{
  name             = "live"
  function_name    = aws_lambda_function.orders.function_name
  function_version = aws_lambda_function.orders.version
}}
resource "aws_lambda_permission" "sns" {{
  statement_id  = "sns"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.orders.function_name
  qualifier     = aws_lambda_alias.live.name
  principal     = "sns.amazonaws.com"
  source_arn    = "arn:aws:sns:us-east-1:123456789012:t"
}}
resource "aws_lambda_function_event_invoke_config" "orders" {{
  function_name          = aws_lambda_function.orders.function_name
  maximum_retry_attempts = {retries}
}}
"""
_NO_CHANGES, _CHANGES = 0, 2


class Terraform:
    """The program in one folder."""

    def __init__(self, program: str, mirror: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        (folder / "terraform.rc").write_text(
            f'provider_installation {{ filesystem_mirror {{ path = "{mirror}" }} }}\n'
        )
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
        }

    def configure(self, server: FunctionsServer, **values: object) -> None:
        (self._folder / "main.tf").write_text(CONFIGURATION.format(url=server.url, **values))

    def run(self, *arguments: str) -> None:
        self._call(*arguments)

    def plan(self) -> int:
        """0 if nothing is to be changed, 2 if something is."""
        return self._call("plan", "-detailed-exitcode", "-input=false", expected=(_NO_CHANGES, _CHANGES))

    def _call(self, *arguments: str, expected: tuple[int, ...] = (0,)) -> int:
        done = subprocess.run(
            [self._program, *arguments, "-no-color"],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in expected, done.stdout + done.stderr
        return done.returncode


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    program = shutil.which("terraform")
    mirror = next((path for path in MIRRORS if (path / PROVIDER).is_dir()), None)
    if program is None:
        pytest.skip("needs terraform on PATH")
    if mirror is None:
        missing = (
            f"terraform needs {PROVIDER} below one of {[str(path) for path in MIRRORS]}: set TF_PLUGIN_MIRROR"
        )
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    (folder := tmp_path / "terraform").mkdir()
    source = (
        "import os, lib\ndef handler(event, context):\n    return [RESULT, lib.NAME, os.environ['TABLE']]\n"
    )
    for package, result in (("first.zip", "1"), ("second.zip", "2")):
        (folder / package).write_bytes(zip_of({"app.py": source.replace("RESULT", result)}))
    (folder / "layer.zip").write_bytes(zip_of({"python/lib.py": "NAME = 'shared'\n"}))
    return Terraform(program, mirror, folder)


@pytest.mark.timeout(400)
def test_terraform_applies_plans_empty_changes_and_destroys(terraform: Terraform, tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        terraform.configure(server, package="first.zip", timeout=5, reserved=3, team="a", retries=1)
        terraform.run("init", "-input=false")
        terraform.run("apply", "-auto-approve", "-input=false")
        assert server.invoke("orders", Qualifier="live")[0] == [1, "shared", "t5"]
        assert terraform.plan() == _NO_CHANGES

        terraform.configure(server, package="second.zip", timeout=6, reserved=4, team="b", retries=0)
        assert terraform.plan() == _CHANGES
        terraform.run("apply", "-auto-approve", "-input=false")
        assert server.invoke("orders", Qualifier="live")[0] == [2, "shared", "t6"]
        assert server.invoke("orders:1")[0] == [1, "shared", "t5"]
        found = server.client.get_function(FunctionName="orders")
        assert (found["Tags"], found["Concurrency"]) == ({"team": "b"}, {"ReservedConcurrentExecutions": 4})
        assert terraform.plan() == _NO_CHANGES

        terraform.run("destroy", "-auto-approve", "-input=false")
        assert server.client.list_functions()["Functions"] == []
        assert server.client.list_layers()["Layers"] == []
