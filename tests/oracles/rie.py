"""AWS's Runtime Interface Emulator as an oracle: the binary from the aws-sam-cli wheel, run with a handler.

Used by conformance tests and benchmarks only; nothing of it is part of the product.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import platform
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

VERSION = "1.170.0"
_CACHE = Path(__file__).parents[2] / ".cache" / "rie" / VERSION
_START_S = 20.0


class Unavailable(Exception):
    """RIE can not be had here; the message says why."""


def binary() -> Path:
    """The emulator's binary, fetched once with pip. Raises Unavailable."""
    machine = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise Unavailable(f"RIE is made for Linux, not for {sys.platform} on {platform.machine()}")
    found = _CACHE / f"aws-lambda-rie-{machine}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            _fetch(found)
    return found


def _fetch(target: Path) -> None:
    wanted = ["--no-deps", "--only-binary=:all:", "--dest", str(_CACHE), f"aws-sam-cli=={VERSION}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"pip could not download aws-sam-cli: {done.stderr.strip()[-200:]}")
    wheel = next(_CACHE.glob("aws_sam_cli-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        draft = target.with_suffix(".tmp")
        draft.write_bytes(archive.read(f"samcli/local/rapid/{target.name}"))
    draft.chmod(0o755)
    draft.replace(target)
    wheel.unlink()


@contextlib.contextmanager
def running(
    folder: Path,
    handler: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> Iterator[int]:
    """RIE with a handler of `folder`, under awslambdaric or `command`; gives the port for invocations."""
    with started(folder, handler, environment, command) as (port, _):
        yield port


@contextlib.contextmanager
def started(
    folder: Path,
    handler: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> Iterator[tuple[int, int]]:
    """The same; gives RIE's process too."""
    port, runtime_port = _free_port(), _free_port()
    process = subprocess.Popen(
        [
            str(binary()),
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{port}",
            "--runtime-api-address",
            f"127.0.0.1:{runtime_port}",
            *(command or (sys.executable, "-m", "awslambdaric", handler)),
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port, process)
        yield port, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def invoke(port: int, payload: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """One invocation: HTTP status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/2015-03-31/functions/function/invocations", payload, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise Unavailable("RIE did not start to listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
