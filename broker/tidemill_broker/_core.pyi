# ruff: noqa: PYI021 (the contract of the boundary stands here, nobody reads the Rust for it)
"""The boundary to the native partition-log core: coarse calls, bytes in, bytes out, the GIL given up.

Errors are the classes of `tidemill_broker.log.errors`, `tidemill_broker.protocol.errors.MalformedFrame`,
and OSError.
Offsets, epochs and timestamps are plain ints; timestamps are milliseconds since 1970.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias, final

from typing_extensions import Buffer

__all__ = [
    "BUILD_PROFILE",
    "AllowedTopics",
    "LogConfig",
    "LogTable",
    "PartitionLog",
    "Undecided",
    "UnfinishedProduce",
    "WaitingFetch",
]

BUILD_PROFILE: Final[str]
"""How the crate was built, "release" or "debug"; a benchmark refuses a debug build."""

@final
class LogConfig:
    """The topic configs that the core obeys; -1 stands for "no limit" as in Kafka."""

    def __new__(
        cls,
        *,
        segment_bytes: int,
        segment_ms: int,
        index_interval_bytes: int,
        retention_ms: int,
        retention_bytes: int,
        delete: bool,
        compact: bool,
        max_message_bytes: int,
        log_append_time: bool,
        timestamp_before_max_ms: int,
        timestamp_after_max_ms: int,
        flush_messages: int,
        producer_expiration_ms: int,
    ) -> LogConfig: ...

_Damage: TypeAlias = tuple[Path, int, int, int, int, Path | None]
"""(file, position, bytes, first offset lost, offset behind the last, what the damaged file is kept as).

No bytes and nothing kept where the file ends too early or is missing.
"""

@final
class PartitionLog:
    """One partition's segments, indexes, producer states and leader epochs; safe to call from any thread."""

    def __new__(cls, directory: str, config: LogConfig, now_ms: int) -> PartitionLog:
        """Open the log in a directory (made if missing), recover it and begin a new leader epoch."""

    @property
    def recovery(self) -> tuple[int, int, list[_Damage]]:
        """What opening it took: (bytes scanned, bytes cut off a torn tail, what was found damaged)."""

    @property
    def high_watermark(self) -> int:
        """The first offset that consumers may not read yet."""

    @property
    def end_offset(self) -> int:
        """The offset that the next record gets."""

    @property
    def log_start(self) -> int: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def segment_count(self) -> int: ...
    @property
    def unflushed(self) -> bool:
        """Whether the flush policy asks for `flush` before the last append may be acknowledged."""

    def configure(self, config: LogConfig) -> None: ...
    def append(self, batch: Buffer, now_ms: int) -> int:
        """Validate and append one batch of the broker's own (control batches allowed); its base offset."""

    def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds the offset, at least one if there is any."""

    def offset_for_timestamp(self, timestamp_ms: int) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record with at least that timestamp."""

    def max_timestamp(self) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record with the largest timestamp."""

    def epoch_for_offset(self, offset: int) -> int:
        """The leader epoch under which an offset was (or would be) written; -1 before the first."""

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(largest epoch at most the asked one, its end offset), or (-1, -1)."""

    def delete_before(self, offset: int) -> int:
        """Move the log start (never back), drop whole segments below it, durably; the new log start."""

    def retain(self, now_ms: int) -> int:
        """One retention pass; how many segments it deleted."""

    def flush(self) -> int:
        """Fsync everything appended so far; the high watermark after it."""

    def repair(self, now_ms: int) -> list[_Damage]:
        """Keep the segments aside that reads found damaged, and put what is whole in their place."""

    def checkpoint(self) -> None:
        """Flush, write indexes and producer states; recovery scans from here on."""

    def close(self) -> None:
        """Checkpoint for the last time; every later append fails."""

    def abandon(self) -> None:
        """Once this returns nothing is written to the folder, or removed from it: it is being deleted."""

@final
class AllowedTopics:
    """The topics that one connection may write to, or those that it may read, as far as that is decided.

    What is allowed is kept until `forget`; a denial is never kept. Once in 100 ms a call answers
    `Undecided`, so that its caller compares the version of the rules.
    """

    def __new__(cls) -> AllowedTopics: ...
    def forget(self) -> None:
        """Keep nothing any more: the rules have changed."""

_Decided: TypeAlias = tuple[Mapping[str, bool], bool | None]
"""Decisions about one request: topic to whether it is allowed, and whether its transactional id is."""

@final
class Undecided:
    """The request was not served yet: decide, then call again with all decisions so far.

    Compare the version of the rules first, and call `forget` if they have changed; that may be all there is
    to do.
    """

    @property
    def topics(self) -> list[str]:
        """Topics, by their names, that must be decided; whether or not they exist."""

    @property
    def transactional_id(self) -> str | None:
        """The transactional id that must be decided, before any topic is."""

_Produced: TypeAlias = tuple[bytes | None, bool, list[int], list[int], str | None, list[int]]
"""What `LogTable.produce` returns of a request that is done."""

@final
class UnfinishedProduce:
    """A Produce request with batches left, and a copy of its frame; what it says counts once it is done."""

    def go_on(self, now_ms: int) -> _Produced | None:
        """Append more; what `LogTable.produce` returns, or None while batches are left.

        It may take as long as inflating a batch of the largest size does: call it in a thread, one at a time.
        Other calls do not wait for it.
        """

@final
class WaitingFetch:
    """A fetch whose min_bytes are not there yet."""

    @property
    def max_wait_ms(self) -> int: ...
    @property
    def handles(self) -> list[int]:
        """The partitions whose growth may complete it."""

    def poll(
        self, allowed: AllowedTopics, decided: _Decided | None = None, *, last: bool
    ) -> memoryview | Undecided | None:
        """Try again, with the decisions of now; with `last` the response frame holds what there is."""

@final
class LogTable:
    """Names and topic ids to logs: what a Produce or Fetch frame is resolved against."""

    def __new__(cls, fetch_bytes_max: int) -> LogTable:
        """An empty table; no fetch is answered with more bytes of records, but for a first batch."""

    def add(self, name: str, topic_id: bytes, index: int, log: PartitionLog) -> int:
        """Make a partition known; the handle that stands for it in the results below."""

    def unreadable(self) -> list[tuple[int, str]]:
        """(handle, fault) of each partition that a fetch could not read, since this was asked last."""

    def remove(self, name: str) -> None: ...
    def produce(
        self, frame: Buffer, now_ms: int, allowed: AllowedTopics, decided: _Decided | None = None
    ) -> _Produced | Undecided | UnfinishedProduce:
        """Append what a whole Produce request (v3-v13, without its length) holds.

        Or a part of it, where that is more work than the event loop should wait for.
        Nothing is appended before each topic is in `allowed` or `decided`; what is denied is answered so.
        Returns (response frame or None for acks=0, whether a partition failed, handles that grew and may be
        read, handles to flush before the response goes out, the first storage fault, handles that closed a
        segment). MalformedFrame.
        """

    def fetch(
        self, frame: Buffer, allowed: AllowedTopics, decided: _Decided | None = None
    ) -> memoryview | WaitingFetch | Undecided:
        """The whole response frame, with its length, to a Fetch request (v4-v18, without its length).

        Or, if its min_bytes are not there yet, what to wait with. Authorized as `produce` is.
        MalformedFrame, OSError.
        """
