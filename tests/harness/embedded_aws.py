"""The embedded AWS as a process of its own: started, called with boto3, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.harness.processes import wait_until

ACCOUNT = "123456789012"
REGION = "us-east-1"


@dataclass(kw_only=True)
class EmbeddedAws:
    """One running process."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(40)


def start_embedded_aws(folder: Path, *arguments: str, engine: str = "ministack") -> EmbeddedAws:
    """Start and wait until it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    ready_file, log_file = folder / "ready.json", folder / "aws.log"
    ready_file.unlink(missing_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "tidemill_local.aws", "--engine", engine),
                *("--account-id", ACCOUNT, "--ready-file", str(ready_file), *arguments),
            ],
            env={**os.environ, "AWS_REGION": REGION},
            stdout=log,
            stderr=log,
        )
    wait_until(
        lambda: ready_file.exists() or process.poll() is not None, timeout_s=60, what="the embedded AWS"
    )
    assert process.poll() is None, log_file.read_text()
    return EmbeddedAws(process=process, port=json.loads(ready_file.read_text())["port"], log_file=log_file)


@contextmanager
def embedded_aws(folder: Path, *arguments: str, engine: str = "ministack") -> Iterator[EmbeddedAws]:
    """One that ends with the test."""
    running = start_embedded_aws(folder, *arguments, engine=engine)
    try:
        yield running
    finally:
        running.kill()
