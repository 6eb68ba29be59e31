"""The Serverless Framework 3 deploys, deploys nothing anew, and removes a service with Kafka events."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.deploying import Target, sample
from tests.oracles.deploy_tools import had_or_skip, serverless


@pytest.mark.timeout(600)
def test_serverless_deploys_and_removes(target: Target, tmp_path: Path) -> None:
    packages = had_or_skip(serverless)
    folder = sample("serverless", tmp_path)

    def run(*arguments: str) -> str:
        program = str(packages / "node_modules" / ".bin" / "serverless")
        return target.run([program, *arguments], folder, {"SLS_TELEMETRY_DISABLED": "1"})

    for topic in ("serverless-orders", "serverless-returns"):
        target.up.cli("topic", "create", topic)
    run("deploy")
    table = target.outputs("orders-serverless-local")["TableName"]
    target.flows("serverless-orders", table, "managed")
    target.flows("serverless-returns", table, "self-managed")

    assert "No changes to deploy" in run("deploy")

    run("remove")
    target.nothing_is_left("orders-serverless")
