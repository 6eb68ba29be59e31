"""Fakes at the poller's seams: records, a scripted function, a destination that goes away, a lane's world."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fakes.virtual_time import now_ms, now_s
from tidemill_poller.batch import BatchLimits, ByteBudget
from tidemill_poller.destinations import FailureRecord
from tidemill_poller.errors import DestinationUnavailable
from tidemill_poller.event import EventSource, event_source
from tidemill_poller.fleet import FunctionUpdates
from tidemill_poller.lane import Lane, LaneDependencies
from tidemill_poller.mapping import Mapping as EventSourceMapping
from tidemill_poller.mapping import SelfManagedSource
from tidemill_poller.offsets import CommitPoint
from tidemill_poller.reporting import PollerReporter, Telemetry
from tidemill_poller.reporting.metrics import Metrics
from tidemill_poller.reporting.status import MappingStatus, PartitionStatus, PollerStatus, StatusBoard
from tidemill_poller.reporting.tracing import NO_TRACING, Tracing
from tidemill_poller.retry import Delivered, FunctionError, Outcome, RetryPolicy, Throttled, Unreachable

TOPIC = "orders"
MAPPING = EventSourceMapping(
    uuid="11111111-1111-4111-8111-111111111111",
    function_arn="arn:aws:lambda:us-east-1:123456789012:function:f",
    source=SelfManagedSource(bootstrap_servers=("b-1:9092", "b-2:9092")),
    topic=TOPIC,
    consumer_group_id="group",
)


@dataclass(slots=True, kw_only=True)
class FakeRecord:
    """A Kafka record, as far as the poller looks at one."""

    offset: int
    topic: str = TOPIC
    partition: int = 0
    timestamp: int = 1_000_000
    timestamp_type: int = 0
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    headers: Sequence[tuple[str, bytes | None]] = ()


def records(*offsets: int, **fields: Any) -> list[FakeRecord]:
    """Records at these offsets; the value says which."""
    return [FakeRecord(**{"offset": o, "value": b"v%d" % o, **fields}) for o in offsets]


OK = Delivered(status_code=200, executed_version="$LATEST", request_id="r-ok", body=b"null")
BROKEN = FunctionError(
    status_code=200,
    executed_version="$LATEST",
    request_id="r-broken",
    function_error="Unhandled",
    error_type="ValueError",
    message="no departure time",
)
THROTTLED = Throttled(request_id="r-429", reason="Rate Exceeded.", retry_after_s=None)
AWAY = Unreachable(reason="connection refused", error_type="ClientConnectorError")


def failing(*offsets: int, key: str = f"{TOPIC}-0") -> Delivered:
    """A partial batch response that names these offsets."""
    items = [{"itemIdentifier": {"partition": key, "offset": offset}} for offset in offsets]
    return replace(OK, body=json.dumps({"batchItemFailures": items}).encode())


@dataclass(slots=True, kw_only=True)
class Call:
    """One invocation: when it began, what was in it, how it ended (None: it was cut off)."""

    at_s: float
    partition: str
    offsets: list[int]
    outcome: Outcome | None = None


@dataclass
class ScriptedFunction:
    """Invoking: answers as `answer(offsets, number of the call)` says, after `takes_s`."""

    answer: Callable[[list[int], int], Outcome] = lambda offsets, number: OK
    takes_s: float = 0.01
    broken: frozenset[str] = frozenset()  # partitions whose every batch fails
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    running_max: int = 0

    async def invoke(
        self, function_arn: str, payload: bytes, *, trace_headers: Mapping[str, str] | None = None
    ) -> Outcome:
        ((partition, events),) = json.loads(payload)["records"].items()
        call = Call(at_s=now_s(), partition=partition, offsets=[event["offset"] for event in events])
        self.calls.append(call)
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.running -= 1
        call.outcome = BROKEN if partition in self.broken else self.answer(call.offsets, len(self.calls))
        return call.outcome

    @property
    def batches(self) -> list[list[int]]:
        return [call.offsets for call in self.calls]


def poison(*offsets: int) -> Callable[[list[int], int], Outcome]:
    """Fails whatever batch holds one of these."""
    return lambda batch, _: BROKEN if set(offsets) & set(batch) else OK


@dataclass
class RecordingDestination:
    """Destination: keeps what it is sent; `away` for so many sends, `silent` if it never answers."""

    away: int = 0
    silent: bool = False
    sent: list[FailureRecord] = field(default_factory=list)
    tried: int = 0

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        self.tried += 1
        await asyncio.sleep(0.001)
        if self.silent:
            self.sent.append(record)
            raise DestinationUnavailable("the queue did not answer", unanswered=True)
        if self.away:
            self.away -= 1
            raise DestinationUnavailable("the queue does not answer")
        self.sent.append(record)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        return [(record.first_offset, record.last_offset) for record in self.sent]


async def no_revision(function_arn: str) -> str | None:
    """Of a function that nobody can be asked about."""
    return None


def telemetry(tracing: Tracing = NO_TRACING) -> Telemetry:
    """Counts and statuses of one test."""
    return Telemetry(tracing=tracing, metrics=Metrics(), board=StatusBoard(), now_ms=now_ms)


def poller_reporter(
    telemetry: Telemetry, *, board: MappingStatus | None = None, status: PollerStatus | None = None
) -> PollerReporter:
    """What a source reports to."""
    return PollerReporter(
        telemetry,
        MAPPING,
        topic=TOPIC,
        board=MappingStatus() if board is None else board,
        status=status or PollerStatus(number=0),
    )


def lane_dependencies(
    function: Any,
    *,
    destination: RecordingDestination | None = None,
    updates: FunctionUpdates | None = None,
    **changes: Any,
) -> LaneDependencies:
    """A mapping's lanes without a window; `changes` go to whichever part has the name."""
    policy = RetryPolicy(
        retry_attempts=None,
        bisect=False,
        report_batch_item_failures=False,
        backoff_base_s=1.0,
        backoff_max_s=60.0,
    )
    limits = BatchLimits(records=100, window_s=0.0)
    setup = LaneDependencies(
        mapping=MAPPING,
        event_source_arn=None,
        bootstrap_servers=("b-1:9092", "b-2:9092"),
        destination_arn="arn:aws:sqs:us-east-1:123456789012:failures" if destination else None,
        destination=destination,
        drop_undeliverable=False,
        policy=_changed(policy, changes),
        limits=_changed(limits, changes),
        overlap_window=False,
        age_ms_max=None,
        filter=None,
        invoker=function,
        function_updates=updates or FunctionUpdates(no_revision, interval_s=0),
        budget=ByteBudget(64 * 1024 * 1024),
        buffer_bytes=16 * 1024 * 1024,
        now_ms=now_ms,
        random=lambda: 0.0,  # no jitter: the times in a test are exact
    )
    return replace(setup, **changes)


