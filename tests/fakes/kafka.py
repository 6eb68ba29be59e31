"""A Kafka cluster in memory, as far as a group of pollers sees it: a log per partition, and one eager group.

Keeps to what the real one does where delivery hangs on it: offsets are fenced by generation, every member is
revoked before anyone is assigned, a killed member's partitions come back after the session timeout. The same
contract suite runs against it and against a real cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tests.fakes.poller import TOPIC, FakeRecord, poller_reporter, telemetry, until
from tests.fakes.virtual_time import now_ms
from tidemill_poller.errors import AccessDenied, SourceUnavailable
from tidemill_poller.event import Record, UndeliverableRecord
from tidemill_poller.lane import LaneDependencies
from tidemill_poller.mapping import StartingPosition
from tidemill_poller.offsets import CommitPoint
from tidemill_poller.reporting import Telemetry
from tidemill_poller.reporting.status import MappingStatus, PollerStatus
from tidemill_poller.source import Source, SourceDependencies
from tidemill_poller.source.client import Listener, OffsetsOutOfRange

SESSION_TIMEOUT_S = 10.0
POLL_RECORDS_MAX = 50


@dataclass
class FakeKafka:
    """One topic and one group."""

    partition_count: int = 1
    logs: dict[int, list[FakeRecord]] = field(default_factory=dict)
    log_starts: dict[int, int] = field(default_factory=dict)
    next_offsets: dict[int, int] = field(default_factory=dict)
    committed: dict[int, CommitPoint] = field(default_factory=dict)
    members: list[FakeGroupClient] = field(default_factory=list)
    generation: int = 0
    reachable: bool = True
    topic_id: str | None = None
    commits_denied: bool = False
    fault: SourceUnavailable | None = None  # what an own connection attempt would find
    unreadable: dict[int, int] = field(default_factory=dict)  # partition -> offset that cannot be decoded
    commit_log: list[tuple[str, dict[int, CommitPoint]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.appended = asyncio.Event()
        self.rebalancing = asyncio.Lock()
        for partition in range(self.partition_count):
            self._create(partition)

    def _create(self, partition: int) -> None:
        self.logs[partition], self.log_starts[partition], self.next_offsets[partition] = [], 0, 0

    def produce(self, partition: int, *values: bytes, key: bytes = b"k") -> list[int]:
        """Append records with the present time; their offsets."""
        offsets = []
        for value in values:
            offset = self.next_offsets[partition]
            self.next_offsets[partition] += 1
            self.logs[partition].append(
                FakeRecord(offset=offset, partition=partition, timestamp=now_ms(), key=key, value=value)
            )
            offsets.append(offset)
        self.appended.set()
        self.appended = asyncio.Event()
        return offsets

    def gap(self, partition: int, count: int) -> None:
        """Use up offsets as a transaction's markers do."""
        self.next_offsets[partition] += count

    def expire(self, partition: int, before: int) -> None:
        """Delete records as retention does."""
        self.log_starts[partition] = before
        self.logs[partition] = [record for record in self.logs[partition] if record.offset >= before]

    def recreate(self, partition: int) -> None:
        """Delete the topic and make it anew."""
        self._create(partition)

    async def add_partition(self) -> None:
        self._create(self.partition_count)
        self.partition_count += 1
        await self.rebalance()

    def client(self, name: str = "member") -> FakeGroupClient:
        return FakeGroupClient(self, name)

    async def rebalance(self) -> None:
        """Revoke from everyone, then assign ranges to the members in order of joining."""
        # A task of its own: whoever causes it may be killed meanwhile, the others go through with it.
        await asyncio.shield(asyncio.ensure_future(self._rebalance()))

    async def _rebalance(self) -> None:
        async with self.rebalancing:
            await asyncio.gather(*(member.revoke() for member in self.members))
            self.generation += 1
            for index, member in enumerate(self.members):
                share = range(index, self.partition_count, len(self.members))
                member.generation = self.generation
                member.assignment = set(share)
                member.positions = {}
            living = [member for member in self.members if not member.killed]
            await asyncio.gather(*(m.listener.on_assigned(sorted(m.assignment)) for m in living))

    def available(self) -> None:
        if not self.reachable:
            raise SourceUnavailable("Kafka at fake:9092: polling: connection refused")


