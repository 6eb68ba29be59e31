"""Spans and metrics reach a collector over OTLP when the standard variables name one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fakes.http_thread import serving
from tests.fakes.otlp_collector import Collector
from tidemill_poller.reporting.metrics import open_metrics
from tidemill_poller.reporting.tracing import open_tracing


@dataclass(frozen=True)
class Mapped:
    uuid: str = "0b4f12a8"
    function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:delays"
    consumer_group_id: str = "group"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    taking = Collector()
    with serving(taking.application) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        yield taking


async def test_a_delivery_is_exported_with_the_service_s_name(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "poller-7")
    import os  # noqa: PLC0415 - the environment of this very test

    tracing = open_tracing(os.environ)
    with (
        tracing.process(
            mapping=Mapped(),
            topic="flights",
            partition=0,
            first_offset=1,
            last_offset=2,
            record_count=2,
            payload_bytes=10,
            closed_by="size",
            filtered=0,
            headers=(),
        ) as delivery,
        delivery.commit(offset=3),
    ):
        pass
    await asyncio.to_thread(tracing.close)
    resource = collector.traces[0].resource_spans[0]
    assert [span.name for span in resource.scope_spans[0].spans] == ["commit flights", "process flights"]
    names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert names["service.name"] == "poller-7"


async def test_counts_are_exported_at_close_at_the_latest(collector: Collector) -> None:
    import os  # noqa: PLC0415 - the environment of this very test

    metrics = open_metrics(os.environ)
    metrics.count("esm.events.polled", 5, mapping="0b4f12a8")
    await asyncio.to_thread(metrics.close)
    scope = collector.metrics[0].resource_metrics[0].scope_metrics[0]
    [polled] = [metric for metric in scope.metrics if metric.name == "esm.events.polled"]
    assert polled.sum.data_points[0].as_int == 5 or polled.sum.data_points[0].as_double == 5


def test_without_the_variables_the_sdk_is_not_even_imported() -> None:
    code = (
        "import sys\n"
        "from tidemill_poller.reporting.tracing import open_tracing\n"
        "from tidemill_poller.reporting.metrics import open_metrics\n"
        "assert not open_tracing({}).enabled\n"
        "open_metrics({}).count('esm.events.polled', 1, mapping='a')\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.strip() == "[]"
