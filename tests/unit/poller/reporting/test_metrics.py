"""Counts are kept by mapping, read in memory, and named once."""

from __future__ import annotations

from typing import get_args

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from tidemill_poller.reporting.metrics import (
    COUNTERS,
    GAUGES,
    CounterName,
    GaugeName,
    Metrics,
    metric_exporters,
    open_metrics,
)


def test_every_name_has_a_meaning() -> None:
    assert set(COUNTERS) == set(get_args(CounterName))
    assert set(GAUGES) == set(get_args(GaugeName))
    assert all(meaning[0].isupper() for meaning in (*COUNTERS.values(), *GAUGES.values()))


def test_counters_add_up_and_gauges_hold_the_last_value() -> None:
    metrics = Metrics()
    metrics.count("esm.events.polled", 100, mapping="a")
    metrics.count("esm.events.polled", 20, mapping="a", topic="orders")
    metrics.count("esm.events.polled", mapping="b")
    metrics.gauge("esm.offset_lag.max", 9, mapping="a")
    metrics.gauge("esm.offset_lag.max", 4, mapping="a")
    values = metrics.of("a")
    assert values["esm.events.polled"] == 120
    assert values["esm.offset_lag.max"] == 4
    assert values["esm.events.dropped"] == 0
    assert "esm.pollers" not in values
    assert metrics.of("b")["esm.events.polled"] == 1


def test_a_gauge_with_attributes_is_read_as_its_highest() -> None:
    metrics = Metrics()
    metrics.gauge("esm.partition.blocked_s", 3, mapping="a", partition="orders-0")
    metrics.gauge("esm.partition.blocked_s", 60, mapping="a", partition="orders-1")
    assert metrics.of("a")["esm.partition.blocked_s"] == 60


def test_a_forgotten_mapping_leaves_nothing() -> None:
    metrics = Metrics()
    metrics.count("esm.events.polled", 100, mapping="a")
    metrics.gauge("esm.pollers", 2, mapping="a")
    metrics.count("esm.events.polled", 7, mapping="b")
    metrics.forget("a")
    assert not any(metrics.of("a").values())
    assert metrics.of("b")["esm.events.polled"] == 7


def test_the_sdk_reads_what_was_counted() -> None:
    reader = InMemoryMetricReader()
    metrics = Metrics()
    metrics.export(MeterProvider([reader], shutdown_on_exit=False))
    metrics.count("esm.events.polled", 100, mapping="a", topic="orders")
    metrics.gauge("esm.partition.blocked_s", 5, mapping="a")
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name: (metric.unit, metric.description, list(metric.data.data_points))
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    unit, description, [point] = found["esm.events.polled"]
    assert isinstance(point, NumberDataPoint)
    assert (unit, description) == ("{event}", COUNTERS["esm.events.polled"])
    assert dict(point.attributes or {}) == {"aws.lambda.resource_mapping.id": "a", "topic": "orders"}
    assert point.value == 100
    assert found["esm.partition.blocked_s"][0] == "s"
    metrics.close()


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ()),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, ()),
        ({"OTEL_METRICS_EXPORTER": "console,otlp"}, ("console", "otlp")),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_METRICS_EXPORTER": "otlp"}, ()),
    ],
)
def test_the_standard_variables_decide_on_exporters(
    environ: dict[str, str], exporters: tuple[str, ...]
) -> None:
    assert metric_exporters(environ) == exporters


def test_an_unknown_exporter_is_named_in_the_log_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = open_metrics({"OTEL_METRICS_EXPORTER": "prometheus"})
    assert "prometheus: set OTEL_METRICS_EXPORTER to otlp, console or none" in caplog.text
    metrics.close()
