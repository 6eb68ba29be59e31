"""Invokes per second and latency of the function runtime beside AWS's own emulator (RIE), in one run.

Both run the same handler under the same awslambdaric; the client is one thread with a ready-made request, so
that the server is measured and not the client. RIE takes one invocation at a time and resets a second
connection's; what ours does with four at once is set beside RIE's one, which is the most that it does.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.benchmarks.report import Row
from tests.oracles import rie

HANDLER = "def handler(event, context):\n    return {'ok': True}\n"
SIZES = {"100 bytes": 100, "40 KB": 40_000}
CONNECTIONS = 4
RESULT = b'{"ok": true}'
_START_S = 20.0
_REPLY_S = 30.0


@dataclass(slots=True)
class Pass:
    """Passes of one server at one size: invokes per second, and the latency of every invocation."""

    rates: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    def add(self, latencies_s: list[float], elapsed_s: float) -> None:
        self.rates.append(len(latencies_s) / elapsed_s)
        self.latencies_s += latencies_s

    def rate(self) -> tuple[float, float]:
        return min(self.rates), max(self.rates)

    def quantile_ms(self, percent: int) -> tuple[float, float]:
        value = statistics.quantiles(self.latencies_s, n=100)[percent - 1] * 1000
        return value, value


def run(quick: bool) -> list[Row]:  # noqa: FBT001 - the benchmarks' common form
    """Measure, in alternating passes."""
    passes, invokes = (2, 400) if quick else (5, 2000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "app.py").write_text(HANDLER)
        with _tidemill(folder) as port, rie.running(folder, "app.handler") as rie_port:
            return _measure((port, "bench"), (rie_port, "function"), passes=passes, invokes=invokes)


def _measure(ours: tuple[int, str], peer: tuple[int, str], *, passes: int, invokes: int) -> list[Row]:
    rows: list[Row] = []
    for size_name, size_bytes in SIZES.items():
        payload = json.dumps({"filler": "x" * (size_bytes - 14)}).encode()
        one, four, of_rie = Pass(), Pass(), Pass()
        for server in (ours, peer):
            _timed(server, payload, 100, connections=1)
        _timed(ours, payload, 100, connections=CONNECTIONS)
        for _ in range(passes):
            one.add(*_timed(ours, payload, invokes, connections=1))
            of_rie.add(*_timed(peer, payload, invokes, connections=1))
            four.add(*_timed(ours, payload, invokes, connections=CONNECTIONS))
        rows += _rows(size_name, one, four, of_rie)
    return rows


def _rows(size_name: str, one: Pass, four: Pass, of_rie: Pass) -> list[Row]:
    has_aim = size_name == "100 bytes"
    rates = [
        Row(
            what=f"functions: invokes, {size_name}, {connections}",
            unit="1/s",
            ours=ours.rate(),
            peer=of_rie.rate(),
            peer_name="RIE, 1 connection",
            aim="at least 2 times RIE" if has_aim else "",
            aim_ratio=2.0 if has_aim else None,
        )
        for connections, ours in {"1 connection": one, f"{CONNECTIONS} connections": four}.items()
    ]
    latencies = [
        Row(
            what=f"functions: invoke latency p{percent}, {size_name}, 1 connection",
            unit="ms",
            ours=one.quantile_ms(percent),
            peer=of_rie.quantile_ms(percent),
            peer_name="RIE",
            higher_is_better=False,
        )
        for percent in (50, 99)
    ]
    return rates + latencies


def _timed(
    server: tuple[int, str], payload: bytes, invokes: int, *, connections: int
) -> tuple[list[float], float]:
    """Invoke over so many connections at once; the latency of each invocation and the time of all."""
    request = _request(server, payload)
    latencies_s: list[float] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        clients = [stack.enter_context(_connect(server[0])) for _ in range(connections)]
        started_s = time.perf_counter()
        for client in clients:
            client.sendall(request)
            selector.register(client, selectors.EVENT_READ, time.perf_counter())
        asked = connections
        while len(latencies_s) < invokes:
            for key, _ in selector.select(timeout=_REPLY_S):
                client = cast("socket.socket", key.fileobj)
                _read_reply(client)
                latencies_s.append(time.perf_counter() - key.data)
                if asked < invokes:
                    asked += 1
                    selector.modify(client, selectors.EVENT_READ, time.perf_counter())
                    client.sendall(request)
        return latencies_s, time.perf_counter() - started_s


def _request(server: tuple[int, str], payload: bytes) -> bytes:
    port, function = server
    head = (
        f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=_REPLY_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _read_reply(client: socket.socket) -> None:
    """Read one whole reply; anything but the handler's result fails the run."""
    reply = b""
    while not reply.endswith(RESULT):
        received = client.recv(65536)
        assert received, reply
        reply += received
    assert reply.startswith(b"HTTP/1.1 200"), reply


@contextmanager
def _tidemill(folder: Path) -> Iterator[int]:
    ready = folder / "ready.json"
    arguments = ["--port", "0", "--data-dir", str(folder / "data"), "--ready-file", str(ready)]
    command = [sys.executable, "-m", "tidemill_functions", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + _START_S
        while not ready.exists():
            assert process.poll() is None, "the runtime did not start"
            assert time.monotonic() < until_s, "the runtime took too long to start"
            time.sleep(0.01)
        port: int = json.loads(ready.read_text())["port"]
        body = {"name": "bench", "path": str(folder / "app.py"), "handler": "handler", "timeout_s": 30}
        url = f"http://127.0.0.1:{port}/_tidemill/functions"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
        urllib.request.urlopen(request).close()
        yield port
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
