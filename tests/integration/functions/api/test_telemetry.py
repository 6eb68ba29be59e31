"""Spans and metrics of invocations: by OTLP, and in CloudWatch under Lambda's names."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.fakes.http_thread import serving
from tests.fakes.otlp_collector import Collector
from tests.harness.functions_server import running
from tests.harness.moto_aws import Aws, environment

FAILS = "def handler(event, context):\n    if event:\n        raise ValueError(event)\n"
TRACE, PARENT = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    taking = Collector()
    with serving(taking.application) as url:
        yield taking, url


def spans(collector: Collector) -> list[Any]:
    return [
        span
        for request in collector.traces
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def test_a_span_is_a_child_of_the_callers_and_says_how_it_went(
    tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    taking, url = collector
    with running(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": url}) as server:
        server.create("orders", FAILS)
        request = urllib.request.Request(
            f"{server.url}/2015-03-31/functions/orders/invocations",
            data=b"null",
            headers={"X-Amzn-Trace-Id": f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={PARENT};Sampled=1"},
        )
        urllib.request.urlopen(request, timeout=30).close()
        server.invoke("orders", "no such order")
    called, init, failed = sorted(
        spans(taking), key=lambda span: (span.trace_id.hex() != TRACE, span.name == "init")
    )
    assert (called.name, called.trace_id.hex(), called.parent_span_id.hex()) == ("orders", TRACE, PARENT)
    assert (init.name, init.parent_span_id) == ("init", called.span_id)
    assert called.start_time_unix_nano == init.start_time_unix_nano < init.end_time_unix_nano
    about = attributes(called)
    assert (about["faas.name"], about["faas.coldstart"], about["faas.version"]) == ("orders", True, "$LATEST")
    assert about["aws.lambda.init_duration_ms"] > 0
    assert about["aws.lambda.duration_ms"] > 0
    assert about["aws.lambda.max_memory_used_mb"] > 0
    assert (failed.parent_span_id, attributes(failed)["error.type"]) == (b"", "ValueError")
    assert (failed.status.code, attributes(failed)["faas.coldstart"]) == (2, False)

    metrics = {
        metric.name: metric
        for request in taking.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert metrics["faas.invocations"].sum.data_points[0].as_int == 2
    assert metrics["faas.errors"].sum.data_points[0].as_int == 1
    assert metrics["faas.coldstarts"].sum.data_points[0].as_int == 1
    assert metrics["faas.invoke_duration"].histogram.data_points[0].count == 2
    assert "aws.lambda.concurrent_executions" in metrics


def test_metrics_have_cloudwatchs_names_where_a_setting_asks_for_them(tmp_path: Path, aws: Aws) -> None:
    settings = environment(aws.url) | {"TIDEMILL_FUNCTIONS_CLOUDWATCH_METRICS": "AWS/Lambda"}
    with running(tmp_path, settings) as server:
        server.create("measured", FAILS)
        server.invoke("measured")
        server.invoke("measured", "fail")
        server.client.put_function_concurrency(FunctionName="measured", ReservedConcurrentExecutions=0)
        with pytest.raises(ClientError, match="TooManyRequestsException"):
            server.invoke("measured")
    now = datetime.now(UTC)

    def read(name: str, statistic: str) -> float:
        found = aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=name,
            Dimensions=[{"Name": "FunctionName", "Value": "measured"}],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=7200,
            Statistics=[statistic],
        )["Datapoints"]
        total: float = found[0][statistic]
        return total

    counted = {name: read(name, "Sum") for name in ("Invocations", "Errors", "Throttles")}
    assert counted == {"Invocations": 2, "Errors": 1, "Throttles": 1}
    assert read("ConcurrentExecutions", "Maximum") == 1
    assert read("Duration", "Maximum") > 0
