"""What silence and numbers may cost the HTTP server of each program, asked of the real processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.harness.processes import wait_until
from tests.harness.programs import SHELLS, free_port, started

pytestmark = pytest.mark.slow

SILENT_CONNECTIONS = 1_100
# What many systems give a shell.
SOFT_LIMIT = 1024
PATHS = {
    "broker": "/v1/clusters",
    "poller": "/2015-03-31/event-source-mappings/",
    "functions": "/2015-03-31/functions/",
    "gateway": "/_tidemill/health",
    "aws": "/_localstack/health",
}


@contextmanager
def open_files(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def listening(name: str, folder: Path) -> Iterator[int]:
    """The HTTP port of a program that was started with a shell's usual limit of open files."""
    ready_file = folder / "ready.json"
    with ExitStack() as stack:
        port = stack.enter_context(free_port(SHELLS[name]))
        with open_files(SOFT_LIMIT):
            process = stack.enter_context(started(SHELLS[name], folder, port))
        wait_until(lambda: ready_file.exists() or process.poll() is not None, what="the ready file")
        ready = json.loads(ready_file.read_text())
        yield ready.get("control_port", ready["port"])


def get(port: int, path: str) -> None:
    """See that it is answered, by a deadline that is for a busy machine alone."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    assert connection.getresponse().status in {200, 503}  # 503: the gateway's upstreams are not there
    connection.close()


@pytest.mark.parametrize("first_bytes", [b"", b"GET / HTTP/1.1\r\nHost: h\r\n"], ids=["nothing", "half"])
@pytest.mark.parametrize("name", PATHS)
def test_a_thousand_silent_connections_keep_nobody_out(name: str, first_bytes: bytes, tmp_path: Path) -> None:
    """They take the slots of each other; without a bound they take all descriptors, for an hour."""
    with listening(name, tmp_path) as port, ExitStack() as opened, open_files(4 * SOFT_LIMIT):
        get(port, PATHS[name])  # loads what is loaded late
        for _ in range(SILENT_CONNECTIONS):
            silent = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            with contextlib.suppress(ConnectionError):  # it made room already
                silent.sendall(first_bytes)
        get(port, PATHS[name])


@pytest.mark.parametrize("name", PATHS)
def test_a_chunk_is_believed_as_far_as_its_bytes_come(name: str, tmp_path: Path) -> None:
    """The server of moto read on behind the end of the connection, and grew by hundreds of MB a second."""
    with listening(name, tmp_path) as port:
        get(port, PATHS[name])
        pid = json.loads((tmp_path / "ready.json").read_text())["pid"]
        before = resident_bytes(pid)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            head = f"POST {PATHS[name]} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.sendall(head.encode() + b"FFFFFFFFFFFFFFFFF\r\nx")
            assert client.recv(12)[8:] == b" 400"
        get(port, PATHS[name])
        assert resident_bytes(pid) - before < 50_000_000


@pytest.mark.parametrize(
    ("name", "limit"),
    [("broker", 1_048_576), ("poller", 1_048_576), ("functions", 69_905_067), ("aws", 536_870_912)],
)
def test_a_body_beyond_the_limit_of_its_program_is_413(name: str, limit: int, tmp_path: Path) -> None:
    path = PATHS[name] if name in {"functions", "poller"} else "/v1/clusters"
    method = "GET" if name == "broker" else "POST"
    with (
        listening(name, tmp_path) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as client,
    ):
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {limit + 1}\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(12)[8:] == b" 413"


def attack(name: str, body: bytes, *headers: str) -> bytes:
    path = {"functions": "/2015-03-31/functions/", "poller": "/2015-03-31/event-source-mappings/"}.get(
        name, "/"
    )
    framing = () if "Transfer-Encoding: chunked" in headers else (f"Content-Length: {len(body)}",)
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers, *framing]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


TARGET = "X-Amz-Target: DynamoDB_20120810.PutItem"
COSTLY = {
    "deep": (b"[" * 1_000_000, (TARGET,)),
    "wide": (b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b"}", (TARGET,)),
    "keys": (b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}", (TARGET,)),
    "chunks": (b"1\r\nx\r\n" * 300_000, (TARGET, "Transfer-Encoding: chunked")),
    "fields": (b"A=1" + b"&a=1" * 300_000, ("Content-Type: application/x-www-form-urlencoded",)),
}


@pytest.mark.parametrize("name", ["functions", "poller", "broker", "gateway", "aws"])
def test_a_costly_body_is_answered_and_costs_the_program_little(name: str, tmp_path: Path) -> None:
    """CPU time of the program is what others wait for; here it is that of all five together."""
    with listening(name, tmp_path) as port:
        get(port, PATHS[name])
        pid = json.loads((tmp_path / "ready.json").read_text())["pid"]
        before_s = cpu_s(pid)
        for label, (body, headers) in COSTLY.items():
            answer = answer_to(port, attack(name, body, *headers))
            # Who still sends when the connection is closed may not see the answer.
            assert answer == b"" or answer[9:12] in {b"501", b"503"} or int(answer[9:12]) < 500, label
        get(port, PATHS[name])
        assert cpu_s(pid) - before_s < 5


def answer_to(port: int, request: bytes) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
        contextlib.suppress(ConnectionError),
    ):
        client.sendall(request)
        return client.recv(12)
    return b""


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()
