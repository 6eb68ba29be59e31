"""Which tracing the environment asks for: none, or one that records.

Reads OpenTelemetry's standard variables. The SDK is imported only by a process that records.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidemill_poller.reporting.tracing.spans import NO_TRACING, Tracing


def open_tracing(environ: Mapping[str, str], *, recent_deliveries: int = 0) -> Tracing:
    """Tracing as OpenTelemetry's standard variables ask for it.

    `environ` decides whether spans are exported (OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_SDK_DISABLED); how is read by the SDK from the process's own
    environment. `recent_deliveries` is how many trees are kept in memory, 0 for none. An exporter that is not
    installed is refused by a line in the log: telemetry never stops deliveries.
    """
    exporters = span_exporters(environ)
    if not exporters and recent_deliveries <= 0:
        return NO_TRACING
    from tidemill_poller.reporting.tracing.recorded import record  # noqa: PLC0415 - the SDK is paid for by those who use it

    return record(exporters, environ=environ, recent_deliveries=recent_deliveries)


def span_exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the exporters that the environment asks for: `otlp`, `console`.

    The specification's default is `otlp` to localhost; like Lambda's own runtimes we take an endpoint or a
    named exporter as the wish to export, so that a poller without a collector stays silent.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if named:
        return tuple(name for name in (part.strip() for part in named.split(",")) if name not in ("", "none"))
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return ("otlp",) if any(environ.get(name) for name in endpoints) else ()
