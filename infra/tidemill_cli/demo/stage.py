"""Owns what the demo runs on: a `tidemill up` of its own, in a new data directory, on free ports.

So the demo never meets a running `up`. Its programs end with it, by kill -9 too, unless they are to be kept.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidemill_cli.errors import UserError
from tidemill_local.settings import AwsEngine

_READY_TIMEOUT_S = 90
_STOP_TIMEOUT_S = 60
_LOG_LINES_SHOWN = 15
# A retry waits for a second and more on AWS; nobody learns from watching that hundreds of times.
RETRY_BACKOFF_S = 0.01
_SETTINGS = {
    "TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S": str(RETRY_BACKOFF_S),
    "TIDEMILL_POLLER_RETRY_BACKOFF_MAX_S": str(RETRY_BACKOFF_S),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A running `up`."""

    endpoint_url: str
    bootstrap_servers: str
    cluster_arn: str
    region: str
    pid: int
    data_dir: Path
    log_file: Path


@contextmanager
def stage(*, keep: bool, aws: AwsEngine) -> Iterator[Stage]:
    """Start everything; at the end stop and remove it, or leave it when ``keep`` and nothing went wrong."""
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    data_dir = Path(tempfile.mkdtemp(prefix="tidemill-demo-"))
    log_file = data_dir / "up.log"
    with log_file.open("wb") as log:
        process = _start(data_dir, log, keep=keep, aws=aws)
    kept = False
    try:
        yield _await_ready(process, data_dir, log_file)
        kept = keep
    finally:
        if not kept:
            _stop(process)
            shutil.rmtree(data_dir, ignore_errors=True)


def _start(data_dir: Path, log: Any, *, keep: bool, aws: AwsEngine) -> subprocess.Popen[bytes]:
    # The shim ends `up` with the demo; what is kept outlives it.
    program = ["tidemill_cli.main"] if keep else ["tidemill_local.child", "tidemill"]
    return subprocess.Popen(  # noqa: S603 - our own program with our own arguments
        [
            *(sys.executable, "-P", "-m", *program, "up", "--port", "0", "--kafka-port", "0"),
            *("--aws", aws, "--data-dir", str(data_dir), "--ready-file", str(data_dir / "ready.json")),
        ],
        env=_environ(os.environ),
        stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
        stdout=log,
        stderr=log,
        # Ctrl-C is the demo's: it then stops `up` in order.
        start_new_session=True,
    )


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without any AWS of the user's: the demo touches nothing but its own."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("AWS_", "OTEL_"))}
    return kept | _SETTINGS | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def _await_ready(process: subprocess.Popen[bytes], data_dir: Path, log_file: Path) -> Stage:
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    ready_file = data_dir / "ready.json"
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            lines = log_file.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
            raise UserError("`tidemill up` did not start; it said:\n  " + "\n  ".join(lines))
        time.sleep(0.02)
    ready = json.loads(ready_file.read_text())
    names = ("endpoint_url", "bootstrap_servers", "cluster_arn", "region")
    return Stage(
        **{name: ready[name] for name in names}, pid=process.pid, data_dir=data_dir, log_file=log_file
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        process.stdin.close()
