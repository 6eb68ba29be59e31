"""The one owner of topics and partitions: names, ids, configs, and where their data lies.

A topic is a small JSON file below `topics/`, written whole, flushed and renamed; a partition is a folder
`<topic>-<partition>` as Kafka names it. The file decides: a folder without one is left of a deleted topic.
Called on the event loop, except `housekeep` and `close`, which may run in a thread.

See docs/decisions/0101.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from tidemill_broker._core import (
    AllowedTopics,
    LogConfig,
    LogTable,
    PartitionLog,
    Undecided,
    UnfinishedProduce,
)
from tidemill_broker._core import WaitingFetch as WaitingFetch  # noqa: PLC0414 - apis.fetch takes it from here
from tidemill_broker.durable_files import sync_directory
from tidemill_broker.log import configs as topic_configs
from tidemill_broker.log.authorized import Decisions, NativeSteps, TopicAuthorizer, all_steps
from tidemill_broker.log.damage import report_recovery
from tidemill_broker.log.errors import (
    InvalidPartitions,
    InvalidTopicName,
    TopicBusy,
    TopicExists,
    UnknownTopic,
)
from tidemill_broker.log.faults import Faults
from tidemill_broker.log.flusher import Flusher
from tidemill_broker.log.folders import Folders, base64_of
from tidemill_broker.log.growth import Growth
from tidemill_broker.log.partition import Partition
from tidemill_broker.log.partition_limits import check_count, check_room, raise_file_limit
from tidemill_broker.log.topic_files import TopicContent, TopicFiles
from tidemill_broker.log.upkeep import Upkeep

logger = logging.getLogger(__name__)

# Kafka's fetch.max.bytes.
FETCH_BYTES_MAX: Final = 55 * 1024 * 1024
# Topics of one request that are decided about before others have their turn.
DECIDED_AT_ONCE_MAX: Final = 500
Produced = tuple[bytes | None, bool, asyncio.Future[bytes | None] | None]
_Done = tuple[bytes | None, bool, list[int], list[int], str | None, list[int]]
_Answer = _Done | Undecided | UnfinishedProduce
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(slots=True, eq=False)
class Topic:
    """A topic; `configs` holds the overrides only. Only Topics changes it."""

    name: str
    topic_id: UUID
    replication_factor: int = 1
    internal: bool = False
    configs: Mapping[str, str] = field(default_factory=dict)
    partitions: Sequence[Partition] = ()


class Topics:
    """All topics of the broker, by name and by id."""

    def __init__(
        self, directory: Path, broker_settings: Mapping[str, object], *, clock_ms: Callable[[], int]
    ) -> None:
        """Open what is there; `broker_settings` (Kafka's names) give the defaults of topic configs."""
        raise_file_limit()
        self.directory = directory
        self.growth = Growth()
        self._table = LogTable(int(str(broker_settings.get("fetch.max.bytes") or FETCH_BYTES_MAX)))
        self._flusher = Flusher(self.growth)
        self._faults = Faults()
        self._logs: dict[int, PartitionLog] = {}
        self._settings = broker_settings
        self._clock_ms = clock_ms
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}
        self._changing: dict[str, int] = {}  # topics that are changed in turns, and partitions that they get
        self._uncompacted: set[UUID] = set()  # topics of which the log says so
        self._upkeep = Upkeep(clock_ms)
        self._files = TopicFiles(directory / "topics")
        self._folders = Folders(directory)
        self._folders.clear_discarded()
        for content in self._files.read_all():
            self._load(content)

    def get(self, name: str) -> Topic | None:
        """Return the topic of that name."""
        return self._topics.get(name)

    def by_id(self, topic_id: UUID) -> Topic | None:
        """Return the topic with that id."""
        return self._by_id.get(topic_id)

    def all(self) -> Sequence[Topic]:
        """Return every topic, by name."""
        return [self._topics[name] for name in sorted(self._topics)]

    def create(
        self,
        name: str,
        *,
        partitions: int,
        replication_factor: int = 1,
        configs: Mapping[str, str] | None = None,
        internal: bool = False,
    ) -> Topic:
        """Create a topic, durably. Raises TopicExists, InvalidTopicName, InvalidPartitions, InvalidConfig."""
        return all_steps(
            self.create_in_turns(
                name,
                partitions=partitions,
                replication_factor=replication_factor,
                configs=configs,
                internal=internal,
            )
        )

    def create_in_turns(
        self,
        name: str,
        *,
        partitions: int,
        replication_factor: int = 1,
        configs: Mapping[str, str] | None = None,
        internal: bool = False,
    ) -> Generator[None, None, Topic]:
        """Do what `create` does, and yield between partitions; nobody sees the topic before it is whole."""
        self.check_create(name, partitions=partitions, configs=configs, internal=internal)
        topic = Topic(name, _new_topic_id(), replication_factor, internal, dict(configs or {}))
        with self._changing_alone(name, partitions):
            self._save(topic, partitions)
            try:
                yield from self._open(topic, partitions, new=True)
            except (OSError, GeneratorExit):  # who asked for it is gone
                self._take_back(topic, partitions)
                raise
        return topic

    def check_create(
        self,
        name: str,
        *,
        partitions: int,
        configs: Mapping[str, str] | None = None,
        internal: bool = False,
    ) -> None:
        """Raise what `create` would raise, and change nothing (validate_only)."""
        validate_topic_name(name)
        if name in self._topics or name in self._changing:
            raise TopicExists(f"Topic '{name}' already exists.")
        if name in self._files.damaged:
            raise TopicExists(
                f"Topic '{name}' already exists, but its file {self._files.damaged[name]} is damaged."
            )
        check_count(partitions)
        if not internal:
            self._check_room(partitions)
        topic_configs.validate(configs or {})

    def delete(self, name: str) -> None:
        """Delete a topic and its data, durably, and wake waiting fetches. Raises UnknownTopic, TopicBusy."""
        all_steps(self.delete_in_turns(name))

    def delete_in_turns(self, name: str) -> Generator[None, None, None]:
        """Do what `delete` does: at once for everybody, but for the folders, between which it yields."""
        topic = self._unchanging(name)
        self._files.remove(name)
        self._table.remove(name)
        del self._topics[name]
        del self._by_id[topic.topic_id]
        self._uncompacted.discard(topic.topic_id)
        for partition in topic.partitions:
            partition.log.abandon()
            del self._logs[partition.handle]
        self.growth.grew([partition.handle for partition in topic.partitions])
        with self._changing_alone(name):
            for partition in topic.partitions:
                self._folders.discard(self._folders.of(name, partition.index))
                yield

    def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to `total`. Raises UnknownTopic, InvalidPartitions, TopicBusy."""
        all_steps(self.add_partitions_in_turns(name, total))

    def add_partitions_in_turns(self, name: str, total: int) -> Generator[None, None, None]:
        """Do what `add_partitions` does, and yield between partitions; all of them are seen at once."""
        topic = self._unchanging(name)
        self.check_add_partitions(name, total)
        with self._changing_alone(name, total - len(topic.partitions)):
            self._save(topic, total)
            yield from self._open(topic, total, new=True)

    def check_add_partitions(self, name: str, total: int) -> None:
        """Raise what `add_partitions` would raise, and change nothing."""
        present = len(self._known(name).partitions)
        if total <= present:
            raise InvalidPartitions(
                f"The topic {name} currently has {present} partition(s); {total} would not be an increase."
            )
        check_count(total)
        self._check_room(total - present)

    def _check_room(self, more: int) -> None:
        check_room(len(self._logs) + sum(self._changing.values()), more)

    def set_configs(self, name: str, configs: Mapping[str, str]) -> None:
        """Replace the topic's overrides; they hold at once. Raises UnknownTopic, InvalidConfig, TopicBusy."""
        topic = self._unchanging(name)
        topic_configs.validate(configs)
        topic.configs = dict(configs)
        self._save(topic, len(topic.partitions))
        config = topic_configs.log_config(topic.configs, self._settings, internal=topic.internal)
        for partition in topic.partitions:
            partition.configure(config)
        self._warn_of_compaction(topic)

    def produce(
        self, frame: memoryview, now_ms: int, allowed: AllowedTopics, authorizer: TopicAuthorizer
    ) -> Produced:
        """Do all of `begin_produce` at once."""
        begun = self.begin_produce(frame, now_ms, allowed, authorizer)
        return begun if isinstance(begun, tuple) else all_steps(begun)

    def begin_produce(
        self, frame: memoryview, now_ms: int, allowed: AllowedTopics, authorizer: TopicAuthorizer
    ) -> Produced | NativeSteps[Produced]:
        """Append what a Produce request (v3-v13, without its length) holds.

        `allowed` holds the topics that may be written to, `authorizer` decides about any other.
        Returns (response frame, or None for acks=0; whether a partition failed; the response as a future
        where an fsync must come first), or steps to it where that is work for several turns. Raises
        MalformedFrame, and then nothing is appended.
        """
        answer = self._table.produce(frame, now_ms, allowed)
        if type(answer) is tuple:  # the usual one, at the least cost
            reply, failed, grew, unflushed, fault, rolled = answer
            if fault is None and not unflushed and not rolled:
                if grew:
                    self.growth.grew_soon(grew)
                return reply, failed, None
            return self._produced(answer)
        decisions = Decisions(authorizer, authorizer.may_write)
        while isinstance(answer, Undecided):
            if len(answer.topics) > DECIDED_AT_ONCE_MAX:
                return self._produce_in_turns(bytes(frame), now_ms, allowed, decisions, answer)
            answer = self._table.produce(frame, now_ms, allowed, decisions.about(answer))
        if isinstance(answer, UnfinishedProduce):
            return self._go_on(answer)
        return self._produced(answer)

    def _produce_in_turns(
        self, frame: bytes, now_ms: int, allowed: AllowedTopics, decisions: Decisions, undecided: Undecided
    ) -> NativeSteps[Produced]:
        answer: _Answer = undecided
        while isinstance(answer, Undecided):
            decided = yield from decisions.about_in_turns(answer)
            answer = self._table.produce(frame, now_ms, allowed, decided)
        if isinstance(answer, UnfinishedProduce):
            return (yield from self._go_on(answer))
        return self._produced(answer)

    def _go_on(self, unfinished: UnfinishedProduce) -> NativeSteps[Produced]:
        while True:
            answer = yield lambda: unfinished.go_on(self._clock_ms())
            if answer is not None:
                return self._produced(answer)

    def _produced(self, answer: _Done) -> Produced:
        reply, failed, grew, unflushed, fault, rolled = answer
        for each in rolled:
            log = self._logs.get(each)
            if log is not None:  # else it was deleted
                self._upkeep.checkpoint(log)
        if fault is not None:
            self._faults.tell(fault)
        if grew:
            self.growth.grew_soon(grew)
        if not unflushed:
            return reply, failed, None
        # Of a Produce in turns, a partition may have been deleted since it was appended to.
        logs = [(each, log) for each in unflushed if (log := self._logs.get(each)) is not None]
        return reply, failed, self._flusher.after(logs, reply)

    def fetch(
        self, frame: memoryview, allowed: AllowedTopics, authorizer: TopicAuthorizer
    ) -> memoryview | WaitingFetch:
        """Do all of `begin_fetch` at once."""
        begun = self.begin_fetch(frame, allowed, authorizer)
        return begun if isinstance(begun, memoryview | WaitingFetch) else all_steps(begun)

    def begin_fetch(
        self, frame: memoryview, allowed: AllowedTopics, authorizer: TopicAuthorizer
    ) -> memoryview | WaitingFetch | Generator[None, None, memoryview | WaitingFetch]:
        """Answer a Fetch request (v4-v18, without its length), or say that its min_bytes are not there yet.

        `allowed` holds the topics that may be read, `authorizer` decides about any other. The response has
        its length. Steps to it, where there is much to decide. Raises MalformedFrame, OSError.
        """
        answer = self._table.fetch(frame, allowed)
        if not isinstance(answer, memoryview):
            decisions = Decisions(authorizer, authorizer.may_read)
            while isinstance(answer, Undecided):
                if len(answer.topics) > DECIDED_AT_ONCE_MAX:
                    return self._fetch_in_turns(bytes(frame), allowed, decisions, answer)
                answer = self._table.fetch(frame, allowed, decisions.about(answer))
        self._repair_unreadable()
        return answer

    def _fetch_in_turns(
        self, frame: bytes, allowed: AllowedTopics, decisions: Decisions, undecided: Undecided
    ) -> Generator[None, None, memoryview | WaitingFetch]:
        answer: memoryview | WaitingFetch | Undecided = undecided
        while isinstance(answer, Undecided):
            decided = yield from decisions.about_in_turns(answer)
            answer = self._table.fetch(frame, allowed, decided)
        return answer

    def _repair_unreadable(self) -> None:
        for handle, fault in self._table.unreadable():
            log = self._logs.get(handle)
            if log is not None:  # else it was deleted
                self._upkeep.repair(log, fault)

    def housekeep(self, now_ms: int) -> int:
        """One pass of retention and of checkpoints over all partitions; how many segments were deleted.

        Safe in a thread beside the event loop. A partition whose disk fails is logged and left alone.
        """
        deleted = 0
        for topic in list(self._topics.values()):
            for partition in topic.partitions:
                try:
                    deleted += partition.log.retain(now_ms)
                    partition.log.checkpoint()
                except OSError:
                    # A topic that is deleted meanwhile takes its folder away; that is no fault.
                    if self._topics.get(topic.name) is topic:
                        logger.exception(
                            "housekeeping failed topic=%s partition=%d", topic.name, partition.index
                        )
        return deleted

    def close(self) -> None:
        """Flush and checkpoint every partition; nothing can be appended afterwards."""
        self._flusher.close()
        self._upkeep.close()
        for topic in self._topics.values():
            for partition in topic.partitions:
                partition.log.close()
        self._folders.close()

    def _known(self, name: str) -> Topic:
        topic = self._topics.get(name)
        if topic is None:
            raise UnknownTopic(f"There is no topic '{name}'.")
        return topic

    def _unchanging(self, name: str) -> Topic:
        if name in self._changing:
            raise TopicBusy(f"Another request changes the topic '{name}'.")
        return self._known(name)

    @contextlib.contextmanager
    def _changing_alone(self, name: str, more_partitions: int = 0) -> Iterator[None]:
        """Keep others from a topic that is made, widened or deleted in turns."""
        self._changing[name] = more_partitions
        try:
            yield
        finally:
            del self._changing[name]

    def _open(self, topic: Topic, total: int, *, new: bool) -> Generator[None, None, None]:
        """Open the partitions that are not open yet, and make them all known, or raise OSError and none."""
        config = topic_configs.log_config(topic.configs, self._settings, internal=topic.internal)
        partitions = list(topic.partitions)
        missing = range(len(partitions), total)
        folders = [self._folders.of(topic.name, index) for index in missing]
        made = False
        for folder in folders:
            made |= self._folders.claim(folder, topic.topic_id, new=new)
            yield
        if made:
            # One flush of the parent covers them all.
            sync_directory(self.directory)
        logs = []
        for folder in folders:
            logs.append(_open_log(folder, config, self._clock_ms()))
            yield
        for index, folder, log in zip(missing, folders, logs, strict=True):
            report_recovery(folder.name, log)
            handle = self._table.add(topic.name, topic.topic_id.bytes, index, log)
            self._logs[handle] = log
            partitions.append(Partition(index, handle, log, self.growth, self._clock_ms))
        topic.partitions = tuple(partitions)
        self._topics[topic.name] = topic
        self._by_id[topic.topic_id] = topic
        self._warn_of_compaction(topic)

    def _warn_of_compaction(self, topic: Topic) -> None:
        """Say once a topic that its cleanup.policy is accepted and not done (docs/protocol.md)."""
        policy = topic_configs.effective(topic.configs, self._settings)["cleanup.policy"]
        if "compact" in policy and not topic.internal and topic.topic_id not in self._uncompacted:
            self._uncompacted.add(topic.topic_id)
            logger.warning(
                "compaction is not done, old records of a key are kept topic=%s cleanup_policy=%s",
                topic.name,
                policy,
            )

    def _take_back(self, topic: Topic, partitions: int) -> None:
        """Undo a topic that could not be made (a full disk): no restart may find what got an error."""
        with contextlib.suppress(OSError):
            self._files.take_back(topic.name)
            for index in range(partitions):
                folder = self._folders.of(topic.name, index)
                if folder.exists():
                    self._folders.discard(folder)
            self._files.sync()

    def _save(self, topic: Topic, partitions: int) -> None:
        self._files.save(
            TopicContent(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=partitions,
                replication_factor=topic.replication_factor,
                internal=topic.internal,
                configs=topic.configs,
            )
        )

    def _load(self, content: TopicContent) -> None:
        topic = Topic(
            content.name, content.topic_id, content.replication_factor, content.internal, content.configs
        )
        all_steps(self._open(topic, content.partitions, new=False))


def validate_topic_name(name: str) -> None:
    """Check a name by Kafka's rules (org.apache.kafka.common.internals.Topic). Raises InvalidTopicName."""
    if name in {".", ".."} or not _NAME.fullmatch(name):
        raise InvalidTopicName(
            f"Topic name '{name[:300]}' is invalid: use 1 to 249 of a-z A-Z 0-9 . _ -, not '.' or '..'."
        )


def _new_topic_id() -> UUID:
    while True:
        topic_id = uuid4()
        # Kafka avoids ids whose base64 form looks like an option (Uuid.randomUuid).
        if not base64_of(topic_id).startswith("-"):
            return topic_id


def _open_log(folder: Path, config: LogConfig, now_ms: int) -> PartitionLog:
    try:
        return PartitionLog(str(folder), config, now_ms)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror or str(fault), str(folder)) from fault
