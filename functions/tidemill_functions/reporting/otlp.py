"""Spans and metrics of invocations by OpenTelemetry, as its standard variables ask for.

Owns the names: those of OpenTelemetry's conventions for functions (faas.*), and `aws.lambda.*` where these
have none. A span is a child of the caller's, which X-Amzn-Trace-Id names: the poller's is the attempt.
The SDK is imported only by a process that exports.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from tidemill_functions.reporting.reporter import InvocationEnd

logger = logging.getLogger(__name__)

_CALLER: Final = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24})")
_PARENT: Final = re.compile(r"Parent=([0-9a-f]{16})")
_SERVICE: Final = "tidemill-functions"
_MS_NS: Final = 1_000_000
_MIB: Final = 1024 * 1024
_TIMED_OUT: Final = "Sandbox.Timedout"


def exporters(environ: Mapping[str, str], signal: str) -> tuple[str, ...]:
    """Return the exporters that the environment names for TRACES or METRICS: `otlp`, `console`.

    An endpoint alone asks for `otlp`, so that a server without a collector stays silent.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    if named := environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower():
        return tuple(name for name in (part.strip() for part in named.split(",")) if name not in ("", "none"))
    endpoints = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return ("otlp",) if any(environ.get(name) for name in endpoints) else ()


def caller_of(trace_header: str) -> tuple[int, int, bool] | None:
    """Return trace id, span id and whether the caller samples; None without a caller's context."""
    root, parent = _CALLER.search(trace_header), _PARENT.search(trace_header)
    if root is None or parent is None:
        return None
    trace_id, span_id = int(root[1] + root[2], 16), int(parent[1], 16)
    return (trace_id, span_id, "Sampled=1" in trace_header) if trace_id and span_id else None


class Spans:
    """A span for each invocation, with its cold start as a child."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tidemill.functions")

    def began(self, function: str, concurrent: int) -> None:
        """See Listener: a span is made at the end."""

    def throttled(self, function: str) -> None:
        """See Listener: nothing ran."""

    def ended(self, end: InvocationEnd) -> None:
        """See Listener."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415 - see above

        began_ns = end.ended_ns - int(end.duration_ms * _MS_NS)
        init_ns = int((end.init_ms or 0.0) * _MS_NS)
        span = self._tracer.start_span(
            end.function,
            context=_context(end.caller_trace),
            kind=SpanKind.SERVER,
            start_time=began_ns - init_ns,
            attributes=_attributes(end),
        )
        if end.init_ms is not None:
            inside = set_span_in_context(span)
            self._tracer.start_span("init", context=inside, start_time=began_ns - init_ns).end(began_ns)
        if end.error_type:
            span.set_attribute("error.type", end.error_type)
            span.set_status(Status(StatusCode.ERROR, end.error_type))
        span.end(end.ended_ns)

    def close(self) -> None:
        """Export what is left; blocks."""
        self._provider.shutdown()


class Metrics:
    """Counts, durations and memory of invocations, by function."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        meter = provider.get_meter("tidemill.functions")
        self._invocations = meter.create_counter(
            "faas.invocations", "{invocation}", "CloudWatch's Invocations"
        )
        self._errors = meter.create_counter("faas.errors", "{error}", "CloudWatch's Errors")
        self._timeouts = meter.create_counter("faas.timeouts", "{timeout}", "Invocations that timed out")
        self._cold_starts = meter.create_counter("faas.coldstarts", "{coldstart}", "Cold starts")
        self._throttles = meter.create_counter(
            "aws.lambda.throttles", "{invocation}", "CloudWatch's Throttles"
        )
        self._duration = meter.create_histogram("faas.invoke_duration", "s", "CloudWatch's Duration")
        self._init = meter.create_histogram("faas.init_duration", "s", "Duration of cold starts")
        self._memory = meter.create_histogram("faas.mem_usage", "By", "Memory that the process held at most")
        self._concurrent = meter.create_gauge(
            "aws.lambda.concurrent_executions", "{invocation}", "CloudWatch's ConcurrentExecutions"
        )

    def began(self, function: str, concurrent: int) -> None:
        """See Listener."""
        self._concurrent.set(concurrent, {"faas.name": function})

    def throttled(self, function: str) -> None:
        """See Listener."""
        self._throttles.add(1, {"faas.name": function})

    def ended(self, end: InvocationEnd) -> None:
        """See Listener."""
        of = {"faas.name": end.function}
        self._invocations.add(1, of)
        self._duration.record(end.duration_ms / 1000, of)
        self._memory.record(end.peak_mb * _MIB, of)
        if end.init_ms is not None:
            self._cold_starts.add(1, of)
            self._init.record(end.init_ms / 1000, of)
        if end.error_type:
            self._errors.add(1, of)
        if end.error_type == _TIMED_OUT:
            self._timeouts.add(1, of)

    def close(self) -> None:
        """Export what was counted since the last time; blocks."""
        self._provider.shutdown(timeout_millis=5000)


def open_otlp(environ: Mapping[str, str]) -> list[Spans | Metrics]:
    """Return what the environment asks for; an exporter of another name is named in the log."""
    opened: list[Spans | Metrics] = []
    if wanted := _known(exporters(environ, "TRACES"), "TRACES"):
        opened.append(Spans(_tracer_provider(wanted, environ)))
    if wanted := _known(exporters(environ, "METRICS"), "METRICS"):
        opened.append(Metrics(_meter_provider(wanted, environ)))
    return opened


def _known(names: tuple[str, ...], signal: str) -> list[str]:
    for name in names:
        if name not in ("otlp", "console"):
            logger.warning(
                "no exporter is called %s: set OTEL_%s_EXPORTER to otlp, console or none", name, signal
            )
    return [name for name in names if name in ("otlp", "console")]


def _resource(environ: Mapping[str, str]) -> Any:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see the module

    return Resource.create({"service.name": environ.get("OTEL_SERVICE_NAME") or _SERVICE})


def _tracer_provider(names: list[str], environ: Mapping[str, str]) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - see the module
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - the same
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415 - the same

    provider = TracerProvider(resource=_resource(environ), shutdown_on_exit=False)
    for name in names:
        exporter = ConsoleSpanExporter() if name == "console" else OTLPSpanExporter()
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _meter_provider(names: list[str], environ: Mapping[str, str]) -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - see the module
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - the same
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - the same
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )

    readers = [
        PeriodicExportingMetricReader(ConsoleMetricExporter() if name == "console" else OTLPMetricExporter())
        for name in names
    ]
    return MeterProvider(readers, resource=_resource(environ), shutdown_on_exit=False)


def _context(trace_header: str) -> Any:
    """Return the caller's context; an empty one, for a trace of its own, where there is none."""
    from opentelemetry.context import Context  # noqa: PLC0415 - see the module
    from opentelemetry.trace import (  # noqa: PLC0415 - the same
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    caller = caller_of(trace_header)
    if caller is None:
        return Context()
    trace_id, span_id, is_sampled = caller
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return set_span_in_context(
        NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)), Context()
    )


def _attributes(end: InvocationEnd) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "faas.name": end.function,
        "faas.version": end.version,
        "faas.invocation_id": end.request_id,
        "faas.coldstart": end.init_ms is not None,
        "faas.max_memory": end.memory_mb * _MIB,
        "aws.lambda.invoked_arn": end.arn,
        "aws.lambda.duration_ms": end.duration_ms,
        "aws.lambda.max_memory_used_mb": end.peak_mb,
    }
    if end.init_ms is not None:
        attributes["aws.lambda.init_duration_ms"] = end.init_ms
    return attributes
