"""The function runtime beside AWS's own emulator (RIE), in one run: rates, latency, processor time, starts.

Both run the same handler under the same awslambdaric; the client is one thread with a ready-made request, so
that the server is measured and not the client. RIE takes one invocation at a time and resets a second
connection's; what ours does with two environments is set beside what it does with one.
"""

from __future__ import annotations

import base64
import io
import json
import os
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.benchmarks.report import Row
from tests.oracles import rie

HANDLER = "def handler(event, context):\n    return {'ok': True}\n"
NODE_HANDLER = "exports.handler = async () => ({ ok: true });\n"
SIZES = {"100 bytes": 100, "10 KB": 10_000}
ENVIRONMENTS = 2
RESULTS = (b'{"ok": true}', b'{"ok":true}')
PAUSE_S = 0.05
_START_S = 20.0
_REPLY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server and the function that is invoked."""

    port: int
    pid: int
    function: str


@dataclass(slots=True)
class Pass:
    """Passes of one server at one size."""

    rates: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    processor_us: list[float] = field(default_factory=list)  # of the server, for each invocation

    def add(self, server: Server, payload: bytes, invokes: int, *, connections: int = 1) -> None:
        before_ns = _processor_ns(server.pid)
        latencies_s, elapsed_s = _timed(server, payload, invokes, connections=connections)
        self.processor_us.append((_processor_ns(server.pid) - before_ns) / 1000 / len(latencies_s))
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
        with (
            _tidemill(folder / "one", folder) as ours,
            _tidemill(folder / "running", folder, TIDEMILL_FUNCTIONS_FREEZE="false") as unfrozen,
            rie.started(folder, "app.handler") as (port, pid),
        ):
            peer = Server(port=port, pid=pid, function="function")
            rows = [
                row
                for name, size_bytes in SIZES.items()
                for row in _beside_rie(ours, peer, name, size_bytes, passes=passes, invokes=invokes)
            ]
            rows += _freezing(ours, unfrozen, passes=passes, invokes=invokes)
            rows += _node(ours, passes=passes, invokes=invokes)
            return rows + _first_invokes(ours, folder, passes=passes)


def _beside_rie(
    ours: Server, peer: Server, size: str, size_bytes: int, *, passes: int, invokes: int
) -> list[Row]:
    payload = json.dumps({"filler": "x" * (size_bytes - 14)}).encode()
    one, two, of_rie = Pass(), Pass(), Pass()
    for server in (ours, peer):
        _timed(server, payload, 100, connections=1)
    _timed(ours, payload, 100, connections=ENVIRONMENTS)
    for _ in range(passes):
        one.add(ours, payload, invokes)
        of_rie.add(peer, payload, invokes)
        two.add(ours, payload, invokes, connections=ENVIRONMENTS)
    return _rows(size, one, two, of_rie)


def _rows(size: str, one: Pass, two: Pass, of_rie: Pass) -> list[Row]:
    rate = Row(
        what=f"functions: invokes, {size}, 1 connection",
        unit="1/s",
        ours=one.rate(),
        peer=of_rie.rate(),
        peer_name="RIE",
        aim="at least 2 times RIE",
        aim_ratio=2.0,
    )
    environments = Row(
        what=f"functions: invokes, {size}, {ENVIRONMENTS} environments",
        unit="1/s",
        ours=two.rate(),
        peer=one.rate(),
        peer_name="one environment",
    )
    processor = Row(
        what=f"functions: server's processor time for an invoke, {size}",
        unit="µs",
        ours=(min(one.processor_us), max(one.processor_us)),
        peer=(min(of_rie.processor_us), max(of_rie.processor_us)),
        peer_name="RIE",
        aim="at most a third of RIE's",
        aim_ratio=1 / 3,
        higher_is_better=False,
    )
    latencies = [
        Row(
            what=f"functions: invoke latency p{percent}, {size}, 1 connection",
            unit="ms",
            ours=one.quantile_ms(percent),
            peer=of_rie.quantile_ms(percent),
            peer_name="RIE",
            higher_is_better=False,
        )
        for percent in (50, 99)
    ]
    return [rate, environments, processor, *latencies]


def _freezing(frozen: Server, unfrozen: Server, *, passes: int, invokes: int) -> list[Row]:
    """What freezing costs: invocations without a pause, and after one."""
    rows = []
    for what, pause_s, count in (
        ("without a pause", 0.0, invokes),
        ("after a pause", PAUSE_S, invokes // 20),
    ):
        ours, peer = Pass(), Pass()
        for server in (frozen, unfrozen):
            _timed(server, b"{}", 100, connections=1)
        for _ in range(passes):
            for kept, server in ((ours, frozen), (peer, unfrozen)):
                kept.latencies_s += _timed(server, b"{}", count, connections=1, pause_s=pause_s)[0]
        rows.append(
            Row(
                what=f"functions: invoke latency p50, frozen between invocations, {what}",
                unit="ms",
                ours=ours.quantile_ms(50),
                peer=peer.quantile_ms(50),
                peer_name="not frozen",
                higher_is_better=False,
            )
        )
    return rows


def _node(python: Server, *, passes: int, invokes: int) -> list[Row]:
    """A Node.js function beside a Python one, where there is a `node`."""
    if shutil.which("node") is None:
        return []
    node = Server(port=python.port, pid=python.pid, function="node")
    _create(python.port, "node", "nodejs20.x", "app.js", NODE_HANDLER)
    ours, peer = Pass(), Pass()
    for server in (node, python):
        _timed(server, b"{}", 100, connections=1)
    for _ in range(passes):
        ours.add(node, b"{}", invokes)
        peer.add(python, b"{}", invokes)
    return [
        Row(
            what="functions: invokes of Node.js, 1 connection",
            unit="1/s",
            ours=ours.rate(),
            peer=peer.rate(),
            peer_name="Python",
        )
    ]


def _first_invokes(ours: Server, folder: Path, *, passes: int) -> list[Row]:
    """The first invocation of a function of a zip, its process and its init in it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    first_s: list[float] = []
    of_rie_s: list[float] = []
    for number in range(2 * passes):
        _create(ours.port, f"first-{number}", version, "app.py", HANDLER)
        new = Server(port=ours.port, pid=ours.pid, function=f"first-{number}")
        first_s += _timed(new, b"{}", 1, connections=1)[0]
        with rie.started(folder, "app.handler") as (port, pid):
            peer = Server(port=port, pid=pid, function="function")
            of_rie_s += _timed(peer, b"{}", 1, connections=1)[0]
    return [
        Row(
            what="functions: first invoke of a function, median",
            unit="ms",
            ours=(statistics.median(first_s) * 1000,) * 2,
            peer=(statistics.median(of_rie_s) * 1000,) * 2,
            peer_name="RIE",
            aim="no slower than RIE",
            aim_ratio=1.0,
            higher_is_better=False,
        )
    ]


