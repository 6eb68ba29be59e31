"""The spans of one delivery: the nodes of its retry tree and the calls below each.

Owns their names, attributes and status, and when a long delivery goes on in a new trace. `recorded` opens the
root; the OpenTelemetry SDK makes the spans.

See docs/decisions/0701.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from tidemill_poller.reporting.tracing.spans import Delivery, SplitKind, Step

# After either of these a delivery goes on in a new trace: a batch may be retried for ever, a root must end.
CALLS_PER_TRACE: Final = 200
TRACE_AGE_MAX_S: Final = 600
_ERROR_CHARS_MAX: Final = 500


class Trace:
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


class RecordedDelivery(Delivery):
    """A node of the tree whose spans are recorded."""

    __slots__ = ("_attributes", "_name", "_parent", "_part", "_span", "_trace")

    def __init__(
        self,
        trace: Trace,
        parent: RecordedDelivery | None,
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
        """See Delivery."""
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
        """See Delivery."""
        self._trace.retried = True
        self._now().add_event("retry.scheduled", {"esm.delay_s": delay_s, "esm.attempt": attempt})

    def split(self, *, kind: SplitKind, first_offset: int, last_offset: int, depth: int) -> Delivery:
        """See Delivery."""
        self._trace.retried = True
        attributes = {
            "esm.split": kind,
            "esm.bisect.depth": depth,
            "esm.offset.first": first_offset,
            "esm.offset.last": last_offset,
        }
        return RecordedDelivery(self._trace, self, f"retry [{first_offset}-{last_offset}]", attributes)

    def send(self, *, destination: str, condition: str) -> Step:
        """See Delivery."""
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
        """See Delivery."""
        topic = self._trace.topic
        self._trace.committed = True
        attributes = {**messaging("commit", "settle", topic), "esm.offset.committed": offset}
        return self._step(f"commit {topic}", SpanKind.CLIENT, attributes)

    def dropped(self, records: int) -> None:
        """See Delivery."""
        self._trace.dropped += records
        span = self._now()
        span.set_attribute("esm.dropped", records)
        span.set_status(Status(StatusCode.ERROR, f"{records} dropped"))

    def poison(self) -> None:
        """See Delivery."""
        self._now().set_attribute("esm.poison", True)  # noqa: FBT003 - OpenTelemetry's signature

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
            span.set_attribute("esm.retried", True)  # noqa: FBT003 - OpenTelemetry's signature
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
        before.set_attribute("esm.continued", True)  # noqa: FBT003 - OpenTelemetry's signature
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
        context = Context() if parent is None else set_span_in_context(parent._now())  # noqa: SLF001 - same class
        kind = SpanKind.CONSUMER if parent is None else SpanKind.INTERNAL
        return self._trace.tracer.start_span(
            self._name, context=context, kind=kind, attributes=attributes, links=links
        )


class _RecordedStep(Step):
    __slots__ = ("_failed", "_sends", "_span", "_trace")

    def __init__(self, span: Span, trace: Trace, *, sends: bool) -> None:
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
    return parts[3] if len(parts) > 4 else ""  # noqa: PLR2004 - arn:aws:lambda:region:rest


def messaging(operation: str, kind: str, topic: str) -> dict[str, str]:
    """Return the attributes of every messaging span."""
    # OpenTelemetry semantic conventions 1.44, messaging spans.
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
