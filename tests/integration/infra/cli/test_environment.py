"""`tidemill env`, `aws` and `reset` beside a running `up`, and what LocalStack's wait scripts see of it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.harness.up import TIDEMILL, clean_environ, running_up

pytestmark = pytest.mark.slow


def tidemill(*arguments: str, status: int = 0) -> str:
    ended = subprocess.run(
        [TIDEMILL, *arguments],
        env=clean_environ(AWS_SESSION_TOKEN="of-another-login"),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout if status == 0 else ended.stderr


def test_a_shell_and_the_aws_cli_reach_a_running_up(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_up(data) as up:
        url = up.ready["endpoint_url"]
        script = f'eval "$({TIDEMILL} env --data-dir {data})" && env'
        found = subprocess.run(
            ["sh", "-c", script], env=clean_environ(), capture_output=True, text=True, check=True, timeout=100
        )
        variables = dict(line.split("=", 1) for line in found.stdout.splitlines() if "=" in line)
        assert variables["AWS_ENDPOINT_URL"] == url
        assert variables["TIDEMILL_ACCOUNT_ID"] == "123456789012"
        assert (variables["AWS_REGION"], variables["AWS_ACCESS_KEY_ID"]) == ("us-east-1", "test")

        created = tidemill("aws", "--data-dir", str(data), "sqs", "create-queue", "--queue-name", "q")
        assert json.loads(created)["QueueUrl"] == f"{url}/123456789012/q"

        with urllib.request.urlopen(f"{url}/_localstack/health", timeout=40) as reply:
            assert '"sqs": "running"' in reply.read().decode()
        with urllib.request.urlopen(f"{url}/_localstack/init/ready", timeout=40) as reply:
            assert json.loads(reply.read())["completed"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/_localstack/init/nothing", timeout=40)

        refused = tidemill("reset", "--data-dir", str(data), "--yes", status=1)
        assert "is in use by another `tidemill up`" in refused
        assert up.client("sqs").get_queue_url(QueueName="q")
        assert up.stop() == 0
    assert "No `tidemill up` is ready" in tidemill("env", "--data-dir", str(data), status=1)
    tidemill("reset", "--data-dir", str(data), "--yes")
    with running_up(data) as again:
        assert again.client("sqs").list_queues().get("QueueUrls", []) == []
