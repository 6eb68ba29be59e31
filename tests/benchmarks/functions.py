"""Invokes per second and latency of the function runtime beside AWS's own emulator (RIE), in one run.

Both run the same handler under the same awslambdaric; the client is one blocking socket per connection with a
ready-made request, so that the server is measured and not the client. RIE runs one invocation at a time, so
the figures set side by side are those of one connection; ours with four is a row of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.report import Row
from tests.oracles import rie

HANDLER = "def handler(event, context):\n    return {'ok': True}\n"
SIZES = {"100 bytes": 100, "40 KB": 40_000}
CONNECTIONS = 4
_START_S = 20.0


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
            _invoke_many(server, payload, 50)
        for _ in range(passes):
            one.add(*_timed(ours, payload, invokes, connections=1))
            of_rie.add(*_timed(peer, payload, invokes, connections=1))
            four.add(*_timed(ours, payload, invokes, connections=CONNECTIONS))
        rows += _rows(size_name, one, four, of_rie)
    return rows


def _rows(size_name: str, one: Pass, four: Pass, of_rie: Pass) -> list[Row]:
    has_aim = size_name == "100 bytes"
    return [
        Row(
            what=f"functions: invokes, {size_name}, one connection",
            unit="1/s",
            ours=one.rate(),
            peer=of_rie.rate(),
            peer_name="RIE",
            aim="at least 2 times RIE" if has_aim else "",
            aim_ratio=2.0 if has_aim else None,
        ),
        Row(what=f"functions: invokes, {size_name}, {CONNECTIONS} connections", unit="1/s", ours=four.rate()),
        *(
            Row(
                what=f"functions: invoke latency p{percent}, {size_name}",
                unit="ms",
                ours=one.quantile_ms(percent),
                peer=of_rie.quantile_ms(percent),
                peer_name="RIE",
                higher_is_better=False,
            )
            for percent in (50, 99)
        ),
    ]


def _timed(
    server: tuple[int, str], payload: bytes, invokes: int, *, connections: int
) -> tuple[list[float], float]:
    found: list[list[float]] = [[] for _ in range(connections)]

    def work(mine: list[float]) -> None:
        mine += _invoke_many(server, payload, invokes // connections)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    started_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [latency for mine in found for latency in mine], time.perf_counter() - started_s


def _invoke_many(server: tuple[int, str], payload: bytes, invokes: int) -> list[float]:
    """Invoke one after the other over one connection; the latency of each in seconds."""
    port, function = server
    head = (
        f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    request = head.encode() + payload
    latencies_s: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(invokes):
            started_s = time.perf_counter()
            client.sendall(request)
            reply = client.recv(65536)
            # Both send a reply of this size at once, head and body; anything else fails the run.
            if not reply.startswith(b"HTTP/1.1 200") or not reply.endswith(b'{"ok": true}'):
                reply += client.recv(65536)
                assert reply.endswith(b'{"ok": true}'), reply
            latencies_s.append(time.perf_counter() - started_s)
    return latencies_s


@contextmanager
def _tidemill(folder: Path) -> Iterator[int]:
    ready = folder / "ready.json"
    arguments = ["--port", "0", "--data-dir", str(folder / "data"), "--ready-file", str(ready)]
    process = subprocess.Popen([sys.executable, "-m", "functions", *arguments], stderr=subprocess.DEVNULL)
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
