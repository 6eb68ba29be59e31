"""__consumer_offsets: where group records live. Made when first needed, read whole at start, kept small.

Instead of compacting in the background, the live state is written again behind the old records, which are
then cut off (docs/decisions/0301). Knows records and partitions; what the records mean is the coordinator's.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from tidemill_broker.coordinators.records import Record, UnreadableRecord, decode, encode
from tidemill_broker.groups.record_batch import Pair, UnreadableBatch, build_batch, read_batches
from tidemill_broker.log.errors import LogError
from tidemill_broker.log.partition import Partition
from tidemill_broker.log.topics import Topic, Topics

logger = logging.getLogger(__name__)

NAME = "__consumer_offsets"
# As Kafka makes it, but for small segments (only whole ones can be cut off) and room for a large group.
CONFIGS = {
    "cleanup.policy": "compact",
    "compression.type": "producer",
    "segment.bytes": str(1024 * 1024),
    "max.message.bytes": str(64 * 1024 * 1024),
}
READ_BYTES = 1024 * 1024
BATCH_BYTES = 256 * 1024
# Reading this much at start takes about a tenth of a second.
SLACK_BYTES = 2 * 1024 * 1024


class OffsetsTopic:
    """The internal topic of the group coordinator."""

    def __init__(self, topics: Topics, *, partitions: int, now_ms: Callable[[], int]) -> None:
        self._topics = topics
        self._partitions = partitions
        self._now_ms = now_ms
        self._rewritten_bytes = 0
        # What a start would read, or more of it: a whole segment below the log start may still lie there.
        self._held_bytes = sum(partition.size_bytes for partition in self._existing())

    def read_all(self) -> Iterator[Record]:
        """The last record of each key: older ones and what was forgotten mean nothing any more."""
        for partition in self._existing():
            for key, (offset, value) in _last_values(partition).items():
                record = None if value is None else _decode(offset, key, value)
                if record is not None:
                    yield record

    def append(self, records: Iterable[Record]) -> None:
        """Append records; they are in the log when this returns. Raises OSError and LogError."""
        topic = self._topic()
        for partition, pairs in self._by_partition(topic, records):
            for batch in _batches(pairs):
                built = build_batch(batch, self._now_ms())
                partition.append(built)
                self._held_bytes += len(built)

    @property
    def overgrown(self) -> bool:
        """Whether most of the log is records that later ones have replaced."""
        return self._held_bytes > SLACK_BYTES + 2 * self._rewritten_bytes

    def rewrite(self, live: Iterable[Record]) -> None:
        """Write the live state again and cut off all that came before it. Raises OSError and LogError.

        A crash at any point leaves the old records, or the old and some new, or the new: each reads as the
        same state. The flush keeps the order on the disk too.
        """
        topic = self._topic()
        ends = [partition.end_offset for partition in topic.partitions]
        before = self._held_bytes
        self.append(live)
        self._rewritten_bytes = self._held_bytes - before
        for partition, end in zip(topic.partitions, ends, strict=True):
            partition.log.flush()
            partition.delete_before(end)
        self._held_bytes = self._rewritten_bytes
        logger.info("rewrote topic=%s old_bytes=%d live_bytes=%d", NAME, before, self._rewritten_bytes)

    def _existing(self) -> Sequence[Partition]:
        topic = self._topics.get(NAME)
        return topic.partitions if topic else ()

    def _topic(self) -> Topic:
        topic = self._topics.get(NAME)
        if topic is None:
            topic = self._topics.create(NAME, partitions=self._partitions, configs=CONFIGS, internal=True)
        return topic

    def _by_partition(
        self, topic: Topic, records: Iterable[Record]
    ) -> Iterable[tuple[Partition, list[Pair]]]:
        shares: dict[int, list[Pair]] = {}
        for record in records:
            index = partition_of(record.group_id, len(topic.partitions))
            shares.setdefault(index, []).append(encode(record))
        return [(topic.partitions[index], pairs) for index, pairs in shares.items()]


def partition_of(group_id: str, partitions: int) -> int:
    """The partition of a group: the size of Java's String.hashCode, as Kafka takes it (Utils.abs)."""
    if partitions == 1:
        return 0
    code = 0
    utf16 = group_id.encode("utf-16-be")
    for at in range(0, len(utf16), 2):
        code = (31 * code + int.from_bytes(utf16[at : at + 2])) & 0xFFFFFFFF
    signed = code - (1 << 32) if code >> 31 else code
    return 0 if signed == -(1 << 31) else abs(signed) % partitions


def _last_values(partition: Partition) -> dict[bytes, tuple[int, bytes | None]]:
    """The last offset and value of each key, in the order of those offsets: compaction, in memory."""
    last: dict[bytes, tuple[int, bytes | None]] = {}
    offset, end = partition.log_start, partition.end_offset
    lost_from: int | None = None
    while offset < end:
        found = _readable(partition, offset)
        if lost_from is None and (not found or found[0][0] > offset):
            lost_from = offset
        if not found:
            offset += 1  # the log is small, and the first offset behind the damage is not known
            continue
        if lost_from is not None:
            _tell_loss(partition, lost_from, found[0][0])
            lost_from = None
        for at, key, value in found:
            last.pop(key, None)
            last[key] = at, value
        offset = found[-1][0] + 1
    if lost_from is not None:
        _tell_loss(partition, lost_from, end)
    return last


def _readable(partition: Partition, offset: int) -> list[tuple[int, bytes, bytes | None]]:
    """Read the records from an offset on, up to damage; none if it begins there."""
    found = []
    with contextlib.suppress(OSError, LogError, UnreadableBatch):
        for at, key, value in read_batches(partition.read(offset, READ_BYTES)):
            if at >= offset:
                found.append((at, key, value))
    return found


def _tell_loss(partition: Partition, start: int, end: int) -> None:
    logger.error(
        "lost group records partition=%s-%d offsets=%d-%d: segments in that folder are damaged or missing; "
        "restore the folder from a backup, or let the groups concerned commit again",
        NAME,
        partition.index,
        start,
        end - 1,
    )


def _decode(offset: int, key: bytes, value: bytes) -> Record | None:
    try:
        return decode(key, value)
    except UnreadableRecord as fault:
        # The other groups' records are worth more than a broker that does not start.
        logger.error("skipped an unreadable record topic=%s offset=%d: %s", NAME, offset, fault)  # noqa: TRY400 - the sentence says it all
        return None


def _batches(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Records in batches of about BATCH_BYTES."""
    batch: list[Pair] = []
    size = 0
    for key, value in pairs:
        batch.append((key, value))
        size += len(key) + len(value or b"")
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
