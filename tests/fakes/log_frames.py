"""Produce and Fetch requests as frames, and their responses, for one topic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from tests.fakes.kafka_frames import request, request_frame
from tidemill_broker._core import AllowedTopics

PRODUCE, FETCH = 0, 1


class _Anybody:
    """Allows everything: a `TopicAuthorizer`."""

    def may_write(self, _topic: str, /) -> bool:
        return True

    def may_write_as(self, _transactional_id: str, /) -> bool:
        return True

    def may_read(self, _topic: str, /) -> bool:
        return True

    def refresh(self) -> None:
        """No rules, no change."""


# Whoever may write to, and read from, every topic: what `Topics.produce` and `Topics.fetch` are given last.
EVERYTHING: Final = (AllowedTopics(), _Anybody())


def produce_frame(
    records: bytes | None,
    *,
    version: int = 12,
    topic: Any = "t",
    index: int = 0,
    acks: int = -1,
    transactional_id: str | None = None,
    correlation_id: int = 7,
) -> bytes:
    """One batch for one partition; from version 13 the topic is named by its id."""
    named = {"topic_id": topic} if version >= 13 else {"name": topic}
    topic_data = [{**named, "partition_data": [{"index": index, "records": records}]}]
    produce = request(PRODUCE, version, transactional_id=transactional_id, acks=acks, topic_data=topic_data)
    return request_frame(produce, correlation_id=correlation_id)


def fetch_partition(
    *,
    offset: int = 0,
    index: int = 0,
    partition_max_bytes: int = 1 << 20,
    version: int = 12,
    **rest: int,
) -> dict[str, Any]:
    """What a fetch asks of one partition."""
    asked = {"partition": index, "fetch_offset": offset, "partition_max_bytes": partition_max_bytes}
    if version >= 5:
        asked["log_start_offset"] = -1
    if version >= 9:
        asked["current_leader_epoch"] = -1
    if version >= 12:
        asked["last_fetched_epoch"] = -1
    return {**asked, **rest}


def fetch_frame(
    partitions: Sequence[dict[str, Any]],
    *,
    version: int = 12,
    topic: Any = "t",
    max_bytes: int = 1 << 30,
    min_bytes: int = 0,
    max_wait_ms: int = 0,
    correlation_id: int = 7,
    **rest: int,
) -> bytes:
    """A fetch of partitions of one topic; from version 13 it is named by its id."""
    named = {"topic_id": topic} if version >= 13 else {"topic": topic}
    if version >= 7:
        rest = {"session_epoch": -1, **rest}
    fetch = request(
        FETCH,
        version,
        max_wait=timedelta(milliseconds=max_wait_ms),
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        topics=[{**named, "partitions": list(partitions)}],
        **rest,
    )
    return request_frame(fetch, correlation_id=correlation_id)
