"""Where the reporters of one process write: traces, metrics and the status board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidemill_poller.reporting.metrics import Metrics
from tidemill_poller.reporting.status import StatusBoard
from tidemill_poller.reporting.tracing import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """One of each for the whole process."""

    tracing: Tracing
    metrics: Metrics
    board: StatusBoard
    now_ms: Callable[[], int]

    def forget(self, mapping_uuid: str) -> None:
        """Let go of a deleted mapping's status and metrics."""
        self.board.forget(mapping_uuid)
        self.metrics.forget(mapping_uuid)
