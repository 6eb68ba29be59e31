"""Hand-made frames on a socket to the running broker: what it answers, and what ends one connection only."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import TidemillBroker
from tidemill_broker.protocol.errors import ErrorCode

PRODUCE, FETCH, METADATA, JOIN_GROUP, API_VERSIONS = 0, 1, 3, 11, 18
FRAME_BYTES_MAX = 1 << 20


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TidemillBroker]:
    settings = {"socket.request.max.bytes": str(FRAME_BYTES_MAX)}
    started = TidemillBroker(data_dir=tmp_path_factory.mktemp("broker"), settings=settings).start()
    yield started
    started.stop()


@pytest.fixture
def peer(broker: TidemillBroker) -> Iterator[socket.socket]:
    with connected(broker) as connection:
        yield connection


@pytest.fixture
def bystander(broker: TidemillBroker) -> Iterator[socket.socket]:
    """A connection that does nothing wrong; it works before and after whatever the peer does."""
    with connected(broker) as connection:
        assert answers(connection)
        yield connection
        assert answers(connection)


def connected(broker: TidemillBroker) -> socket.socket:
    return socket.create_connection(("127.0.0.1", broker.port), timeout=5)


def sized(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def receive(connection: socket.socket) -> bytes:
    """One whole frame with its length, or b"" if the broker has closed the connection."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        wanted = 4 if len(data) < 4 else 4 + int.from_bytes(data[:4], "big")
        try:
            part = connection.recv(wanted - len(data))
        except ConnectionResetError:  # it closed with bytes of ours unread
            return b""
        if not part:
            return b""
        data += part
    return data


def ask(connection: socket.socket, frame: bytes) -> bytes:
    connection.sendall(sized(frame))
    return receive(connection)


def api_versions(version: int, correlation_id: int = 7) -> bytes:
    software = {"client_software_name": "test", "client_software_version": "1"} if version >= 3 else {}
    return request_frame(request(API_VERSIONS, version, **software), correlation_id=correlation_id)


def answers(connection: socket.socket) -> bool:
    reply = read_response(API_VERSIONS, 3, ask(connection, api_versions(3)))
    return reply.error_code is ErrorCode.none


def header(key: int, version: int) -> bytes:
    return struct.pack(">hhih", key, version, 7, -1)


MALFORMED = {
    "a frame of a negative length": (struct.pack(">i", -1), "a frame of -1 bytes"),
    "a frame that is too long": (struct.pack(">i", FRAME_BYTES_MAX + 1), "a frame of 1048577 bytes"),
    "something that is no Kafka at all": (b"GET / HTTP/1.1\r\n\r\n", "a frame of 1195725856 bytes"),
    "an empty frame": (sized(b""), "shorter than its header"),
    "half a header": (sized(b"\0\3\0"), "shorter than its header"),
    "a client id beyond the frame": (
        sized(struct.pack(">hhih", METADATA, 1, 7, 99)),
        "goes beyond the frame",
    ),
    "a client id that is no text": (sized(struct.pack(">hhih", METADATA, 1, 7, 1) + b"\xff"), "not UTF-8"),
    "tagged fields that are cut off": (sized(header(METADATA, 9)), "cut off"),
    "a key that nobody knows": (sized(header(999, 0)), "unknown API key 999"),
    "a key of the brokers among themselves": (sized(header(4, 0)), "unknown API key 4"),
    "a negative key": (sized(header(-1, 0)), "unknown API key -1"),
    "a version of the future": (sized(header(METADATA, 99) + b"\0"), "Metadata has no version 99"),
    "Produce of the future": (sized(header(PRODUCE, 99) + b"\0"), "Produce version 99 is not served"),
    "Produce of a past that is only told": (sized(header(PRODUCE, 2)), "Produce version 2 is not served"),
    "a body that is cut off": (sized(header(METADATA, 4) + b"\0\0"), "malformed frame"),
    "an array of two thousand million": (sized(header(METADATA, 4) + b"\x7f\xff\xff\xff"), "goes beyond"),
    "a compact array of four thousand million": (
        sized(header(15, 6) + b"\0" + b"\xff\xff\xff\xff\x0f"),
        "goes beyond the frame",
    ),
    "a group request that is cut off": (sized(header(JOIN_GROUP, 5) + b"\0\1g"), "malformed frame"),
    "a Produce that is cut off": (sized(header(PRODUCE, 8) + b"\xff\xff\0"), "malformed frame"),
    "a Fetch that is cut off": (sized(header(FETCH, 11) + b"\xff\xff\xff\xff"), "malformed frame"),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_frame_ends_its_connection_with_one_line_and_no_other(
    broker: TidemillBroker, peer: socket.socket, bystander: socket.socket, fault: str
) -> None:
    frame, words = MALFORMED[fault]
    name = f"{peer.getsockname()[0]}:{peer.getsockname()[1]}"
    peer.sendall(frame)
    assert receive(peer) == b""
    lines = [line for line in log_lines_about(broker, name) if "closing connection" in line]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in broker.log
    assert bystander.fileno() > 0


def log_lines_about(broker: TidemillBroker, peer: str) -> list[str]:
    return wait_until(
        lambda: [line for line in broker.log.splitlines() if f"peer={peer} " in line],
        what=f"a line about {peer}",
    )


def test_api_versions_of_the_future_gets_a_body_it_can_read_and_the_connection_stays(
    peer: socket.socket,
) -> None:
    for version in (100, 5):
        reply = read_response(API_VERSIONS, 0, ask(peer, header(API_VERSIONS, version) + b"\0"))
        assert reply.error_code is ErrorCode.unsupported_version
        assert [(each.api_key, each.min_version, each.max_version) for each in reply.api_keys] == [(18, 0, 4)]
    assert answers(peer)


def test_produce_is_advertised_from_version_0(peer: socket.socket) -> None:
    """KAFKA-18659: librdkafka chooses its message format and codecs by that range."""
    reply = read_response(API_VERSIONS, 3, ask(peer, api_versions(3)))
    ranges = {each.api_key: (each.min_version, each.max_version) for each in reply.api_keys}
    assert ranges[PRODUCE] == (0, 13)


def test_requests_that_come_together_are_answered_in_their_order(peer: socket.socket) -> None:
    """The third waits for records; those behind it wait for it."""
    wait_ms = 50
    fetch = struct.pack(">hhih", FETCH, 4, 3, -1) + struct.pack(">iiiib", -1, wait_ms, 1, 1 << 20, 0)
    fetch += struct.pack(">ih", 1, 5) + b"there" + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
    there = request_frame(request(METADATA, 1, topics=[{"name": "there"}]), correlation_id=1)
    frames = [there, api_versions(3, 2), fetch, api_versions(3, 4), api_versions(0, 5)]
    peer.sendall(b"".join(sized(frame) for frame in frames))
    assert [int.from_bytes(receive(peer)[4:8], "big") for _ in frames] == [1, 2, 3, 4, 5]


def test_a_frame_that_comes_byte_by_byte_is_answered(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in sized(api_versions(3)):
        peer.sendall(bytes((byte,)))
    assert read_response(API_VERSIONS, 3, receive(peer)).error_code is ErrorCode.none


def test_what_came_whole_before_a_malformed_frame_is_answered(peer: socket.socket) -> None:
    peer.sendall(sized(api_versions(3)) + sized(header(999, 0)))
    assert read_response(API_VERSIONS, 3, receive(peer)).error_code is ErrorCode.none
    assert receive(peer) == b""
