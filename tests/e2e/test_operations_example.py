"""The example of docs/operations.md: the poller alone, on a Kafka and an AWS that are the user's own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.stack import Stack

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
BIN = Path(sys.executable).parent
OWN, EXAMPLE = re.findall(r"^```sh\n(.*?)^```", PAGE.split("A whole example")[1], re.DOTALL | re.MULTILINE)[
    :2
]
# The version of Python that this machine surely has.
RUNTIME = f"python3.{sys.version_info.minor}"
# Version 1 of the AWS CLI ignores the endpoint of the environment for SQS; with real AWS there is none.
AWS = """#!/bin/sh
[ "$1" = sqs ] && set -- "$@" --endpoint-url "$AWS_ENDPOINT_URL"
exec {aws} "$@"
"""


@pytest.mark.parametrize("kafka", ["stack", pytest.param("apache_stack", marks=pytest.mark.kafka)])
def test_the_example_leads_from_an_empty_folder_to_a_failure_record(
    kafka: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    own: Stack = request.getfixturevalue(kafka)
    folder, programs = tmp_path / "empty", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    (programs / "aws").write_text(AWS.format(aws=BIN / "aws"))
    (programs / "aws").chmod(0o755)
    assert set(re.findall(r"([A-Z_]+)=", OWN)) == {"AWS_PROFILE", "AWS_REGION", "KAFKA", "ROLE_ARN"}
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TIDEMILL_"))
    }
    environ |= {
        "PATH": f"{programs}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}",
        "KAFKA": own.kafka.bootstrap_servers,
        "ROLE_ARN": "arn:aws:iam::123456789012:role/my-function",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": own.aws.url,
        "AWS_ENDPOINT_URL_LAMBDA": own.functions.url,
    }

    ran = subprocess.run(
        ["bash", "-e"],
        input=EXAMPLE.replace("4581", str(free_port())).replace("python3.12", RUNTIME),
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    log = folder / "poller.log"
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}\n{log.read_text() if log.exists() else ''}"
    assert "RetryAttemptsExhausted" in ran.stdout
    assert "refunds-0  polling" in ran.stdout
    assert "1 failure record sent" in " ".join(ran.stdout.split())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
