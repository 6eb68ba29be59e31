"""One trace per delivery: batch, attempts, halves, poison record, destination, commit."""

from tidemill_poller.reporting.tracing.opening import open_tracing, span_exporters
from tidemill_poller.reporting.tracing.spans import (
    NO_TRACING,
    DeliveriesView,
    Delivery,
    MappingView,
    SplitKind,
    Step,
    Tracing,
)

__all__ = [
    "NO_TRACING",
    "DeliveriesView",
    "Delivery",
    "MappingView",
    "SplitKind",
    "Step",
    "Tracing",
    "open_tracing",
    "span_exporters",
]
