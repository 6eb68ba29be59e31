"""What a source reports: its connection, its partitions, its polls and commits.

Owns how these appear in the status of the poller and its partitions, in traces, metrics and the log.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from tidemill_poller.errors import SourceUnavailable
from tidemill_poller.reporting.metrics import CounterName
from tidemill_poller.reporting.partition import PartitionReporter
from tidemill_poller.reporting.status import MappingStatus, PartitionStatus, PollerStatus
from tidemill_poller.reporting.telemetry import Telemetry
from tidemill_poller.reporting.tracing import MappingView

logger = logging.getLogger(__name__)


class ValueView(Protocol):
    """What is reported of a polled record."""

    value: bytes | None


class PollerReporter:
    """Events of one member of a mapping's consumer group."""

    def __init__(
        self,
        telemetry: Telemetry,
        mapping: MappingView,
        *,
        topic: str,
        board: MappingStatus,
        status: PollerStatus,
    ) -> None:
        self._telemetry = telemetry
        self._mapping = mapping
        self._topic = topic
        self._board = board
        self.status = status

    # Its life

    def connecting(self) -> None:
        """Note an attempt to join the group."""
        self.status.state, self.status.since_ms = "connecting", self._telemetry.now_ms()

    def assigned(self, partitions: Collection[int]) -> None:
        """Note that the group assigned these partitions, and their lanes are open."""
        status = self.status
        status.state, status.reason, status.problem = "polling", "", None
        self._count("esm.rebalances")
        logger.info("assigned topic=%s partitions=%s", self._topic, sorted(partitions))

    def draining(self) -> None:
        """Note that it finishes what is in flight and leaves."""
        self.status.state = "draining"

    def failed(self, problem: str, reason: str) -> None:
        """Note that it ended; `problem` is the LastProcessingResult."""
        status = self.status
        status.state, status.problem, status.reason = "failed", problem, reason
        status.since_ms = self._telemetry.now_ms()
        self._count("esm.errors.polling")
        logger.warning(
            "poller failed mapping=%s poller=%d reason=%s", self._mapping.uuid, status.number, reason
        )

    def ended(self, failure: SourceUnavailable | None) -> None:
        """Note that it left the group, and why if it had to."""
        if failure is not None:
            self.status.state, self.status.reason = "failed", str(failure)

    def connection_failing(self, fault: SourceUnavailable) -> None:
        """Note why the cluster cannot be used for now."""
        self.status.problem, self.status.reason = fault.problem, str(fault)
        logger.warning("connection problem topic=%s reason=%s", self._topic, fault)

    def connection_works(
        self, reporters: Mapping[int, PartitionReporter], bounds: Mapping[int, tuple[int, int]]
    ) -> None:
        """Note (log start, end) of partitions, as the cluster just said."""
        self.status.problem, self.status.reason = None, ""
        for partition, reporter in reporters.items():
            reporter.status.log_start, reporter.status.end = bounds[partition]

    # Its partitions

    def partition_opened(self, partition: int, *, committed: int) -> PartitionReporter:
        """Return the reporter of a partition's new lane."""
        status = PartitionStatus(
            mapping=self._mapping.uuid,
            topic=self._topic,
            partition=partition,
            committed=committed,
            since_ms=self._telemetry.now_ms(),
        )
        self._board.partitions[partition] = status
        return PartitionReporter(self._telemetry, self._mapping, status)

    def partition_closed(self, reporter: PartitionReporter) -> None:
        """Take a partition off the board, unless another poller has it already."""
        partition = reporter.status.partition
        if self._board.partitions.get(partition) is reporter.status:
            del self._board.partitions[partition]

    # Its polls and commits

    def polled(self, polled: Mapping[int, Sequence[ValueView]]) -> None:
        """Note a poll that brought records."""
        tracing = self._telemetry.tracing
        if tracing.enabled:
            tracing.poll(
                topic=self._topic,
                group=self._mapping.consumer_group_id,
                records=sum(map(len, polled.values())),
                bytes=sum(len(r.value or b"") for records in polled.values() for r in records),
            )

    def poll_failed(self) -> None:
        """Count a poll, or a look at the partitions' ends, that failed."""
        self._count("esm.errors.polling")

    def out_of_range(self, partition: int, *, offset: int, start: int, end: int) -> None:
        """Note that the log no longer has an offset, and that reading goes on at its start."""
        self._notice(
            f"offset {offset} of {self._topic}-{partition} is no longer in the log:"
            f" read on at its start, {start}"
        )
        logger.warning(
            "offset out of range: reading on at the log start partition=%d offset=%d start=%d end=%d",
            partition,
            offset,
            start,
            end,
        )

    def topic_recreated(self, topic_id: str | None) -> None:
        """Note that the group's offsets are of a topic of the same name that is gone."""
        self._notice(
            f"topic {self._topic} was deleted and made anew: read from the mapping's StartingPosition"
        )
        logger.warning(
            "topic was made anew, offsets of the one before are void: reading from the StartingPosition"
            " topic=%s id=%s",
            self._topic,
            topic_id,
        )

    def committed(self, reporter: PartitionReporter, *, before: int, offset: int) -> None:
        """Note that Kafka acknowledged a partition's commit."""
        reporter.status.committed = offset
        self._telemetry.metrics.count("esm.events.committed", offset - before, mapping=self._mapping.uuid)

    def commit_failed(self, error: SourceUnavailable) -> None:
        """Note a commit that Kafka did not acknowledge."""
        self._count("esm.errors.commit")
        logger.warning("commit failed topic=%s reason=%s", self._topic, error)

    def _notice(self, text: str) -> None:
        """Keep what happened on the board until something else does."""
        self._board.notice, self._board.notice_ms = text, self._telemetry.now_ms()

    def _count(self, name: CounterName) -> None:
        self._telemetry.metrics.count(name, 1, mapping=self._mapping.uuid)
