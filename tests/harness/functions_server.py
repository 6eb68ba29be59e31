"""The function runtime as a process of its own, with boto3 as its client; tests kill and restart it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.harness.processes import wait_until

# As the server is by default where it is root; else tests and handlers meet in files, as the user's own.
ISOLATED = {"TIDEMILL_FUNCTIONS_FIRST_UID": "2000000000"}
ROLE = "arn:aws:iam::123456789012:role/lambda"
_DEADLINE_S = 30.0


class FunctionsServer:
    """One running server."""

    def __init__(self, process: subprocess.Popen[bytes], ready: Mapping[str, int], data_dir: Path) -> None:
        self.process = process
        self.pid = ready["pid"]
        self.port = ready["port"]
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = boto3.client(
            "lambda",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(
                retries={"total_max_attempts": 1},
                max_pool_connections=20,
                read_timeout=60,
                # What is wrong is for the server to find.
                parameter_validation=False,
            ),
        )

    def register(self, name: str, path: Path, handler: str = "handler", **fields: Any) -> dict[str, Any]:
        """Register code that runs in place."""
        body = {"name": name, "path": str(path), "handler": handler, **fields}
        found: dict[str, Any] = json.loads(self.post("/_tidemill/functions", json.dumps(body).encode()))
        return found

    def create(self, name: str, source: str, handler: str = "app.handler", **members: Any) -> dict[str, Any]:
        """CreateFunction from a zip with one module, app.py."""
        code = {"ZipFile": zip_of({"app.py": source})}
        given = {"Runtime": "python3.11", "Role": ROLE, "Handler": handler, "Code": code, **members}
        found: dict[str, Any] = self.client.create_function(FunctionName=name, **given)
        return found

    def invoke(self, name: str, event: Any = None, **members: Any) -> tuple[Any, dict[str, Any]]:
        """The result as JSON and the whole reply."""
        payload = json.dumps({} if event is None else event)
        reply = self.client.invoke(FunctionName=name, Payload=payload, **members)
        text = reply["Payload"].read()
        return (json.loads(text) if text else None), reply

    def get(self, path: str) -> bytes:
        """One of the server's own routes."""
        with urllib.request.urlopen(self.url + path, timeout=_DEADLINE_S) as reply:
            found: bytes = reply.read()
            return found

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """The same, with a body."""
        request = urllib.request.Request(self.url + path, data=body, headers=dict(headers or {}))
        with urllib.request.urlopen(request, timeout=_DEADLINE_S) as reply:
            found: bytes = reply.read()
            return found

    def health(self) -> dict[str, Any]:
        """Its own figures."""
        found: dict[str, Any] = json.loads(self.get("/_tidemill/health"))
        return found

    def log(self, name: str, lines: int = 1000) -> str:
        """The end of a function's log."""
        return self.get(f"/_tidemill/functions/{name}/logs?lines={lines}").decode()

    def kill(self) -> None:
        """As the kernel does it."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(data_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[FunctionsServer]:
    """A server on any free port, gone at the end."""
    ready = data_dir / "ready.json"
    data_dir.mkdir(parents=True, exist_ok=True)
    ready.unlink(missing_ok=True)
    arguments = ["--port", "0", "--data-dir", str(data_dir), "--ready-file", str(ready)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tidemill_functions", *arguments],
        env={
            **os.environ,
            "SECRET_OF_THE_SERVER": "s3cr3t",
            "TIDEMILL_FUNCTIONS_FIRST_UID": "0",
            **(environment or {}),
        },
    )
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None)
        server = FunctionsServer(process, json.loads(ready.read_text()), data_dir)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=_DEADLINE_S)


def zip_of(files: Mapping[str, str]) -> bytes:
    """A zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()
