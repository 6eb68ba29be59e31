"""One partition as Python sees it: a thin face over the native log, which owns all of its state.

Calls that may touch the disk for long (flush, retain, checkpoint) are safe in a thread.
"""

from collections.abc import Callable

from tidemill_broker._core import LogConfig, PartitionLog
from tidemill_broker.log.growth import Growth


class Partition:
    """A partition of a topic; offsets, epochs and timestamps (ms) are plain ints."""

    __slots__ = ("_clock_ms", "_growth", "handle", "index", "log")

    def __init__(
        self, index: int, handle: int, log: PartitionLog, growth: Growth, clock_ms: Callable[[], int]
    ) -> None:
        self.index = index
        self.handle = handle
        self.log = log
        self._growth = growth
        self._clock_ms = clock_ms

    @property
    def high_watermark(self) -> int:
        """The first offset that consumers may not read yet (with flush.messages=1: the flushed end)."""
        return self.log.high_watermark

    @property
    def end_offset(self) -> int:
        """The offset that the next record gets."""
        return self.log.end_offset

    @property
    def log_start(self) -> int:
        """The first offset that can be read."""
        return self.log.log_start

    @property
    def leader_epoch(self) -> int:
        """The present leader epoch; it rises by one with every start of the broker."""
        return self.log.leader_epoch

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return self.log.size_bytes

    def append(self, batch: bytes) -> int:
        """Append one record batch (v2) of the broker's own; its base offset.

        The batch must be whole and its CRC right; base offset and leader epoch are set here. Flushes if
        the flush policy says so. Raises InvalidBatch, OSError.
        """
        base_offset = self.log.append(batch, self._clock_ms())
        if self.log.unflushed:
            self.log.flush()
        self._growth.grew((self.handle,))
        return base_offset

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds `offset`, at least one if there is any; OffsetOutOfRange."""
        return self.log.read(offset, max_bytes)

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record at or after a time; None if there is none."""
        return self.log.offset_for_timestamp(timestamp_ms)

    def max_timestamp(self) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record with the largest timestamp; None if empty."""
        return self.log.max_timestamp()

    def epoch_for_offset(self, offset: int) -> int:
        """The leader epoch that an offset belongs to, for ListOffsets; -1 if unknown."""
        return self.log.epoch_for_offset(offset)

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(largest epoch at most the asked one, its end offset), or (-1, -1) (LeaderEpochFileCache)."""
        return self.log.end_offset_for_epoch(epoch)

    def delete_before(self, offset: int) -> int:
        """Move the log start up to `offset` (-1 = the high watermark) for good; the new log start.

        Raises OffsetOutOfRange above the high watermark.
        """
        return self.log.delete_before(offset)

    def configure(self, config: LogConfig) -> None:
        """Apply new topic configs from now on."""
        self.log.configure(config)
