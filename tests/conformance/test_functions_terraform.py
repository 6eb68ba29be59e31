"""A real Terraform, with AWS's provider in two generations, keeps functions and a mapping here.

It creates, reads, changes and destroys them; a plan after each apply is empty.
"""

from __future__ import annotations

import base64
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.up import Up, running_up
from tests.oracles import terraform_providers as providers

# Any executable: the old generation knows no Python that is still supported.
BOOTSTRAP = """#!/usr/bin/env python3
import os, urllib.request
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(base + "next") as request:
        request_id = request.headers["Lambda-Runtime-Aws-Request-Id"]
    shared = os.popen("shared").read().strip()
    answer = f'["RESULT", "{shared}", "{os.environ["TABLE"]}"]'.encode()
    urllib.request.urlopen(base + request_id + "/response", answer).close()
"""
CONFIGURATION = """
terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = "{version}"
    }}
  }}
}}
provider "aws" {{
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
{old}
  endpoints {{
    lambda = "{url}"
    kafka  = "{url}"
    iam    = "{url}"
    sts    = "{url}"
  }}
}}
resource "aws_lambda_layer_version" "shared" {{
  layer_name          = "shared"
  filename            = "layer.zip"
  compatible_runtimes = ["provided.al2"]
}}
resource "aws_lambda_function" "orders" {{
  function_name                  = "orders"
  role                           = "arn:aws:iam::123456789012:role/lambda"
  runtime                        = "provided.al2"
  handler                        = "app.handler"
  filename                       = "{package}"
  source_code_hash               = filebase64sha256("{package}")
  timeout                        = {timeout}
  publish                        = true
  reserved_concurrent_executions = {reserved}
  layers                         = [aws_lambda_layer_version.shared.arn]
  environment {{
    variables = {{ TABLE = "t{timeout}" }}
  }}
  tags = {{ team = "{team}" }}
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
  destination_config {{
    on_failure {{
      destination = "arn:aws:sqs:us-east-1:123456789012:failures"
    }}
  }}
}}
resource "aws_lambda_event_source_mapping" "orders" {{
  event_source_arn  = "{cluster}"
  function_name     = aws_lambda_alias.live.arn
  topics            = ["orders"]
  starting_position = "TRIM_HORIZON"
  batch_size        = {batch_size}
}}
"""
# What only the old generation has to be told.
_OLD = "  skip_get_ec2_platforms = true\n  s3_force_path_style    = true"
_NO_CHANGES, _CHANGES = 0, 2


class Terraform:
    """The program in one folder, with one generation of the provider."""

    def __init__(self, version: str, folder: Path, up: Up) -> None:
        self._program = providers.program()
        self._version = version
        self._folder = folder
        self._url = up.ready["endpoint_url"]
        [cluster] = up.client("kafka").list_clusters_v2()["ClusterInfoList"]
        self._cluster = cluster["ClusterArn"]
        mirror = providers.mirror(version)
        (folder / "terraform.rc").write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
        )
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
        }

    def configure(self, **values: object) -> None:
        text = CONFIGURATION.format(
            version=self._version,
            url=self._url,
            cluster=self._cluster,
            old=_OLD if self._version == providers.OLD else "",
            **values,
        )
        (self._folder / "main.tf").write_text(text)

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


def executable_zip(name: str, text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, text)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("up")) as started:
        started.cli("topic", "create", "orders", "--partitions", "1")
        yield started


@pytest.fixture(params=[providers.NEW, providers.OLD])
def terraform(request: pytest.FixtureRequest, up: Up, tmp_path: Path) -> Terraform:
    for package, result in (("first.zip", "1"), ("second.zip", "2")):
        (tmp_path / package).write_bytes(executable_zip("bootstrap", BOOTSTRAP.replace("RESULT", result)))
    (tmp_path / "layer.zip").write_bytes(executable_zip("bin/shared", "#!/bin/sh\necho shared\n"))
    return Terraform(request.param, tmp_path, up)


def invoked(up: Up, name: str, **members: str) -> str:
    reply = up.client("lambda").invoke(FunctionName=name, LogType="Tail", **members)
    text: str = reply["Payload"].read().decode()
    assert "FunctionError" not in reply, text + base64.b64decode(reply["LogResult"]).decode()
    return text


@pytest.mark.timeout(600)
def test_terraform_applies_plans_empty_changes_and_destroys(terraform: Terraform, up: Up) -> None:
    first = {"package": "first.zip", "timeout": 5, "reserved": 3, "team": "a", "retries": 1, "batch_size": 50}
    terraform.configure(**first)
    terraform.run("init", "-input=false")
    terraform.run("apply", "-auto-approve", "-input=false")
    assert invoked(up, "orders", Qualifier="live") == '["1", "shared", "t5"]'
    assert terraform.plan() == _NO_CHANGES

    second = {
        "package": "second.zip",
        "timeout": 6,
        "reserved": 4,
        "team": "b",
        "retries": 0,
        "batch_size": 60,
    }
    terraform.configure(**second)
    assert terraform.plan() == _CHANGES
    terraform.run("apply", "-auto-approve", "-input=false")
    assert invoked(up, "orders", Qualifier="live") == '["2", "shared", "t6"]'
    assert invoked(up, "orders:1") == '["1", "shared", "t5"]'
    client = up.client("lambda")
    found = client.get_function(FunctionName="orders")
    assert (found["Tags"], found["Concurrency"]) == ({"team": "b"}, {"ReservedConcurrentExecutions": 4})
    [mapping] = client.list_event_source_mappings()["EventSourceMappings"]
    assert (mapping["BatchSize"], mapping["FunctionArn"].endswith(":orders:live")) == (60, True)
    assert terraform.plan() == _NO_CHANGES

    terraform.run("destroy", "-auto-approve", "-input=false")
    assert client.list_functions()["Functions"] == []
    assert client.list_layers()["Layers"] == []
    assert client.list_event_source_mappings()["EventSourceMappings"] == []
