"""The poller's metrics: what AWS counts of an event source mapping, under OpenTelemetry's kind of names.

Owns the names, the counts in memory and their export. One addition to a dictionary per call: with OTLP
configured the SDK reads the same tables when it exports, so that the hot path costs the same with and without
it. Called by lanes and sources on the event loop; read by status routes.

See docs/decisions/0702.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

logger = logging.getLogger(__name__)

CounterName = Literal[
    "esm.events.polled",
    "esm.events.filtered_out",
    "esm.events.invoked",
    "esm.events.failed_invoke",
    "esm.events.dropped",
    "esm.events.delivered_to_destination",
    "esm.events.committed",
    "esm.invocations",
    "esm.errors.polling",
    "esm.errors.invoke",
    "esm.errors.throttled",
    "esm.errors.destination",
    "esm.errors.commit",
    "esm.rebalances",
]
GaugeName = Literal[
    "esm.offset_lag.max",
    "esm.offset_lag.sum",
    "esm.pollers",
    "esm.partition.blocked_s",
]
MetricName = CounterName | GaugeName

# Name -> meaning; docs/operations.md lists these, and the SDK exports them as descriptions. AWS's names are
# those of "Monitoring event source mappings" (EventCount, ErrorCount and KafkaMetrics groups).
COUNTERS: Final[Mapping[CounterName, str]] = {
    "esm.events.polled": "Records read from Kafka; AWS's PolledEventCount",
    "esm.events.filtered_out": "Records that the filter criteria left out; AWS's FilteredOutEventCount",
    "esm.events.invoked": "Records sent to the function, again at each retry; AWS's InvokedEventCount",
    "esm.events.failed_invoke": "Records whose invocation failed, even in part; AWS's FailedInvokeEventCount",
    "esm.events.dropped": "Records given up that are in no destination; AWS's DroppedEventCount",
    "esm.events.delivered_to_destination": (
        "Records in failure records that a destination took; AWS's OnFailureDestinationDeliveredEventCount"
    ),
    "esm.events.committed": "Offsets that commits moved forward; AWS's CommittedEventCount",
    "esm.invocations": "Invocations, again at each retry and for each half; Lambda's own Invocations",
    "esm.errors.polling": "Polls and joins of the group that failed; AWS's PollingErrorCount",
    "esm.errors.invoke": "Invocations that failed or did not reach the function; AWS's InvokeErrorCount",
    "esm.errors.throttled": "Invocations that Lambda refused with 429; part of AWS's InvokeErrorCount",
    "esm.errors.destination": "Sends that failed; AWS's OnFailureDestinationDeliveryErrorCount",
    "esm.errors.commit": "Offset commits that failed; AWS's CommitErrorCount",
    "esm.rebalances": "Assignments of partitions that this poller has been given",
}
GAUGES: Final[Mapping[GaugeName, str]] = {
    "esm.offset_lag.max": "Records waiting in the partition that is furthest behind; AWS's MaxOffsetLag",
    "esm.offset_lag.sum": "Records waiting in all partitions; AWS's SumOffsetLag",
    "esm.pollers": "Members of the consumer group that this process runs; AWS's ProvisionedPollers",
    "esm.partition.blocked_s": "Seconds that the longest blocked partition has been retrying or holding",
}

_Labels = tuple[tuple[str, str], ...]
_Table = dict[tuple[str, _Labels], float]

MAPPING_ATTRIBUTE: Final = "aws.lambda.resource_mapping.id"


class Metrics:
    """Counts and gauges of this process. Every set of attributes is kept: they must have few values."""

    __slots__ = ("_counts", "_gauges", "_provider")

    def __init__(self) -> None:
        self._counts: dict[CounterName, _Table] = {name: {} for name in COUNTERS}
        self._gauges: dict[GaugeName, _Table] = {name: {} for name in GAUGES}
        self._provider: Any = None

    def count(self, name: CounterName, value: int = 1, *, mapping: str, **attributes: str) -> None:
        """Add to a counter of one mapping (its UUID)."""
        table = self._counts[name]
        key = (mapping, tuple(sorted(attributes.items())) if attributes else ())
        table[key] = table.get(key, 0) + value

    def gauge(self, name: GaugeName, value: float, *, mapping: str, **attributes: str) -> None:
        """Set a gauge of one mapping."""
        self._gauges[name][mapping, tuple(sorted(attributes.items()))] = value

    def of(self, mapping: str) -> dict[str, float]:
        """All values of one mapping by name; counters summed over attributes, of gauges the highest."""
        values: dict[str, float] = {}
        for counter, table in self._counts.items():
            values[counter] = sum(value for (uuid, _), value in table.items() if uuid == mapping)
        for gauge, table in self._gauges.items():
            found = [value for (uuid, _), value in table.items() if uuid == mapping]
            if found:
                values[gauge] = max(found)
        return values

    def forget(self, mapping: str) -> None:
        """Let go of a deleted mapping's values."""
        for table in (*self._counts.values(), *self._gauges.values()):
            for key in [key for key in table if key[0] == mapping]:
                del table[key]

    def export(self, provider: Any) -> None:
        """Let the SDK read the tables whenever it collects; counters are cumulative.

        `provider` is the SDK's MeterProvider, untyped because the import is for those who export.
        """
        meter = provider.get_meter("tidemill.poller")
        for counter, meaning in COUNTERS.items():
            read = _reader(self._counts[counter])
            meter.create_observable_counter(counter, [read], unit="{event}", description=meaning)
        for gauge, meaning in GAUGES.items():
            read = _reader(self._gauges[gauge])
            meter.create_observable_gauge(gauge, [read], unit=_unit(gauge), description=meaning)
        self._provider = provider

    def close(self) -> None:
        """Export what was counted since the last time. Blocks for seconds: call it in a thread."""
        if self._provider is not None:
            self._provider.shutdown(timeout_millis=5000)


