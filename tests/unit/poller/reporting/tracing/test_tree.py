"""A delivery's spans tell its whole story, and so does the text made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tidemill_poller.reporting.tracing import NO_TRACING, Delivery, open_tracing, span_exporters
from tidemill_poller.reporting.tracing.producers import LINKS_MAX, producer_contexts
from tidemill_poller.reporting.tracing.recent import RecentDeliveries
from tidemill_poller.reporting.tracing.recorded import RecordedTracing
from tidemill_poller.reporting.tracing.recorded_delivery import CALLS_PER_TRACE, TRACE_AGE_MAX_S
from tidemill_poller.reporting.tracing.tree import render_tree

QUEUE = "arn:aws:sqs:us-east-1:123456789012:failed"
HEAD = "flights-3 [100-199], 100 records, 51.2 kB, closed by size, to delays:live"


@dataclass(frozen=True)
class Mapped:
    uuid: str = "0b4f12a8"
    function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:delays:live"
    consumer_group_id: str = "group"


class Bench:
    """Tracing with everything it made at hand, and a clock that moves when told."""

    def __init__(self, *, count_max: int = 16, bytes_max: int = 10**9) -> None:
        self.now_s = 0.0
        self.exported = InMemorySpanExporter()
        self.recent = RecentDeliveries(count_max, bytes_max=bytes_max)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exported))
        provider.add_span_processor(self.recent)
        self.tracing = RecordedTracing(provider, recent=self.recent, exports=True, clock=lambda: self.now_s)

    def process(
        self,
        headers: Iterable[Sequence[tuple[str, bytes]]] = (),
        *,
        mapping: Mapped = Mapped(),
        first: int = 100,
        last: int = 199,
        filtered: int = 0,
    ) -> Delivery:
        return self.tracing.process(
            mapping=mapping,
            topic="flights",
            partition=3,
            first_offset=first,
            last_offset=last,
            record_count=last - first + 1,
            payload_bytes=51_234,
            closed_by="size",
            filtered=filtered,
            headers=headers,
        )

    def commit(self, batch: Delivery) -> None:
        with batch.commit(offset=200):
            pass

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exported.get_finished_spans()}

    def text(self, mapping: Mapped = Mapped()) -> str:
        trees = self.recent.deliveries(mapping.uuid)
        return re.sub(r"\d+(\.\d+)? (ms|s)\b", "T", render_tree(trees[0]["spans"]))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def attempt(node: Delivery, number: int, first: int, last: int, error: str | None = None) -> None:
    with node.invoke(attempt=number, first_offset=first, last_offset=last) as step:
        step.request_id(f"r-{number}")
        if error is not None:
            step.failed("ValueError", error)


def poisoned(bench: Bench, *, dropped: bool = False) -> None:
    """A batch of 100 with one poison record, bisected down to it."""
    with bench.process() as batch:
        attempt(batch, 1, 100, 199, "no departure time")
        with batch.split(kind="bisect", first_offset=100, last_offset=149, depth=1) as half:
            attempt(half, 1, 100, 149)
        with batch.split(kind="bisect", first_offset=150, last_offset=199, depth=1) as half:
            attempt(half, 1, 150, 199, "no departure time")
            with half.split(kind="bisect", first_offset=150, last_offset=150, depth=2) as single:
                for number in (1, 2, 3):
                    attempt(single, number, 150, 150, "no departure time")
                    single.retry_scheduled(delay_s=0.1, attempt=number + 1)
                single.poison()
                if dropped:
                    single.dropped(1)
                else:
                    with single.send(destination=QUEUE, condition="RetryAttemptsExhausted"):
                        pass
            with half.split(kind="bisect", first_offset=151, last_offset=199, depth=2) as rest:
                attempt(rest, 1, 151, 199)
        with batch.commit(offset=200):
            pass


def test_the_spans_of_a_delivery_are_one_trace_with_the_batch_as_root(bench: Bench) -> None:
    poisoned(bench)
    spans = bench.exported.get_finished_spans()
    roots = [span for span in spans if span.parent is None]
    assert [root.name for root in roots] == ["process flights"]
    assert {span.context.trace_id for span in spans if span.context} == {roots[0].context.trace_id}
    assert {span.name for span in spans} == {
        "process flights",
        "invoke delays:live #1",
        "invoke delays:live #2",
        "invoke delays:live #3",
        "retry [100-149]",
        "retry [150-199]",
        "retry [150-150]",
        "retry [151-199]",
        "send failed",
        "commit flights",
    }


def test_the_attributes_are_those_of_the_conventions(bench: Bench) -> None:
    poisoned(bench)
    spans = bench.spans()
    root = spans["process flights"]
    assert root.kind is SpanKind.CONSUMER
    assert dict(root.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "flights",
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "group",
        "messaging.batch.message_count": 100,
        "aws.lambda.resource_mapping.id": "0b4f12a8",
        "faas.invoked_name": "delays:live",
        "esm.offset.first": 100,
        "esm.offset.last": 199,
        "esm.payload.bytes": 51_234,
        "esm.window.closed_by": "size",
        "esm.filtered": 0,
        "esm.retried": True,
        "esm.sent_to_destination": 1,
    }
    third = spans["invoke delays:live #3"]
    assert third.kind is SpanKind.CLIENT
    assert dict(third.attributes or {}) == {
        "faas.invoked_name": "delays:live",
        "faas.invoked_provider": "aws",
        "faas.invoked_region": "us-east-1",
        "esm.attempt": 3,
        "esm.offset.first": 150,
        "esm.offset.last": 150,
        "aws.request_id": "r-3",
        "error.type": "ValueError",
    }
    assert spans["retry [150-150]"].attributes == {
        "esm.split": "bisect",
        "esm.bisect.depth": 2,
        "esm.offset.first": 150,
        "esm.offset.last": 150,
        "esm.poison": True,
    }
    assert spans["send failed"].kind is SpanKind.PRODUCER
    assert (spans["commit flights"].attributes or {})["esm.offset.committed"] == 200


def test_a_delivery_that_lost_nothing_is_ok_however_often_it_failed(bench: Bench) -> None:
    poisoned(bench)
    assert bench.spans()["process flights"].status.status_code.name == "OK"


def test_a_delivery_that_dropped_records_is_an_error(bench: Bench) -> None:
    poisoned(bench, dropped=True)
    root = bench.spans()["process flights"]
    assert root.status.status_code.name == "ERROR"
    assert (root.attributes or {})["esm.dropped"] == 1


def test_a_clean_delivery_carries_no_sign_of_trouble(bench: Bench) -> None:
    with bench.process() as batch:
        attempt(batch, 1, 100, 199)
        bench.commit(batch)
    assert not {"esm.retried", "esm.dropped", "esm.interrupted"} & set(
        bench.spans()["process flights"].attributes or {}
    )


def test_a_revoked_delivery_says_that_it_was_interrupted(bench: Bench) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        bench.process() as batch,
        batch.invoke(attempt=1, first_offset=1, last_offset=2),
    ):
        raise KeyboardInterrupt
    spans = bench.spans()
    assert (spans["process flights"].attributes or {})["esm.interrupted"] == "KeyboardInterrupt"
    assert (spans["invoke delays:live #1"].attributes or {})["error.type"] == "KeyboardInterrupt"


def test_a_delivery_that_ends_without_a_commit_is_neither_done_nor_lost(bench: Bench) -> None:
    with bench.process() as batch:
        attempt(batch, 1, 100, 199, "down")
        batch.retry_scheduled(delay_s=60, attempt=2)
    root = bench.spans()["process flights"]
    assert root.status.status_code.name == "UNSET"
    assert bench.text().splitlines()[0].endswith("T: interrupted (closed)")
    assert bench.text().splitlines()[-1] == "└─ stopped here; the next owner of the partition goes on"


def test_the_function_s_side_is_told_where_it_belongs(bench: Bench) -> None:
    with bench.process() as batch, batch.invoke(attempt=1, first_offset=1, last_offset=2) as step:
        headers = step.headers
    context = bench.spans()["invoke delays:live #1"].context
    assert context is not None
    trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
    assert headers["traceparent"] == f"00-{trace_id}-{span_id}-01"
    assert headers["X-Amzn-Trace-Id"] == (f"Root=1-{trace_id[:8]}-{trace_id[8:]};Parent={span_id};Sampled=1")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("traceparent", b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", True),
        ("b3", b"0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", True),
        ("X-Amzn-Trace-Id", b"Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331", True),
        (
            "x-amzn-trace-id",
            b"Sampled=1;Parent=b7ad6b7169203331;Root=1-0af76519-16cd43dd8448eb211c80319c",
            True,
        ),
        ("traceparent", b"00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("traceparent", b"garbage\xff", False),
        ("traceparent", b"", False),
        ("traceparent", None, False),
        ("x-amzn-trace-id", b"Root=1-0af76519-16cd43dd8448eb211c80319c", False),
        ("other", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
    ],
)
def test_producers_contexts_are_read_from_what_is_one(name: str, value: Any, *, expected: bool) -> None:
    contexts, _ = producer_contexts([[(name, value)]])
    assert [(c.trace_id, c.span_id) for c in contexts] == (
        [(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)] if expected else []
    )


def test_each_producer_trace_is_linked_once_and_no_more_than_the_limit(bench: Bench) -> None:
    def header(number: int) -> list[tuple[str, bytes]]:
        return [("traceparent", f"00-{number:032x}-{7:016x}-01".encode())]

    records = [header(number % 200 + 1) for number in range(1000)]
    with bench.process(records):
        pass
    root = bench.spans()["process flights"]
    assert [link.context.trace_id for link in root.links] == list(range(1, LINKS_MAX + 1))
    assert (root.attributes or {})["esm.links.dropped"] == 200 - LINKS_MAX
    shown = (root.attributes or {})["esm.producer.trace_ids"]
    assert isinstance(shown, tuple)
    assert shown[0] == f"{1:032x}"


def test_a_delivery_with_many_attempts_goes_on_in_a_linked_trace(bench: Bench) -> None:
    with bench.process() as batch:
        with batch.split(kind="bisect", first_offset=100, last_offset=149, depth=1) as half:
            for number in range(1, CALLS_PER_TRACE + 2):
                attempt(half, number, 100, 149, "down")
        with batch.commit(offset=200):
            pass
    roots = [span for span in bench.exported.get_finished_spans() if span.name == "process flights"]
    first, second = sorted(roots, key=lambda span: span.start_time or 0)
    assert (first.attributes or {})["esm.continued"] is True
    assert (second.attributes or {})["esm.trace.part"] == 2
    assert second.links[0].context == first.context
    parts = [span for span in bench.exported.get_finished_spans() if span.name == "retry [100-149]"]
    assert {span.parent.span_id for span in parts if span.parent} == {
        root.context.span_id for root in roots if root.context
    }
    assert "goes on in a later trace" in render_tree(bench.recent.deliveries("0b4f12a8")[1]["spans"])


def test_a_delivery_held_for_long_goes_on_in_a_linked_trace(bench: Bench) -> None:
    with bench.process() as batch:
        with batch.send(destination=QUEUE, condition="RetryAttemptsExhausted") as step:
            step.failed("DestinationUnavailable", "no such queue")
        bench.now_s += TRACE_AGE_MAX_S
        with batch.send(destination=QUEUE, condition="RetryAttemptsExhausted"):
            pass
    ends = [s for s in bench.exported.get_finished_spans() if s.parent is None]
    assert [(span.attributes or {}).get("esm.sent_to_destination") for span in ends] == [None, 1]


def test_polls_leave_a_span_when_records_came(bench: Bench) -> None:
    bench.tracing.poll(topic="flights", group="group", records=0, bytes=0)
    bench.tracing.poll(topic="flights", group="group", records=7, bytes=700)
    assert list(bench.spans()) == ["poll flights"]
    assert (bench.spans()["poll flights"].attributes or {})["messaging.batch.message_count"] == 7


def test_off_costs_one_shared_object() -> None:
    assert open_tracing({}) is NO_TRACING
    assert not NO_TRACING.enabled
    delivery = Bench.process(type("Off", (), {"tracing": NO_TRACING})())
    with delivery, delivery.split(kind="partial", first_offset=1, last_offset=2, depth=1) as part:
        with part.invoke(attempt=1, first_offset=1, last_offset=2) as step:
            assert dict(step.headers) == {}
        assert part is delivery


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_TRACES_EXPORTER": "otlp, console"}, ("otlp", "console")),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, ()),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "otlp"}, ()),
    ],
)
def test_the_standard_variables_decide_on_exporters(
    environ: dict[str, str], exporters: tuple[str, ...]
) -> None:
    assert span_exporters(environ) == exporters


def test_an_unknown_exporter_is_named_in_the_log_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracing = open_tracing({"OTEL_TRACES_EXPORTER": "zipkin"}, recent_deliveries=1)
    assert "zipkin: set OTEL_TRACES_EXPORTER to otlp, console or none" in caplog.text
    assert tracing.recent is not None


def test_the_text_of_a_bisected_batch_reads_from_top_to_bottom(bench: Bench) -> None:
    poisoned(bench)
    assert bench.text().splitlines() == [
        f"✓ {HEAD}, T: 1 failure record sent",
        "├─ ✗ attempt 1  T  ValueError: no departure time",
        "├─ ✓ half [100-149]  T",
        "├─ · half [150-199]  T",
        "│  ├─ ✗ attempt 1  T  ValueError again",
        "│  ├─ ✗ half [150]  T  POISON",
        "│  │  ├─ ✗ attempts 1-3  T the last  ValueError again  (request r-3)",
        f"│  │  └─ ✓ RetryAttemptsExhausted -> {QUEUE}  T",
        "│  └─ ✓ half [151-199]  T",
        "└─ ✓ commit 200  T",
    ]


def test_the_text_of_a_loss_says_so_in_its_first_line(bench: Bench) -> None:
    poisoned(bench, dropped=True)
    lines = bench.text().splitlines()
    assert lines[0].startswith("✗ flights-3 [100-199]")
    assert lines[0].endswith("1 record DROPPED, in no destination")
    assert any(line.endswith("POISON  1 record DROPPED") for line in lines)


def test_the_text_of_a_running_delivery_says_what_it_waits_for(bench: Bench) -> None:
    batch = bench.process(filtered=12)
    attempt(batch, 1, 100, 199, "down")
    batch.retry_scheduled(delay_s=4, attempt=2)
    assert bench.text().splitlines() == [
        f"… {HEAD.replace('records', 'records, 12 filtered out')}, still running: running",
        "├─ ✗ attempt 1  T  ValueError: down",
        "└─ … attempt 2 follows T after that",
    ]
    step = batch.invoke(attempt=2, first_offset=100, last_offset=199)
    assert bench.text().splitlines()[-1] == "└─ … attempt 2  still running"
    step.__exit__(None, None, None)
    bench.commit(batch)
    batch.__exit__(None, None, None)
    assert bench.text().splitlines()[0].endswith("T: delivered after retries")


def test_the_text_of_a_partial_response_shows_what_was_left(bench: Bench) -> None:
    with bench.process() as batch:
        attempt(batch, 1, 100, 199, "3 of 100 records failed")
        with batch.split(kind="partial", first_offset=120, last_offset=180, depth=1) as rest:
            attempt(rest, 2, 120, 180)
        bench.commit(batch)
    assert bench.text().splitlines()[1:] == [
        "├─ ✗ attempt 1  T  ValueError: 3 of 100 records failed",
        "├─ ✓ rest [120-180]  T",
        "└─ ✓ commit 200  T",
    ]


def test_the_text_of_a_held_partition_says_that_nothing_was_sent(bench: Bench) -> None:
    send = {"destination": QUEUE, "condition": "RetryAttemptsExhausted"}
    with bench.process() as batch, batch.send(**send) as step:
        step.failed("DestinationUnavailable", "no such\nqueue")
    assert bench.text().splitlines()[1] == (
        f"├─ ✗ RetryAttemptsExhausted -> {QUEUE}  T  NOT sent: DestinationUnavailable: no such queue"
    )


def test_a_tree_without_its_root_is_shown_all_the_same(bench: Bench) -> None:
    poisoned(bench)
    spans = bench.recent.deliveries("0b4f12a8")[0]["spans"]
    assert render_tree(spans[5:])
    assert render_tree([]) == ""


def test_trouble_is_kept_when_clean_deliveries_pass_by() -> None:
    bench = Bench(count_max=8)
    poisoned(bench)
    for first in range(1000, 1100):
        with bench.process(first=first, last=first) as batch:
            bench.commit(batch)
    kept = [tree["spans"][0]["attributes"] for tree in bench.recent.deliveries("0b4f12a8")]
    assert [about["esm.offset.first"] for about in kept] == [1099, 1098, 100]


def test_the_buffer_is_bounded_in_number_and_in_bytes() -> None:
    for bench, limit in ((Bench(count_max=8), 6), (Bench(count_max=1000, bytes_max=200_000), 10)):
        for _ in range(50):
            poisoned(bench)
        assert 0 < len(bench.recent.deliveries("0b4f12a8")) <= limit


def test_deliveries_are_told_apart_by_mapping_and_running_ones_are_shown(bench: Bench) -> None:
    other = Mapped(uuid="other")
    with bench.process():
        pass
    with bench.process(mapping=other):
        pass
    running = bench.process(mapping=other)
    assert [tree["running"] for tree in bench.recent.deliveries("other")] == [True, False]
    assert len(bench.recent.deliveries("0b4f12a8")) == 1
    running.__exit__(None, None, None)
    assert [tree["running"] for tree in bench.recent.deliveries("other")] == [False, False]


def test_a_buffer_without_an_exporter_keeps_every_delivery_and_makes_no_poll_spans() -> None:
    tracing = open_tracing({"OTEL_TRACES_SAMPLER": "always_off"}, recent_deliveries=4)
    tracing.poll(topic="flights", group="group", records=7, bytes=700)
    bench = type("Stand", (), {"tracing": tracing})()
    with Bench.process(bench):
        pass
    assert tracing.recent is not None
    assert len(tracing.recent.deliveries("0b4f12a8")) == 1
    tracing.close()
