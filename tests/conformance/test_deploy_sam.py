"""The SAM CLI builds, deploys, syncs and deletes an application with events of MSK and self-managed Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.deploying import Target, sample
from tests.harness.processes import wait_until
from tests.oracles.deploy_tools import had_or_skip, sam

QUIET = {"SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.5"}


class Sam:
    """The tool in the sample's folder."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._program = str(had_or_skip(sam))
        self._target = target
        self._folder = folder
        clusters = f"ClusterArn={target.cluster_arn} BootstrapServers={target.bootstrap_servers}"
        for topic in ("sam-orders", "sam-returns"):
            target.topic(topic)
        self.parameters = ["--parameter-overrides", clusters]

    def __call__(self, *arguments: str, expected: tuple[int, ...] = (0,), stdin: str = "") -> str:
        command = [self._program, *arguments]
        return self._target.run(command, self._folder, QUIET, expected=expected, stdin=stdin)


@pytest.mark.timeout(600)
def test_sam_builds_deploys_and_deletes_with_a_bucket_of_its_own(target: Target, tmp_path: Path) -> None:
    folder = sample("sam", tmp_path)
    run = Sam(target, folder)
    run("build")
    run("deploy", *run.parameters)
    table = target.outputs("orders-sam")["TableName"]
    target.flows("sam-orders", table, "managed")
    target.flows("sam-returns", table, "self-managed")

    assert "No changes to deploy" in run("deploy", *run.parameters, expected=(0, 1))

    run("delete", "--no-prompts")
    target.nothing_is_left("orders-sam")


@pytest.mark.timeout(600)
def test_sam_deploys_by_a_bucket_of_the_users_and_syncs_changed_code(target: Target, tmp_path: Path) -> None:
    folder = sample("sam", tmp_path)
    run = Sam(target, folder)
    target.up.client("s3").create_bucket(Bucket="sam-artifacts")
    run("build")
    stack = ("--stack-name", "orders-synced")
    run("deploy", *stack, "--no-resolve-s3", "--s3-bucket", "sam-artifacts", *run.parameters)
    functions = target.up.client("lambda")
    name = str(target.outputs("orders-synced")["FunctionArn"])
    before = functions.get_function_configuration(FunctionName=name)["CodeSha256"]

    handler = folder / "orders" / "app.py"
    handler.write_text(handler.read_text().replace("decode()", "decode().upper()"))
    run("sync", *stack, "--code", "--s3-bucket", "sam-artifacts", *run.parameters, stdin="Y\n")
    wait_until(
        lambda: functions.get_function_configuration(FunctionName=name)["CodeSha256"] != before,
        what="the function to have other code",
    )

    run("delete", *stack, "--no-prompts")
    target.nothing_is_left("orders-synced")