class FakeGroupClient:
    """GroupClient: one member of the fake's group."""

    def __init__(self, kafka: FakeKafka, name: str) -> None:
        self.kafka = kafka
        self.name = name
        self.assignment: set[int] = set()
        self.positions: dict[int, int] = {}
        self.generation = -1
        self.killed = False
        self.listener: Listener

    async def start(self, listener: Listener) -> None:
        await asyncio.sleep(0.01)
        self.kafka.available()
        self.listener = listener
        self.kafka.members.append(self)
        await self.kafka.rebalance()

    async def revoke(self) -> None:
        if self.assignment and not self.killed:
            await self.listener.on_revoked()
        self.assignment, self.positions = set(), {}

    async def poll(self, partitions: Collection[int], *, timeout_s: float) -> Mapping[int, list[Record]]:
        appended = self.kafka.appended
        polled = self._read(partitions)
        if not polled:
            try:
                async with asyncio.timeout(timeout_s):
                    await appended.wait()
            except TimeoutError:
                return {}
            polled = self._read(partitions)
        return polled

    def _read(self, partitions: Collection[int]) -> dict[int, list[Record]]:
        if not self.kafka.reachable:
            return {}  # aiokafka goes on trying, and says nothing
        polled: dict[int, list[Record]] = {}
        room = POLL_RECORDS_MAX
        for partition in partitions:
            position = self.positions.get(partition)
            if position is None or room <= 0:
                continue
            end = self.kafka.next_offsets[partition]
            if not self.kafka.log_starts[partition] <= position <= end:
                raise OffsetsOutOfRange({partition: position})
            found = [record for record in self.kafka.logs[partition] if record.offset >= position][:room]
            bad = self.kafka.unreadable.get(partition)
            if found:
                polled[partition] = [unreadable(r) if r.offset == bad else r for r in found]
                room -= len(found)
        self.positions |= {p: records[-1].offset + 1 for p, records in polled.items()}
        return polled

    async def commit(self, points: Mapping[int, CommitPoint]) -> None:
        generation = self.generation
        await asyncio.sleep(0.002)
        self.kafka.available()
        if self.kafka.commits_denied:
            raise AccessDenied("GroupAuthorizationFailedError")
        if self.killed or self not in self.kafka.members or generation != self.kafka.generation:
            raise SourceUnavailable("CommitFailedError: the group has rebalanced")
        self.kafka.committed |= points
        self.kafka.commit_log.append((self.name, dict(points)))

    async def committed(self) -> Mapping[int, CommitPoint]:
        await asyncio.sleep(0.002)
        self.kafka.available()
        return dict(self.kafka.committed)

    def partitions(self) -> Collection[int]:
        return range(self.kafka.partition_count)

    def seek(self, partition: int, offset: int) -> None:
        if partition in self.assignment:
            self.positions[partition] = offset

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
        await asyncio.sleep(0.002)
        self.kafka.available()
        return {p: (self.kafka.log_starts[p], self.kafka.next_offsets[p]) for p in partitions}

    async def at_time(self, partitions: Collection[int], timestamp_ms: int) -> Mapping[int, int | None]:
        await asyncio.sleep(0.002)
        self.kafka.available()
        return {
            p: next((r.offset for r in self.kafka.logs[p] if r.timestamp >= timestamp_ms), None)
            for p in partitions
        }

    async def topic_id(self) -> str | None:
        self.kafka.available()
        return self.kafka.topic_id

    async def diagnosis(self) -> SourceUnavailable | None:
        return self.kafka.fault

    async def stop(self) -> None:
        if self in self.kafka.members and not self.killed:
            self.kafka.members.remove(self)
            self.assignment = set()
            if self.kafka.members:
                await self.kafka.rebalance()

    async def die(self) -> None:
        """As after kill -9: no callback runs, and the group notices when the session has expired."""
        self.killed = True
        if self in self.kafka.members:
            await asyncio.sleep(SESSION_TIMEOUT_S)
            self.kafka.members.remove(self)
            await self.kafka.rebalance()


def unreadable(record: FakeRecord) -> UndeliverableRecord:
    """What stands for a record that cannot be decoded."""
    return UndeliverableRecord(
        topic=TOPIC,
        partition=record.partition,
        offset=record.offset,
        last_offset=record.offset,
        timestamp=record.timestamp,
        condition="RecordUnreadable",
        error="ValueError: 99 headers",
        size_bytes=len(record.value or b""),
        raw=record.value or b"",
    )


@dataclass
class RunningPoller:
    """A source on the fake cluster, in a task of its own."""

    source: Source
    client: FakeGroupClient
    status: PollerStatus
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Drain and leave, as at SIGTERM."""
        self.source.stop()
        await self.task

    async def kill(self) -> None:
        """End it where it stands; returns when its session has expired."""
        self.client.killed = True
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.client.die()


@dataclass
class PollerWorld:
    """A cluster, a mapping's rules, and any number of pollers."""

    kafka: FakeKafka
    lanes: LaneDependencies
    starting_position: StartingPosition = StartingPosition.TRIM_HORIZON
    starting_timestamp_ms: int | None = None
    drain_timeout_s: float = 30.0
    commit_interval_s: float = 0.2
    board: MappingStatus = field(default_factory=MappingStatus)
    telemetry: Telemetry = field(default_factory=telemetry)
    pollers: list[RunningPoller] = field(default_factory=list)  # all that were ever started

    def start(self) -> RunningPoller:
        """Start a poller; it joins by itself."""
        number = len(self.pollers)
        client = self.kafka.client(f"poller-{number}")
        status = PollerStatus(number=number)
        setup = SourceDependencies(
            topic=TOPIC,
            starting_position=self.starting_position,
            starting_timestamp_ms=self.starting_timestamp_ms,
            commit_interval_s=self.commit_interval_s,
            drain_timeout_s=self.drain_timeout_s,
            lanes=self.lanes,
        )
        reporter = poller_reporter(self.telemetry, board=self.board, status=status)
        source = Source(setup, client, reporter=reporter, on_joined=lambda: None)
        task = asyncio.get_running_loop().create_task(source.run())
        self.pollers.append(RunningPoller(source, client, status, task))
        return self.pollers[-1]

    def at(self, partition: int = 0) -> int:
        """The committed offset; -1 before the first commit."""
        point = self.kafka.committed.get(partition)
        return -1 if point is None else point.offset

    async def caught_up(self, *pollers: RunningPoller, within_s: float = 600) -> None:
        """Wait until everything that was produced is committed."""
        ends = self.kafka.next_offsets
        await until(
            lambda: all(self.at(p) == end for p, end in ends.items()),
            within_s=within_s,
            tasks=[poller.task for poller in pollers],
        )
