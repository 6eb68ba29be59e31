"""What authorization costs on the produce and fetch path: a user whom 1,000 ACLs restrict, beside none.

One broker, one connection; the ACLs are made and deleted between the passes, and every pass measures both.
The smallest requests there are show the cost at its largest; those of a megabyte show what a user pays.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, made elsewhere
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.benchmarks.broker import QUICK, Bench, Figures, Load, fetch
from tests.benchmarks.report import Row
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.record_batches import Record, batch
from tests.harness.tidemill_broker import TidemillBroker

ACLS = 1_000
PASSES, SMALL_PASSES, REPEATS = 5, 12, 8
LOAD = Load(records=65_536, small_requests=2_000, touched_mib=300)
AT_ONCE = 32
USER = "User:ANONYMOUS"
NONE, RESTRICTED = "none", "restricted"
PRODUCE, FETCH = (0, 8), (1, 11)
EVERYTHING = AclBindingFilter(
    ResourceType.ANY,
    None,  # type: ignore[arg-type]  # any name, as confluent-kafka documents it
    ResourcePatternType.ANY,
    None,  # type: ignore[arg-type]  # any principal
    None,  # type: ignore[arg-type]  # any host
    AclOperation.ANY,
    AclPermissionType.ANY,
)
# Figure, what, unit, aim: at most so many times what it is without ACLs.
ROWS = (
    ("produce", "under 1,000 ACLs, produce, 1 KiB, acks=all: broker CPU", "s per 512 MiB", None),
    ("fetch", "under 1,000 ACLs, fetch: broker CPU", "s per 512 MiB", None),
    ("small produce", "under 1,000 ACLs, one record a Produce: broker CPU", "s per million", 1.02),
    ("small fetch", "under 1,000 ACLs, one record a Fetch: broker CPU", "s per million", 1.02),
)

AllFigures = dict[str, list[float]]


def run(folder: Path, certificates: Path, *, quick: bool) -> list[Row]:
    """Measure, alternating which of the two comes first."""
    flags = ("--listener=plaintext=0", "--listener=tls=0", f"--tls-dir={certificates}")
    broker = TidemillBroker(data_dir=folder, flags=flags, settings={"super.users": "User:CN=client"}).start()
    try:
        world = _World(broker, certificates, QUICK if quick else LOAD)
        passes, small_passes = (1, 1) if quick else (PASSES, SMALL_PASSES)
        world.move()  # what is done for the first time costs more
        for number in range(passes):
            world.measure(world.move, number)
        with world.bench.topic() as topic, world.connect() as connection:
            world.ask_little(connection, topic)
            for number in range(small_passes):
                world.measure(lambda: world.ask_little(connection, topic), number, REPEATS)
    finally:
        broker.stop()
    return [_row(name, what, unit, aim, world.figures) for name, what, unit, aim in ROWS]


class _World:
    """The broker, its administrator, who comes by `tls`, and everybody else, who comes by `plaintext`."""

    def __init__(self, broker: TidemillBroker, certificates: Path, load: Load) -> None:
        own = str(certificates / "client.pem")
        self.figures: dict[str, AllFigures] = {NONE: {}, RESTRICTED: {}}
        self.bench = Bench(broker, load)
        self._load = load
        self._admin = AdminClient(
            {
                "bootstrap.servers": f"localhost:{broker.ready['listeners']['tls']}",
                "security.protocol": "SSL",
                "ssl.ca.location": str(certificates / "ca.pem"),
                "ssl.certificate.location": own,
                "ssl.key.location": own,
            }
        )

    def measure(self, step: Callable[[], Figures], number: int, repeats: int = 1) -> None:
        """Take one pass with ACLs and one without, of so many repeats each."""
        for state in (NONE, RESTRICTED) if number % 2 else (RESTRICTED, NONE):
            with self._acls() if state is RESTRICTED else nullcontext():
                for _ in range(repeats):
                    for name, figure in step().items():
                        self.figures[state].setdefault(name, []).append(figure)

    def move(self) -> Figures:
        """Produce and fetch by megabytes."""
        with self.bench.topic() as topic:
            produced = self.bench.produce(topic, self._load.records)
            fetched = fetch(self.bench, topic, self._load.records)
        return {"produce": produced.cpu_s, "fetch": fetched.cpu_s}

    def ask_little(self, connection: socket.socket, topic: str) -> Figures:
        """Produce and fetch one record of 100 bytes at a time."""
        return {
            "small produce": self._asked(connection, PRODUCE, _produce(topic)),
            "small fetch": self._asked(connection, FETCH, _fetch(topic)),
        }

    def _asked(self, connection: socket.socket, api: tuple[int, int], frame: bytes) -> float:
        """CPU seconds of the broker for a million requests."""
        _check(api, _replies(connection, frame, 1)[0])
        rounds = self._load.small_requests // AT_ONCE
        cpu_s = self.bench.cpu_s()
        for _ in range(rounds):
            replies = _replies(connection, frame, AT_ONCE)
        cpu_s = self.bench.cpu_s() - cpu_s
        _check(api, replies[-1])
        return cpu_s * 1_000_000 / (rounds * AT_ONCE)

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        host, _, port = self.bench.broker.bootstrap_servers.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection

    @contextmanager
    def _acls(self) -> Iterator[None]:
        """Let ANONYMOUS into topics and groups of these benchmarks, and name 998 other resources."""
        prefixed, literal = ResourcePatternType.PREFIXED, ResourcePatternType.LITERAL
        ours = [
            (ResourceType.TOPIC, "bench-", prefixed, USER),
            (ResourceType.GROUP, "bench", literal, USER),
        ]
        others = [
            (
                ResourceType.TOPIC,
                f"{'bench' if number % 2 else 'other'}-{number}-",
                prefixed if number % 4 else literal,
                f"User:{number}" if number % 10 else USER,
            )
            for number in range(1_000, 1_000 + ACLS - len(ours))
        ]
        rows = [
            AclBinding(kind, name, pattern, user, "*", AclOperation.ALL, AclPermissionType.ALLOW)
            for kind, name, pattern, user in (*ours, *others)
        ]
        for made in self._admin.create_acls(rows).values():
            made.result(30)
        try:
            yield
        finally:
            for deleted in self._admin.delete_acls([EVERYTHING]).values():
                assert len(deleted.result(30)) == ACLS


def _produce(topic: str) -> bytes:
    records = batch([Record(value=bytes(100), key=None)])
    data = [{"name": topic, "partition_data": [{"index": 0, "records": records}]}]
    return _framed(
        request(*PRODUCE, transactional_id=None, acks=-1, timeout=timedelta(seconds=30), topic_data=data)
    )


def _fetch(topic: str) -> bytes:
    partition = {"partition": 0, "current_leader_epoch": -1, "fetch_offset": 0, "partition_max_bytes": 200}
    data = [{"topic": topic, "partitions": [partition]}]
    return _framed(
        request(
            *FETCH,
            replica_id=-1,
            max_wait=timedelta(0),
            min_bytes=1,
            max_bytes=200,
            session_id=0,
            session_epoch=-1,
            topics=data,
        )
    )


def _framed(entity: object) -> bytes:
    frame = request_frame(entity)
    return struct.pack(">i", len(frame)) + frame


def _replies(connection: socket.socket, frame: bytes, count: int) -> list[bytes]:
    """Send one frame so many times in one go, and take what comes back."""
    connection.sendall(frame * count)
    received = bytearray()
    replies: list[bytes] = []
    while len(replies) < count:
        received += connection.recv(1 << 18)
        while len(received) >= 4 and len(received) >= (end := 4 + int.from_bytes(received[:4], "big")):
            replies.append(bytes(received[:end]))
            del received[:end]
    return replies


def _check(api: tuple[int, int], reply: bytes) -> None:
    """Fail the run if the broker did not do it."""
    answer = read_response(*api, reply)
    (topic,) = answer.responses
    (partition,) = topic.partition_responses if api is PRODUCE else topic.partitions
    assert not partition.error_code, partition
    assert api is PRODUCE or partition.records, partition


def _row(name: str, what: str, unit: str, aim: float | None, figures: dict[str, AllFigures]) -> Row:
    # The lowest of all repeats: whatever else a machine does adds to it, and 2 % is a fine measure.
    ours, peer = min(figures[RESTRICTED][name]), min(figures[NONE][name])
    return Row(
        what=what,
        unit=unit,
        ours=(ours, ours),
        peer=(peer, peer),
        peer_name="without ACLs",
        aim="" if aim is None else "at most 2 % more",
        aim_ratio=aim,
        higher_is_better=False,
    )
