"""One member of a consumer group, for one topic, on aiokafka; `connecting` is its only other importer.

Owns what has to be known of that client's calls: their options, their errors, and their traps:

- A partition is paused by not being polled: `pause()` would throw away what was fetched already.
- The rebalance timeout defaults to the session's, and JoinGroup obeys the request timeout: both are derived
  from the drain timeout here, since the revoke callback may take that long.
- `max_poll_interval_ms` is out of play: the source polls while functions run, and a partition that is not
  polled does not mean a dead member. Heartbeats come from a task of their own.
- With two assignors it sends two JoinGroups; the one here is Java's default.
- `commit()` retries for ever, and under whatever generation holds by then: callers bound it by a timeout.
- What it fetched is read by `fetched`, not by `getmany`: an exception there loses what others gave.
- It does not log in again (KIP-368): a broker ends the connection when the session has expired, and aiokafka
  connects anew and repeats what was under way. What a caller sees of it is at most a retriable error.

See docs/decisions/0601.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata

from tidemill_poller.batch import ByteBudget
from tidemill_poller.errors import AccessDenied, SourceUnavailable
from tidemill_poller.event import Record
from tidemill_poller.kafka_auth import ClientOptions
from tidemill_poller.offsets import CommitPoint
from tidemill_poller.source.connecting import (
    CLIENT_ERRORS,
    connection_options,
    diagnose,
    kind_of,
    never_create_topics,
    sentence,
)
from tidemill_poller.source.fetched import Fetches
from tidemill_poller.source.topic_ids import topic_id

logger = logging.getLogger(__name__)

_SESSION_TIMEOUT_MS: Final = 10_000  # how long a killed poller keeps its partitions from the next one
_HEARTBEAT_MS: Final = 1_000  # how long a rebalance goes unnoticed
_METADATA_MAX_AGE_MS: Final = 30_000  # how long a partition that was added stays unseen
_FETCH_BYTES_MAX: Final = 16 * 1024 * 1024
_PARTITION_FETCH_BYTES: Final = 1024 * 1024  # fetched ahead of the lane, per partition
_POLL_RECORDS_MAX: Final = 2_000  # decoded in one go: some milliseconds of the event loop
_NEVER_MS: Final = 2**31 - 1
_JOIN_LOOK_S: Final = 5.0  # a longer join: others drain, or the advertised brokers are out of reach
_CALL_TIMEOUT_S: Final = 5.0
_STOP_TIMEOUT_S: Final = 10.0


class OffsetsOutOfRange(SourceUnavailable):
    """Positions that the log does not have (any more)."""

    def __init__(self, positions: Mapping[int, int]) -> None:
        super().__init__(f"offsets out of range: {dict(positions)}")
        self.positions = positions


class Listener(Protocol):
    """Told of every rebalance, from within it: the group waits until a call returns."""

    async def on_revoked(self) -> None:
        """All partitions are being taken away (the protocol is the eager one)."""
        ...

    async def on_assigned(self, partitions: Collection[int]) -> None:
        """These partitions are ours now; nothing is polled before their positions are set by `seek`."""
        ...


class GroupClient(Protocol):
    """A member of a group. Partitions are those of its one topic; calls raise SourceUnavailable."""

    async def start(self, listener: Listener) -> None:
        """Join; returns once there is an assignment, though the listener may be at work on it still."""
        ...

    async def poll(self, partitions: Collection[int], *, timeout_s: float) -> Mapping[int, list[Record]]:
        """Return new records of these partitions, in offset order. Safe to cancel.

        What cannot be decoded is an UndeliverableRecord in its place. Raises OffsetsOutOfRange too; after it,
        seek every partition back.
        """
        ...

    async def commit(self, points: Mapping[int, CommitPoint]) -> None:
        """Commit; never later than some seconds after the call."""
        ...

    async def committed(self) -> Mapping[int, CommitPoint]:
        """Return the group's committed offsets for all partitions of the topic that have one."""
        ...

    def partitions(self) -> Collection[int]:
        """All partitions of the topic that are known."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Read on from here; what was fetched is forgotten."""
        ...

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
        """Return (log start, end) of partitions."""
        ...

    async def at_time(self, partitions: Collection[int], timestamp_ms: int) -> Mapping[int, int | None]:
        """Return the first offset whose record is not older than a time; None when all are."""
        ...

    async def topic_id(self) -> str | None:
        """Return the topic's id, which one that is made anew does not share; None where there is none."""
        ...

    async def diagnosis(self) -> SourceUnavailable | None:
        """Find by an own connection attempt why the cluster cannot be used; None when it can; bounded."""
        ...

    async def stop(self) -> None:
        """Leave the group and close; bounded, raises nothing."""
        ...


