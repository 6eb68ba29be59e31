"""`tidemill up` as a process: started, read by its ready file, killed, started again on the same data."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config

from tests.harness.processes import wait_until
from tidemill_cli.main import main

TIDEMILL = str(Path(sys.executable).with_name("tidemill"))
REGION = "us-east-1"
ANY_KAFKA_PORTS = ("--kafka-port", "0", "--tls-port", "0", "--scram-port", "0", "--iam-port", "0")
_ENVIRON = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def clean_environ(**added: str) -> dict[str, str]:
    """The environment without the user's own AWS and Tidemill settings."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "TIDEMILL_", "OTEL_"))
    }
    # Rich folds at the terminal's width; tests read whole lines.
    return inherited | _ENVIRON | {"COLUMNS": "240", "NO_COLOR": "1"} | added


@dataclass(kw_only=True)
class Up:
    """One running `tidemill up`."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    ready_file: Path
    log_file: Path

    @property
    def ready(self) -> dict[str, Any]:
        """What the ready file says now."""
        found: dict[str, Any] = json.loads(self.ready_file.read_text())
        return found

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def pids(self) -> dict[str, int]:
        return {name: pid for name, pid in self.ready["pids"].items() if pid is not None}

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.ready["endpoint_url"],
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 4, "mode": "standard"}),
        )

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def cli(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """Run one `tidemill` command, in this process; its standard output, or its standard error."""
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        environ = clean_environ(AWS_ENDPOINT_URL=self.ready["endpoint_url"])
        with (
            patch.dict(os.environ, environ, clear=True),
            patch.object(sys, "stdin", io.StringIO(stdin)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            ended = main(list(arguments))
        said, complained = (stream.buffer.getvalue().decode() for stream in (out, err))
        assert ended == status, f"{arguments}: {ended}\n{said}\n{complained}"
        return said if status == 0 else complained


def start_up(data_dir: Path, *arguments: str, **environ: str) -> Up:
    """Start and wait until all answers."""
    data_dir.mkdir(parents=True, exist_ok=True)
    ready_file, log_file = data_dir / "ready.json", data_dir / "up.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [
                *(TIDEMILL, "up", "--port", "0", *ANY_KAFKA_PORTS),
                *("--data-dir", str(data_dir), "--ready-file", str(ready_file), *arguments),
            ],
            env=clean_environ(**environ),
            stdout=log,
            stderr=log,
        )
    up = Up(process=process, data_dir=data_dir, ready_file=ready_file, log_file=log_file)
    try:
        wait_until(
            lambda: ready_file.exists() or process.poll() is not None, timeout_s=60, what="up to be ready"
        )
        assert process.poll() is None, up.log
    except BaseException:
        process.kill()
        raise
    return up


@contextmanager
def running_up(data_dir: Path, *arguments: str, **environ: str) -> Iterator[Up]:
    """An `up` that ends with the test."""
    up = start_up(data_dir, *arguments, **environ)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.send_signal(signal.SIGTERM)
            try:
                up.process.wait(30)
            finally:
                up.process.kill()
