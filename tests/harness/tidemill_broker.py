"""Our broker as a process of its own, with the same face as `ApacheKafka`: a test runs against either.

Owns one `python -m tidemill_broker` on loopback: start, stop, kill -9, start again on the same port and data.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.oracles.apache_kafka import VERSION, run_tool

ROOT = Path(__file__).resolve().parents[2]


@dataclass(kw_only=True)
class TidemillBroker:
    """One broker; `data_dir` keeps its log between starts, `settings` its `--set`, `flags` the rest.

    The first start takes any free ports; later ones take the same again, as a restart in place does.
    """

    data_dir: Path
    settings: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    ready_s: float = 0.0

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What the broker has written to stderr, over all its starts."""
        return (self.data_dir / "broker.log").read_text(errors="replace")

    def start(self, *, timeout_s: float = 20) -> TidemillBroker:
        """Start, and return once the broker has written its ready file."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        ready_file = self.data_dir / "ready.json"
        ready_file.unlink(missing_ok=True)
        started = time.monotonic()
        with (self.data_dir / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tidemill_broker", *self._arguments(ready_file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )
        while not ready_file.exists():
            if self.process.poll() is not None or time.monotonic() - started > timeout_s:
                self.kill()
                raise RuntimeError(f"the broker did not start: {self.log[-2000:]}")
            time.sleep(0.002)
        self.ready_s = time.monotonic() - started
        self.ready = json.loads(ready_file.read_text())
        self.port = self.ready["port"]
        return self

    def stop(self) -> None:
        """SIGTERM and wait; a broker that hangs is killed and the test told so."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"the broker did not stop on SIGTERM: {self.log[-2000:]}") from None
        self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> TidemillBroker:
        """Stop cleanly, then start on the same port and data."""
        self.stop()
        return self.start()

    def tool(
        self, main_class: str, *arguments: str, stdin: str | None = None, version: str = VERSION
    ) -> subprocess.CompletedProcess[str]:
        """One of Apache Kafka's tools pointed at this broker."""
        return run_tool(
            main_class, "--bootstrap-server", self.bootstrap_servers, *arguments, version=version, stdin=stdin
        )

    def _arguments(self, ready_file: Path) -> list[str]:
        control_port = str(self.ready.get("control_port", 0))
        own = ["--host", "127.0.0.1", "--port", str(self.port), "--control-port", control_port]
        where = ["--data-dir", str(self.data_dir / "data"), "--ready-file", str(ready_file)]
        return [
            *own,
            *where,
            *self.flags,
            *(f"--set={name}={value}" for name, value in self.settings.items()),
        ]
