"""Tracing that is on: builds the span tree of a delivery with the OpenTelemetry SDK.

    process orders                   CONSUMER  root; linked to the producers' traces
    ├─ invoke fn #1                  CLIENT    ERROR if it failed
    ├─ retry [100-149]               INTERNAL  a half, or what a partial response left
    │  └─ invoke fn #1
    ├─ retry [150-199]
    │  └─ retry [173-173]            INTERNAL  esm.poison
    │     ├─ invoke fn #1 … #n       ERROR
    │     └─ send orders-dlq         PRODUCER
    └─ commit orders                 CLIENT

The root is ERROR only if records were dropped: a search for errors finds losses, not retries. Offset ranges
are in the names of parts and in the attributes of all. A delivery that takes long goes on in a new trace,
linked to the one before, since viewers do not show a root that has not ended.
Imports the SDK; only `open_tracing` imports this.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from tidemill_poller.reporting.tracing.producers import producer_contexts
from tidemill_poller.reporting.tracing.recent import MAPPING_ID, RecentDeliveries
from tidemill_poller.reporting.tracing.recorded_delivery import (
    RecordedDelivery,
    Trace,
    function_name,
    messaging,
)
from tidemill_poller.reporting.tracing.spans import Delivery, MappingView, Tracing

logger = logging.getLogger(__name__)

# In an attribute as well as in links, because viewers find traces by attribute only.
_TRACE_IDS_SHOWN: Final = 16


def record(
    exporters: Sequence[str], *, environ: Mapping[str, str], recent_deliveries: int = 0
) -> RecordedTracing:
    """Tracing with the named exporters and a buffer of that many deliveries."""
    service = environ.get("OTEL_SERVICE_NAME") or "tidemill-poller"
    opened = [exporter for exporter in map(_exporter, exporters) if exporter is not None]
    # Without an exporter there is nothing to sample for: the buffer bounds itself.
    sampler = None if opened else ALWAYS_ON
    provider = TracerProvider(
        resource=Resource.create({"service.name": service}), sampler=sampler, shutdown_on_exit=False
    )
    for exporter in opened:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    recent = RecentDeliveries(recent_deliveries) if recent_deliveries > 0 else None
    if recent is not None:
        provider.add_span_processor(recent)
    return RecordedTracing(provider, recent=recent, exports=bool(opened))


def _exporter(name: str) -> SpanExporter | None:
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        logger.warning(
            "no span exporter is called %s: set OTEL_TRACES_EXPORTER to otlp, console or none", name
        )
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - brings requests
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()


class RecordedTracing(Tracing):
    """Opens the spans; `clock` gives monotonic seconds."""

    __slots__ = ("_clock", "_exports", "_provider", "_recent", "_tracer")
    enabled = True

    def __init__(
        self,
        provider: TracerProvider,
        *,
        recent: RecentDeliveries | None,
        exports: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._recent = recent
        self._exports = exports
        self._tracer = provider.get_tracer("tidemill.poller")
        self._clock = clock

    @property
    def recent(self) -> RecentDeliveries | None:
        """See Tracing."""
        return self._recent

    def poll(self, *, topic: str, group: str, records: int, bytes: int) -> None:  # noqa: A002 - see Tracing
        """See Tracing. The buffer keeps deliveries only, so without an exporter there is no span to make."""
        if not self._exports or not records:
            return
        self._tracer.start_span(
            f"poll {topic}",
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes={
                **messaging("poll", "receive", topic),
                "messaging.consumer.group.name": group,
                "messaging.batch.message_count": records,
                "esm.polled.bytes": bytes,
            },
        ).end()

    def process(  # noqa: PLR0913 - see Tracing
        self,
        *,
        mapping: MappingView,
        topic: str,
        partition: int,
        first_offset: int,
        last_offset: int,
        record_count: int,
        payload_bytes: int,
        closed_by: str,
        filtered: int,
        headers: Iterable[Sequence[tuple[str, bytes]]],
    ) -> Delivery:
        """See Tracing."""
        contexts, unlinked = producer_contexts(headers)
        attributes: dict[str, Any] = {
            **messaging("process", "process", topic),
            "messaging.destination.partition.id": str(partition),
            "messaging.consumer.group.name": mapping.consumer_group_id,
            "messaging.batch.message_count": record_count,
            MAPPING_ID: mapping.uuid,
            "faas.invoked_name": function_name(mapping.function_arn),
            "esm.offset.first": first_offset,
            "esm.offset.last": last_offset,
            "esm.payload.bytes": payload_bytes,
            "esm.window.closed_by": closed_by,
            "esm.filtered": filtered,
        }
        if contexts:
            attributes["esm.producer.trace_ids"] = [f"{c.trace_id:032x}" for c in contexts[:_TRACE_IDS_SHOWN]]
        if unlinked:
            attributes["esm.links.dropped"] = unlinked
        links = [
            Link(
                SpanContext(
                    c.trace_id, c.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
                ),
                {"messaging.destination.partition.id": str(partition)},
            )
            for c in contexts
        ]
        trace = Trace(self._tracer, mapping.function_arn, topic, self._clock)
        return RecordedDelivery(trace, None, f"process {topic}", attributes, links)

    def close(self) -> None:
        """See Tracing."""
        self._provider.shutdown()