def _processor_ns(pid: int) -> int:
    """The time that a process's threads have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended
            total += int((task / "schedstat").read_text().split()[0])
    return total


def _timed(
    server: Server, payload: bytes, invokes: int, *, connections: int, pause_s: float = 0.0
) -> tuple[list[float], float]:
    """Invoke over so many connections at once; the latency of each invocation and the time of all."""
    request = _request(server, payload)
    latencies_s: list[float] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        clients = [stack.enter_context(_connect(server.port)) for _ in range(connections)]
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
                    time.sleep(pause_s) if pause_s else None
                    selector.modify(client, selectors.EVENT_READ, time.perf_counter())
                    client.sendall(request)
        return latencies_s, time.perf_counter() - started_s


def _request(server: Server, payload: bytes) -> bytes:
    head = (
        f"POST /2015-03-31/functions/{server.function}/invocations HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
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
    while not reply.endswith(RESULTS):
        received = client.recv(65536)
        assert received, reply
        reply += received
    assert reply.startswith(b"HTTP/1.1 200"), reply


@contextmanager
def _tidemill(data_dir: Path, folder: Path, **environ: str) -> Iterator[Server]:
    ready = data_dir.with_suffix(".json")
    arguments = ["--port", "0", "--data-dir", str(data_dir), "--ready-file", str(ready)]
    command = [sys.executable, "-m", "tidemill_functions", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **environ})
    try:
        until_s = time.monotonic() + _START_S
        while not ready.exists():
            assert process.poll() is None, "the runtime did not start"
            assert time.monotonic() < until_s, "the runtime took too long to start"
            time.sleep(0.01)
        port: int = json.loads(ready.read_text())["port"]
        body = {"name": "bench", "path": str(folder / "app.py"), "handler": "handler", "timeout_s": 30}
        _post(port, "/_tidemill/functions", body)
        yield Server(port=port, pid=process.pid, function="bench")
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _create(port: int, name: str, runtime: str, file: str, source: str) -> None:
    """CreateFunction from a zip with one file."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(file, source)
    body = {
        "FunctionName": name,
        "Runtime": runtime,
        "Role": "arn:aws:iam::123456789012:role/bench",
        "Handler": "app.handler",
        "Code": {"ZipFile": base64.b64encode(zipped.getvalue()).decode()},
    }
    _post(port, "/2015-03-31/functions", body)


def _post(port: int, path: str, body: Mapping[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=json.dumps(body).encode(), headers=headers, method="POST"
    )
    urllib.request.urlopen(request).close()