class KafkaGroupClient:
    """GroupClient on aiokafka."""

    def __init__(
        self,
        options: ClientOptions,
        *,
        topic: str,
        group: str,
        client_id: str,
        isolation_level: str,
        drain_timeout_s: float,
        budget: ByteBudget,
    ) -> None:
        self._topic = topic
        self._group = group
        self._options = options
        rebalance_ms = int(drain_timeout_s * 1000) + 15_000
        self._start_timeout_s = rebalance_ms / 1000 + 15.0
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=options.bootstrap_servers,
            **connection_options(options),
            group_id=group,
            client_id=client_id,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            max_poll_interval_ms=_NEVER_MS,
            rebalance_timeout_ms=rebalance_ms,
            request_timeout_ms=rebalance_ms + 10_000,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
            fetch_max_bytes=_FETCH_BYTES_MAX,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
        )
        self._fetches = Fetches(self._consumer, budget, read_committed=isolation_level == "read_committed")
        never_create_topics(self._consumer._client)  # noqa: SLF001 - aiokafka has no option for it

    async def start(self, listener: Listener) -> None:
        """See GroupClient."""
        self._consumer.subscribe([self._topic], listener=_Rebalances(listener, self._fetches.attach))
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._started()
        except CLIENT_ERRORS as error:
            if kind_of(error) is SourceUnavailable and (fault := await self.diagnosis()) is not None:
                raise fault from error
            step = f"joining the group for topic {self._topic}"
            if not self._brokers_named():
                step = "connecting"
            elif not self.partitions() and kind_of(error) is SourceUnavailable:
                step = f"looking up topic {self._topic}, which the cluster does not have"
            raise self._unavailable(step, error) from error

    async def _started(self) -> None:
        """Start, unless an attempt of our own shows that no broker can be used: aiokafka would not tell."""
        starting = asyncio.ensure_future(self._consumer.start())
        try:
            while not (await asyncio.wait([starting], timeout=_JOIN_LOOK_S))[0]:
                if (fault := await self.diagnosis()) is not None:
                    raise fault
            starting.result()
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    async def poll(self, partitions: Collection[int], *, timeout_s: float) -> Mapping[int, list[Record]]:
        """See GroupClient."""
        wanted = [TopicPartition(self._topic, partition) for partition in partitions]
        try:
            polled = await self._fetches.poll(wanted, timeout_s=timeout_s, records_max=_POLL_RECORDS_MAX)
        except NoOffsetForPartitionError:
            return {}  # just assigned: the listener is about to set the position
        except OffsetOutOfRangeError as error:
            raise OffsetsOutOfRange({tp.partition: at for tp, at in error.args[0].items()}) from error
        except KafkaError as error:
            raise self._unavailable("polling", error) from error
        return {tp.partition: records for tp, records in polled.items()}

    async def commit(self, points: Mapping[int, CommitPoint]) -> None:
        """See GroupClient."""
        offsets = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(point.offset, point.metadata)
            for partition, point in points.items()
        }
        await self._call("committing offsets", self._consumer.commit(offsets))

    async def committed(self) -> Mapping[int, CommitPoint]:
        """See GroupClient; the public call gives no metadata."""
        tps = [TopicPartition(self._topic, partition) for partition in self.partitions()]
        assert tps, "who was assigned partitions knows them"
        coordinator = self._consumer._coordinator  # noqa: SLF001 - see above; aiokafka's version is pinned
        found = await self._call("reading the group's offsets", coordinator.fetch_committed_offsets(tps))
        return {tp.partition: CommitPoint(at.offset, at.metadata or "") for tp, at in found.items()}

    def partitions(self) -> Collection[int]:
        """See GroupClient."""
        return self._consumer.partitions_for_topic(self._topic) or set()

    def seek(self, partition: int, offset: int) -> None:
        """See GroupClient."""
        with suppress(IllegalStateError):  # revoked meanwhile: the next assignment sets the position
            self._consumer.seek(TopicPartition(self._topic, partition), offset)

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
        """See GroupClient."""
        tps = [TopicPartition(self._topic, partition) for partition in partitions]
        starts = await self._call("listing offsets", self._consumer.beginning_offsets(tps))
        ends = await self._call("listing offsets", self._consumer.end_offsets(tps))
        return {tp.partition: (starts[tp], ends[tp]) for tp in tps}

    async def at_time(self, partitions: Collection[int], timestamp_ms: int) -> Mapping[int, int | None]:
        """See GroupClient."""
        times = {TopicPartition(self._topic, partition): timestamp_ms for partition in partitions}
        found = await self._call("listing offsets by time", self._consumer.offsets_for_times(times))
        return {tp.partition: at.offset if at else None for tp, at in found.items()}

    async def topic_id(self) -> str | None:
        """See GroupClient."""
        client = self._consumer._client  # noqa: SLF001 - aiokafka's version is pinned
        found: str | None = await self._call("looking up the topic's id", topic_id(client, self._topic))
        return found

    async def diagnosis(self) -> SourceUnavailable | None:
        """See GroupClient. Tries the brokers that the cluster names, or at first the given ones."""
        known = self._brokers_named()
        fault = await diagnose(self._options, known or self._options.bootstrap_servers.split(","))
        if fault is None:
            return None
        given = self._options.bootstrap_servers
        advertised = known and not set(known) & set(given.split(","))
        return type(fault)(f"Kafka at {given} advertises {fault}" if advertised else f"Kafka at {fault}")

    def _brokers_named(self) -> list[str]:
        """What the cluster said of itself; nothing before a first connection."""
        brokers = self._consumer._client.cluster.brokers()  # noqa: SLF001 - aiokafka's version is pinned
        return [f"{broker.host}:{broker.port}" for broker in brokers]

    async def stop(self) -> None:
        """See GroupClient. aiokafka waits for a join in progress, which may take as long as others drain."""
        self._fetches.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._consumer.stop()
        except (KafkaError, OSError, TimeoutError) as error:
            logger.warning("leaving the group failed topic=%s error=%s", self._topic, sentence(error))
            await self._consumer._client.close()  # noqa: SLF001 - stop() never came to it

    async def _call(self, step: str, call: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                return await call
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._unavailable(step, error) from error

    def _unavailable(self, step: str, error: BaseException) -> SourceUnavailable:
        kind = kind_of(error)
        text = f"Kafka at {self._options.bootstrap_servers}: {step}: {sentence(error)}"
        if kind is AccessDenied:
            # The rights that AWS names (with-kafka-troubleshoot), in the words of ACLs and of IAM.
            text += (
                f": let it Describe and Read topic {self._topic} and group {self._group} (IAM: kafka-cluster:"
                "DescribeTopic, ReadData, DescribeGroup, AlterGroup)"
            )
        return kind(text)


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no type information
    """Hands aiokafka's callbacks on; it would swallow what they raise."""

    def __init__(self, listener: Listener, on_assigning: Callable[[], None]) -> None:
        self._listener = listener
        self._on_assigning = on_assigning

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            await self._listener.on_revoked()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._on_assigning()
        await self._listener.on_assigned([tp.partition for tp in assigned])
