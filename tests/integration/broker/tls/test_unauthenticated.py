"""Whoever does not say who they are costs little and not for long, and those who do always find room."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.fakes.raw_kafka import RawKafka
from tests.harness.processes import wait_until
from tests.harness.tls_broker import TlsBroker, tls_broker

METADATA = 3
TIMEOUT_S = 2.0
IDLE = 1000
IDLE_MEMORY_KB = 60_000
RECEIVE_SIZE = 16_384


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    directory = tmp_path_factory.mktemp("secured")
    with tls_broker(directory, tidemill_authentication_timeout_ms=f"{TIMEOUT_S * 1000:g}") as running:
        yield running


def silent(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def is_told(running: TlsBroker, mechanism: str) -> bool:
    line = f'listener=scram mechanism={mechanism} .* reason="no login within {TIMEOUT_S:g} s"'
    return any(re.search(line, each) for each in running.audited())


def seconds_until_it_ends(connection: socket.socket, since_s: float) -> float:
    with suppress(ConnectionResetError):
        while connection.recv(1000):
            pass
    return time.monotonic() - since_s


def test_who_stalls_in_a_handshake_or_before_a_login_has_a_deadline(secured: TlsBroker) -> None:
    """Some send the beginning of a ClientHello and nothing more, one shakes hands and never logs in."""
    source = "127.0.0.2"  # the audit log tells each address only some of its failures
    with ExitStack() as opened:
        ports = [secured.port(each) for each in ("tls", "scram", "iam")]
        stalling = [opened.enter_context(silent(port, source)) for port in ports]
        for each in stalling:
            each.sendall(bytes.fromhex("1603010200010001fc0303"))
        plain = opened.enter_context(silent(secured.port("scram"), source))
        stalling.append(secured.trusting().wrap_socket(plain, server_hostname="localhost"))
        opened.callback(stalling[-1].close)
        since_s = time.monotonic()
        for each in stalling:
            assert TIMEOUT_S - 0.5 < seconds_until_it_ends(each, since_s) < TIMEOUT_S + 3
    wait_until(lambda: is_told(secured, "SSL"), what="the audit line of the handshake")
    wait_until(lambda: is_told(secured, '""'), what="the audit line of the login")


@pytest.mark.parametrize("size", [RECEIVE_SIZE + 1, 100_000_000, -1])
def test_a_frame_before_login_is_small(secured: TlsBroker, size: int) -> None:
    source = "127.0.0.3"  # as above
    with (
        silent(secured.port("iam"), source) as plain,
        secured.trusting().wrap_socket(plain, server_hostname="localhost") as stalling,
    ):
        since_s = time.monotonic()
        stalling.sendall(struct.pack(">i", size))
        assert seconds_until_it_ends(stalling, since_s) < TIMEOUT_S / 2
    wait_until(lambda: f"a frame of {size} bytes" in secured.broker.log, what="the reason in the log")


def test_a_frame_of_a_client_that_is_known_may_be_large(secured: TlsBroker) -> None:
    with closing(RawKafka(secured.port("tls"), secured.trusting())) as known:
        topics = [{"name": f"{number:0>200}"} for number in range(200)]
        reply = known.ask(METADATA, 9, topics=topics, allow_auto_topic_creation=False)
        assert len(reply.topics) == 200


def resident_kb(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def test_a_thousand_silent_connections_leave_room_for_those_who_log_in(secured: TlsBroker) -> None:
    before_kb = resident_kb(secured.broker.pid)
    with ExitStack() as opened:
        known = RawKafka(secured.port("tls"), secured.trusting(secured.tls_dir / "alice.pem"))
        opened.callback(known.close)
        ports = [secured.port(listener) for listener in ("tls", "scram", "iam")]
        for number in range(IDLE):
            idle = socket.socket()
            idle.setblocking(False)  # noqa: FBT003 - the standard library's
            idle.connect_ex(("127.0.0.1", ports[number % 3]))
            opened.enter_context(idle)
        slowest_s = 0.0
        for _ in range(20):
            since_s = time.monotonic()
            assert known.ask(METADATA, 9, topics=[]).brokers
            slowest_s = max(slowest_s, time.monotonic() - since_s)
        assert slowest_s < 1
        newcomer = RawKafka(secured.port("tls"), secured.trusting(secured.tls_dir / "client.pem"))
        opened.callback(newcomer.close)
        assert newcomer.ask(METADATA, 9, topics=[]).brokers
        assert resident_kb(secured.broker.pid) - before_kb < IDLE_MEMORY_KB
