"""Logs of functions behind the one endpoint: the AWS CLI's own `logs tail`, and what bounds them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.functions_server import ROLE, zip_of
from tests.harness.processes import wait_until
from tests.harness.up import TIDEMILL, Up, clean_environ, running_up
from tests.oracles import aws_cli_v2

pytestmark = pytest.mark.timeout(600)  # the first run fetches and compiles what it needs

SOURCE = "def handler(event, context):\n    print('\\n'.join(f'line {n}' for n in range(event)))\n"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("up")) as started:
        yield started


def create(up: Up, name: str) -> None:
    up.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE,
        Handler="app.handler",
        Timeout=30,
        Code={"ZipFile": zip_of({"app.py": SOURCE})},
    )


def test_aws_logs_tail_follows_a_function(up: Up, tmp_path: Path) -> None:
    program = aws_cli_v2.binary()
    create(up, "talks")
    up.cli("function", "invoke", "talks", "--payload", "1")
    logs = up.client("logs")
    wait_until(lambda: logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/talks")["logGroups"])
    output = tmp_path / "tail"
    environment = {**clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"]), "PYTHONUNBUFFERED": "1"}
    # The program brings its own libraries, not this interpreter's.
    environment.pop("PYTHONPATH", None)
    with output.open("w") as file:
        tail = subprocess.Popen(
            [program, "logs", "tail", "/aws/lambda/talks", "--follow", "--since", "1h"],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "line 0" in output.read_text(), what=f"the tail in {output.read_text()!r}")
        up.cli("function", "invoke", "talks", "--payload", "7")
        wait_until(lambda: output.read_text().count("REPORT RequestId") == 2)
        assert re.search(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32} line 6\n", output.read_text())
    finally:
        tail.kill()
        tail.wait()


def test_the_embedded_aws_keeps_the_last_lines_only(up: Up) -> None:
    create(up, "talks-much")
    up.cli("function", "invoke", "talks-much", "--payload", "5000")
    logs = up.client("logs")
    of = {"logGroupName": "/aws/lambda/talks-much"}

    def kept() -> list[str]:
        try:
            pages = list(logs.get_paginator("filter_log_events").paginate(**of))
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for page in pages for event in page["events"]]

    lines = wait_until(lambda: found if (found := kept()) and "line 4999" in found else None)
    assert len(lines) <= 2000
    assert "line 0" not in lines


def test_following_a_log_that_is_not_there_yet_says_so_and_waits(up: Up, tmp_path: Path) -> None:
    create(up, "quiet")
    output = tmp_path / "follow"
    with output.open("w") as file:
        follow = subprocess.Popen(
            [TIDEMILL, "function", "logs", "quiet", "-f"],
            env=clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"]),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: "quiet has no log yet: waiting for its first invocation." in output.read_text())
        # It says so before it listens: the first lines may be those of any of these.
        wait_until(lambda: up.cli("function", "invoke", "quiet", "--payload", "2") and _is_followed(output))
    finally:
        follow.kill()
        follow.wait()


def _is_followed(output: Path) -> bool:
    return "line 1" in output.read_text()