def open_metrics(environ: Mapping[str, str]) -> Metrics:
    """Metrics, exported if `environ` asks for it (OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT, …)."""
    metrics = Metrics()
    exporters = metric_exporters(environ)
    unknown = [name for name in exporters if name not in ("otlp", "console")]
    if unknown:
        logger.warning(
            "no metric exporter is called %s: set OTEL_METRICS_EXPORTER to otlp, console or none", unknown[0]
        )
    readers = [_metric_reader(name) for name in exporters if name not in unknown]
    if readers:
        # Imported by those who export only: the SDK costs a tenth of a second at start.
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - see above
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see above

        service = environ.get("OTEL_SERVICE_NAME") or "tidemill-poller"
        resource = Resource.create({"service.name": service})
        metrics.export(MeterProvider(readers, resource=resource, shutdown_on_exit=False))
    return metrics


def metric_exporters(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the exporters asked for; read as `tracing.span_exporters` reads those of traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    named = environ.get("OTEL_METRICS_EXPORTER", "").strip().lower()
    if named:
        return tuple(name for name in (part.strip() for part in named.split(",")) if name not in ("", "none"))
    endpoints = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return ("otlp",) if any(environ.get(name) for name in endpoints) else ()


def _metric_reader(exporter: str) -> Any:
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 - see open_metrics
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )

    if exporter == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter())
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - the same
        OTLPMetricExporter,
    )

    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _reader(table: _Table) -> Callable[[Any], Iterable[Any]]:
    def read(_: Any) -> Iterable[Any]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - see open_metrics

        # The SDK collects in a thread of its own: list() copies the table in one step of the interpreter.
        for (mapping, labels), value in list(table.items()):
            yield Observation(value, {MAPPING_ATTRIBUTE: mapping, **dict(labels)})

    return read


def _unit(gauge: GaugeName) -> str:
    return "s" if gauge.endswith("_s") else "{event}"
