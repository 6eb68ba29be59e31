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
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from tidemill_poller.tracing import Delivery, MappingView, SplitKind, Step, Tracing
from tidemill_poller.tracing.producers import producer_contexts
from tidemill_poller.tracing.recent import MAPPING_ID, RecentDeliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from opentelemetry.trace import Span, Tracer

log = logging.getLogger(__name__)

# After either of these a delivery goes on in a new trace: a batch may be retried for ever, a root must end.
CALLS_PER_TRACE: Final = 200
TRACE_AGE_MAX_S: Final = 600
# In an attribute as well as in links, because viewers find traces by attribute only.
_TRACE_IDS_SHOWN: Final = 16
_ERROR_CHARS_MAX: Final = 500


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
        log.warning("no span exporter is called %s: set OTEL_TRACES_EXPORTER to otlp, console or none", name)
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # brings requests
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

    def poll(self, *, topic: str, group: str, records: int, bytes: int) -> None:  # noqa: A002  # see Tracing
        """See Tracing. The buffer keeps deliveries only, so without an exporter there is no span to make."""
        if not self._exports or not records:
            return
        self._tracer.start_span(
            f"poll {topic}",
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes={
                **_messaging("poll", "receive", topic),
                "messaging.consumer.group.name": group,
                "messaging.batch.message_count": records,
                "esm.polled.bytes": bytes,
            },
        ).end()

    def process(  # noqa: PLR0913  # see Tracing
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
            **_messaging("process", "process", topic),
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
        trace = _Trace(self._tracer, mapping.function_arn, topic, self._clock)
        return _RecordedDelivery(trace, None, f"process {topic}", attributes, links)

    def close(self) -> None:
        """See Tracing."""
        self._provider.shutdown()


class _Trace:
    """What the nodes of one delivery share; `part` counts the traces it has gone on in."""

    __slots__ = (
        "calls",
        "clock",
        "committed",
        "dropped",
        "function_arn",
        "opened_s",
        "part",
        "retried",
        "sent",
        "topic",
        "tracer",
    )

    def __init__(self, tracer: Tracer, function_arn: str, topic: str, clock: Callable[[], float]) -> None:
        self.tracer = tracer
        self.function_arn = function_arn
        self.topic = topic
        self.clock = clock
        self.part = 1
        self.calls = 0
        self.opened_s = clock()
        self.committed = False
        self.retried = False
        self.sent = 0
        self.dropped = 0

    def call(self) -> None:
        """Count a call to the outside; a delivery that has made many, or is old, goes on in a new trace."""
        if self.calls >= CALLS_PER_TRACE or self.clock() - self.opened_s >= TRACE_AGE_MAX_S:
            self.part += 1
            self.calls = 0
            self.opened_s = self.clock()
        self.calls += 1


class _RecordedDelivery(Delivery):
    __slots__ = ("_attributes", "_name", "_parent", "_part", "_span", "_trace")

    def __init__(
        self,
        trace: _Trace,
        parent: _RecordedDelivery | None,
        name: str,
        attributes: dict[str, Any],
        links: Sequence[Link] = (),
    ) -> None:
        self._trace = trace
        self._parent = parent
        self._name = name
        self._attributes = attributes
        self._part = trace.part
        self._span = self._opened(links)

    def invoke(self, *, attempt: int, first_offset: int, last_offset: int) -> Step:
        trace = self._trace
        trace.call()
        trace.retried = trace.retried or attempt > 1
        name = function_name(trace.function_arn)
        return self._step(
            f"invoke {name} #{attempt}",
            SpanKind.CLIENT,
            {
                "faas.invoked_name": name,
                "faas.invoked_provider": "aws",
                "faas.invoked_region": _region(trace.function_arn),
                "esm.attempt": attempt,
                "esm.offset.first": first_offset,
                "esm.offset.last": last_offset,
            },
        )

    def retry_scheduled(self, *, delay_s: float, attempt: int) -> None:
        self._trace.retried = True
        self._now().add_event("retry.scheduled", {"esm.delay_s": delay_s, "esm.attempt": attempt})

    def split(self, *, kind: SplitKind, first_offset: int, last_offset: int, depth: int) -> Delivery:
        self._trace.retried = True
        attributes = {
            "esm.split": kind,
            "esm.bisect.depth": depth,
            "esm.offset.first": first_offset,
            "esm.offset.last": last_offset,
        }
        return _RecordedDelivery(self._trace, self, f"retry [{first_offset}-{last_offset}]", attributes)

    def send(self, *, destination: str, condition: str) -> Step:
        self._trace.call()
        name = destination.rpartition(":")[2]
        attributes = {
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": name,
            "esm.destination": destination,
            "esm.condition": condition,
        }
        return self._step(f"send {name}", SpanKind.PRODUCER, attributes, sends=True)

    def commit(self, *, offset: int) -> Step:
        topic = self._trace.topic
        self._trace.committed = True
        attributes = {**_messaging("commit", "settle", topic), "esm.offset.committed": offset}
        return self._step(f"commit {topic}", SpanKind.CLIENT, attributes)

    def dropped(self, records: int) -> None:
        self._trace.dropped += records
        span = self._now()
        span.set_attribute("esm.dropped", records)
        span.set_status(Status(StatusCode.ERROR, f"{records} dropped"))

    def poison(self) -> None:
        self._now().set_attribute("esm.poison", True)  # noqa: FBT003  # OpenTelemetry's signature

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        span = self._now()
        interruption = kind.__name__ if kind is not None else None
        if self._parent is None and not self._trace.committed:
            interruption = interruption or "closed"
        if interruption is not None:
            # Revoked or stopping: the batch is neither done nor lost, another lane will take it up.
            span.set_attribute("esm.interrupted", interruption)
        if self._parent is None:
            self._settle(span, interrupted=interruption is not None)
        span.end()

    def _settle(self, span: Span, *, interrupted: bool) -> None:
        trace = self._trace
        if trace.retried:
            span.set_attribute("esm.retried", True)  # noqa: FBT003  # OpenTelemetry's signature
        if trace.sent:
            span.set_attribute("esm.sent_to_destination", trace.sent)
        if trace.dropped:
            span.set_attribute("esm.dropped", trace.dropped)
            span.set_status(Status(StatusCode.ERROR, f"{trace.dropped} records dropped"))
        elif not interrupted:
            span.set_status(Status(StatusCode.OK))

    def _step(
        self, name: str, kind: SpanKind, attributes: dict[str, Any], *, sends: bool = False
    ) -> _RecordedStep:
        context = set_span_in_context(self._now())
        span = self._trace.tracer.start_span(name, context=context, kind=kind, attributes=attributes)
        return _RecordedStep(span, self._trace, sends=sends)

    def _now(self) -> Span:
        """The node's span, opened anew if the delivery has gone on in another trace meanwhile."""
        if self._part == self._trace.part:
            return self._span
        before = self._span
        before.set_attribute("esm.continued", True)  # noqa: FBT003  # OpenTelemetry's signature
        if self._parent is None:
            self._settle(before, interrupted=True)
        before.end()
        self._part = self._trace.part
        links = () if self._parent else (Link(before.get_span_context(), {"esm.link": "continues"}),)
        self._span = self._opened(links)
        return self._span

    def _opened(self, links: Sequence[Link]) -> Span:
        parent, attributes = self._parent, self._attributes
        if self._part > 1:
            attributes = {**attributes, "esm.trace.part": self._part}
        # An empty context: a span that happens to be current must not become the root's parent.
        context = Context() if parent is None else set_span_in_context(parent._now())  # noqa: SLF001  # same class
        kind = SpanKind.CONSUMER if parent is None else SpanKind.INTERNAL
        return self._trace.tracer.start_span(
            self._name, context=context, kind=kind, attributes=attributes, links=links
        )


class _RecordedStep(Step):
    __slots__ = ("_failed", "_sends", "_span", "_trace")

    def __init__(self, span: Span, trace: _Trace, *, sends: bool) -> None:
        self._span = span
        self._trace = trace
        self._sends = sends
        self._failed = False

    @property
    def headers(self) -> Mapping[str, str]:
        context = self._span.get_span_context()
        trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        sampled = int(context.trace_flags.sampled)
        return {
            "traceparent": f"00-{trace_id}-{span_id}-{sampled:02x}",
            # X-Ray takes W3C ids in its own notation ("X-Ray concepts": trace ids).
            "X-Amzn-Trace-Id": f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id};Sampled={sampled}",
        }

    def failed(self, error_type: str, message: str) -> None:
        self._failed = True
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR, message[:_ERROR_CHARS_MAX]))

    def request_id(self, request_id: str) -> None:
        self._span.set_attribute("aws.request_id", request_id)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.failed(kind.__name__, " ".join(str(error).split()))
        if self._sends and not self._failed:
            self._trace.sent += 1
        self._span.end()


def function_name(function_arn: str) -> str:
    """`name` or `name:qualifier` of a function's ARN."""
    return function_arn.partition(":function:")[2] or function_arn


def _region(function_arn: str) -> str:
    parts = function_arn.split(":", 4)
    return parts[3] if len(parts) > 4 else ""  # noqa: PLR2004  # arn:aws:lambda:region:rest


def _messaging(operation: str, kind: str, topic: str) -> dict[str, str]:
    # OpenTelemetry semantic conventions 1.44, messaging spans.
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
