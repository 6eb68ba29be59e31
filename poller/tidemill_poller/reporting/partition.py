"""What a lane reports of its partition between deliveries.

The lane is given one of these by its source, and writes the partition's status through it alone.
"""

from __future__ import annotations

import logging
from typing import Protocol

from tidemill_poller.reporting.delivery import BatchView, DeliveryReporter, RecordView, Sinks
from tidemill_poller.reporting.status import PartitionStatus
from tidemill_poller.reporting.telemetry import Telemetry
from tidemill_poller.reporting.tracing import MappingView

logger = logging.getLogger(__name__)


class UndeliverableView(Protocol):
    """What is reported of what cannot be delivered."""

    topic: str
    partition: int
    offset: int
    last_offset: int
    error: str

    @property
    def condition(self) -> str:
        """Why, as in the failure record."""
        ...


class PartitionReporter:
    """Events of one partition of one mapping."""

    def __init__(self, telemetry: Telemetry, mapping: MappingView, status: PartitionStatus) -> None:
        self._tracing = telemetry.tracing
        self._mapping = mapping
        self._sinks = Sinks(telemetry, mapping.uuid, status)
        self.status = status

    def polled(self, records: int, *, kept: int) -> None:
        """Note how many records a poll brought, and how many of them the filter kept."""
        self._sinks.count("esm.events.polled", records)
        if kept < records:
            self._sinks.count("esm.events.filtered_out", records - kept)

    def buffered(self, held_bytes: int, *, paused: bool) -> None:
        """Note what is fetched and not settled, and whether no more is fetched for now."""
        self.status.buffered_bytes = held_bytes
        self.status.fetch_paused = paused

    def undeliverable(self, record: UndeliverableView) -> None:
        """Note that a record or a batch cannot be given to any function."""
        logger.error(
            "undeliverable partition=%s-%d first_offset=%d last_offset=%d condition=%s reason=%s",
            record.topic,
            record.partition,
            record.offset,
            record.last_offset,
            record.condition,
            record.error,
        )

    def batch_opened(self, batch: BatchView) -> DeliveryReporter:
        """Open the delivery of one batch."""
        first = batch.records[0]
        node = self._tracing.process(
            mapping=self._mapping,
            topic=first.topic,
            partition=first.partition,
            first_offset=batch.first_offset,
            last_offset=batch.last_offset,
            record_count=len(batch.records),
            payload_bytes=batch.payload_bytes,
            closed_by=batch.closed_by,
            filtered=batch.filtered,
            headers=(_sent_headers(record) for record in batch.records),
        )
        return DeliveryReporter(node, self._sinks)


def _sent_headers(record: RecordView) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in record.headers if value is not None]
