"""What the fleet reports of one mapping, and what it reads back: LastProcessingResult, lag, gauges."""

from __future__ import annotations

from tidemill_poller.reporting.poller import PollerReporter
from tidemill_poller.reporting.status import OK, PollerStatus
from tidemill_poller.reporting.telemetry import Telemetry
from tidemill_poller.reporting.tracing import MappingView


class MappingReporter:
    """One mapping while it runs in this process."""

    def __init__(self, telemetry: Telemetry, mapping: MappingView, *, topic: str) -> None:
        self._telemetry = telemetry
        self._mapping = mapping
        self._topic = topic
        self._status = telemetry.board.mapping(mapping.uuid)

    def poller(self, number: int) -> PollerReporter:
        """Return the reporter of a new poller."""
        status = self._status.pollers[number] = PollerStatus(number=number)
        return PollerReporter(
            self._telemetry, self._mapping, topic=self._topic, board=self._status, status=status
        )

    def poller_ended(self, number: int) -> None:
        """Take a poller off the board."""
        del self._status.pollers[number]

    def ended(self) -> None:
        """Take the mapping off the board."""
        self._telemetry.board.forget(self._mapping.uuid)

    @property
    def lag(self) -> int:
        """The records that wait, as far as the partitions' ends are known."""
        return self._status.lag()

    def result(self, before: str) -> str:
        """Return LastProcessingResult; `before` is what it was."""
        return self._status.result() or (OK if self._status.heals(before) else before)

    def set_gauges(self) -> None:
        """Write the gauges."""
        uuid, metrics = self._mapping.uuid, self._telemetry.metrics
        partitions = list(self._status.partitions.values())
        now_ms = self._telemetry.now_ms()
        blocked_ms = [now_ms - p.since_ms for p in partitions if p.blocked_by is not None]
        metrics.gauge("esm.offset_lag.max", max((p.lag or 0 for p in partitions), default=0), mapping=uuid)
        metrics.gauge("esm.offset_lag.sum", self._status.lag(), mapping=uuid)
        metrics.gauge("esm.pollers", len(self._status.pollers), mapping=uuid)
        metrics.gauge("esm.partition.blocked_s", max(blocked_ms, default=0) / 1000, mapping=uuid)