def _changed(part: Any, changes: dict[str, Any]) -> Any:
    names = [name for name in changes if hasattr(part, name)]
    return replace(part, **{name: changes.pop(name) for name in names})


@dataclass
class LaneWorld:
    """One lane and what a source does for it: `commit` is what Kafka would keep."""

    setup: LaneDependencies
    telemetry: Telemetry = field(default_factory=telemetry)
    committed: CommitPoint = field(default_factory=lambda: CommitPoint(0))
    end: int | None = None  # the log's, when the lane opens
    lane: Lane = field(init=False)
    status: PartitionStatus = field(init=False)
    commits: list[CommitPoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        reporter = poller_reporter(self.telemetry).partition_opened(0, committed=self.committed.offset)
        self.status = reporter.status
        self.lane = Lane(
            self.setup,
            SOURCE,
            committed=self.committed,
            end=self.end,
            reporter=reporter,
            on_progress=self.commit,
        )

    def commit(self) -> None:
        """Commit at once, as a source with no interval."""
        point = self.lane.offsets.due()
        if point is not None:
            self.lane.offsets.confirm(point)
            self.committed = point
            self.commits.append(point)

    async def run_until(self, condition: Callable[[], bool], *, within_s: float = 3600) -> None:
        """Run the lane until something holds, then close it and wait for its end."""
        task = asyncio.ensure_future(self.lane.run())
        try:
            await until(condition, within_s=within_s, tasks=[task])
        finally:
            self.lane.close()
            await task
            self.commit()
            self.lane.revoke()

    async def deliver(self, *fed: Sequence[FakeRecord], within_s: float = 3600) -> None:
        """Feed and run until all of it is committed."""
        for chunk in fed:
            self.lane.feed(chunk)
        end = fed[-1][-1].offset + 1
        await self.run_until(lambda: self.committed.offset >= end, within_s=within_s)


SOURCE: EventSource = event_source(
    TOPIC, 0, bootstrap_servers=("b-1:9092", "b-2:9092"), event_source_arn=None
)


async def until(
    condition: Callable[[], bool], *, within_s: float = 60, tasks: Sequence[asyncio.Future[Any]] = ()
) -> None:
    """Look every virtual millisecond; a task that fails meanwhile fails the test."""
    deadline_s = now_s() + within_s
    step_s = 0.001
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError("it ended before the condition held")
        assert now_s() < deadline_s, f"did not hold within {within_s} s"
        await asyncio.sleep(step_s)
        step_s = min(step_s * 1.5, 1.0)
