"""A function that does nothing, as a plain HTTP server in a process of its own, to measure the poller with.

Answers every Invoke with `null`, counts records, and in latency mode takes the time of each record from its
value (nanoseconds of the monotonic clock, written by the producer on the same machine).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, cast

import uvloop

_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Amz-Executed-Version: $LATEST\r\n"
    b"x-amzn-RequestId: 1\r\n\r\nnull"
)


class NullLambda(asyncio.Protocol):
    """One connection; requests come one after the other."""

    records = 0
    invocations = 0
    last_s = 0.0
    timed = False
    latencies_ns: list[int] = []  # noqa: RUF012 - of all connections together

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class
        self._received = bytearray()
        self._wanted = 0  # bytes of the request, once its head is read
        self._body_at = 0

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._complete():
            request, self._received = self._received[: self._wanted], self._received[self._wanted :]
            self._wanted = 0
            self._transport.write(self._answer(request))

    def _complete(self) -> bool:
        if not self._wanted:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self._received[:end]).lower()
            at = head.find(b"content-length:")
            length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
            self._body_at, self._wanted = end + 4, end + 4 + length
        return len(self._received) >= self._wanted

    def _answer(self, request: bytearray) -> bytes:
        cls = NullLambda
        if request.startswith(b"GET"):
            body = json.dumps(
                {
                    "records": cls.records,
                    "invocations": cls.invocations,
                    "last_s": cls.last_s,
                    "ns": cls.latencies_ns,
                }
            ).encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        cls.last_s = time.monotonic()
        cls.invocations += 1
        if cls.timed:
            now = time.monotonic_ns()
            for records in json.loads(request[self._body_at :])["records"].values():
                cls.records += len(records)
                cls.latencies_ns += [now - int(base64.b64decode(r["value"])[:20]) for r in records]
        else:
            cls.records += request.count(b'"timestampType":')
        return _REPLY


async def _serve(ready: Path) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(NullLambda, "127.0.0.1", 0)
    ready.with_suffix(".tmp").write_text(str(server.sockets[0].getsockname()[1]))
    ready.with_suffix(".tmp").rename(ready)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


class NullLambdaProcess:
    """The server as a child process."""

    def __init__(self, directory: Path, *, timed: bool = False) -> None:
        ready = directory / "null_lambda.ready"
        ready.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.null_lambda", str(ready), *(["timed"] if timed else [])],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        deadline = time.monotonic() + 10
        while not ready.exists():
            assert time.monotonic() < deadline, "the null function did not start"
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{ready.read_text()}"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/stats", timeout=10) as reply:
            stats: dict[str, Any] = json.load(reply)
            return stats

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


if __name__ == "__main__":
    NullLambda.timed = "timed" in sys.argv[2:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(sys.argv[1])))
