"""THE PER-PARTITION PIPELINE: filter -> batch -> invoke -> settle -> commit, strictly in order.

Owns everything that happens to the records of one partition between its assignment and its revocation. Knows
no Kafka client: its source feeds it and commits for it. Decisions are `retry.decide`'s, commit points
`offsets`'.

    fed ── filtered out ────────────────────────────────────────┐
     │                                                          │
    waiting ── size, window or bytes ──> taken ──> INVOKING     │
                                         ^          │ Commit    v
                                         │          ├────────> settled ── commit point moves ──> next batch
                                         │          │              ^
                                         ├ RETRYING <── RetryIn, RetryRest (the rest is settled)
                                         │          │              │
                                         ├──────────┤ Bisect: the first half, then the second
                                                    │              │
                                                    │ GiveUp, too old, too large
                                                    └─> failure record taken, or there is no destination
                                                         │      ^
                                                         └──────┴─ HOLDING while the destination is away

One invocation is in flight. What blocks the first unsettled record blocks this partition and no other.
close(): takes nothing more, lets the invocation in flight settle, gives up every wait.
revoke(): commits nothing from then on. The next owner reads again what is not settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import assert_never

from tidemill_poller.batch import PAYLOAD_BYTES_MAX, Batch
from tidemill_poller.errors import DestinationUnavailable
from tidemill_poller.event import EventSource, Record
from tidemill_poller.lane.dependencies import LaneDependencies
from tidemill_poller.lane.failure import failure_record
from tidemill_poller.lane.input_buffer import InputBuffer
from tidemill_poller.offsets import CommitPoint, PartitionOffsets, Pending, decode
from tidemill_poller.reporting.metrics import CounterName
from tidemill_poller.reporting.status import PartitionStatus
from tidemill_poller.reporting.tracing import Delivery, Step
from tidemill_poller.retry import (
    Attempts,
    Bisect,
    Commit,
    Condition,
    Decision,
    Delivered,
    FunctionError,
    GiveUp,
    Outcome,
    RetryIn,
    RetryRest,
    Throttled,
    Unreachable,
    backoff_s,
    decide,
    exhausted,
    expired,
)

log = logging.getLogger(__name__)

_LOGGED_REASON_MAX = 500


@dataclass(slots=True)
class _SubBatch:
    """A batch, or what is left of one, on its way to being settled."""

    batch: Batch
    attempts: Attempts
    last: Outcome | None = None

    def pending(self) -> Pending:
        return Pending(runs=self.batch.runs(), attempts=self.attempts)


class Lane:
    """One partition of one mapping. All methods are for the event loop's thread; only `run` waits."""

    def __init__(
        self,
        setup: LaneDependencies,
        source: EventSource,
        *,
        committed: CommitPoint,
        status: PartitionStatus,
        on_progress: Callable[[], None],
    ) -> None:
        """Open at a committed offset, with the attempts in its metadata; `on_progress` asks for a commit."""
        self.offsets = PartitionOffsets(committed)
        self._setup = setup
        self._source = source
        self._status = status
        self._on_progress = on_progress
        self._intake = InputBuffer(setup, source, decode(committed.offset, committed.metadata))
        self._parts: deque[_SubBatch] = deque()  # of the batch in progress, in offset order
        self._opened_s = 0.0  # when the present window opened, by the event loop's clock
        self._closing = False
        self._wake: asyncio.Future[None] | None = None

    # What the source calls

    @property
    def wants_records(self) -> bool:
        """Whether to poll this partition now."""
        return not self._closing and self._intake.wants_records

    def feed(self, records: Sequence[Record]) -> None:
        """Take what a poll brought, in offset order."""
        if self._closing or not records:
            return
        self.offsets.polled(records[-1].offset)
        kept = self._intake.feed(records, now_s=_now_s())
        self._count("esm.events.polled", len(records))
        if kept < len(records):
            self._count("esm.events.filtered_out", len(records) - kept)
            self._settle()  # the offsets of a poll that is filtered out whole are done
        self._tell_bytes()
        self._rouse()

    def close(self) -> None:
        """Take nothing more: `run` returns once the invocation in flight is settled."""
        self._closing = True
        self._rouse()

    def revoke(self) -> None:
        """Commit nothing from here on, whatever is still in flight, and forget what is buffered."""
        self.close()
        self.offsets.revoke()
        self._intake.clear()

    async def run(self) -> None:
        """Deliver batch after batch; returns only after `close`."""
        while (part := await self._next_part()) is not None:
            with self._delivery(part.batch) as delivery:
                if not await self._deliver(part, delivery, depth=0):
                    return
                with delivery.commit(offset=self.offsets.settled):
                    self._intake.release()
            self._tell_bytes()
            self._on_progress()  # there is room again, if nothing else
            self._status.enter("polling", now_ms=self._setup.now_ms())

    # Waiting

    async def _next_part(self) -> _SubBatch | None:
        while not self._closing:
            taken = self._intake.take(
                now_s=_now_s(), opened_s=self._opened_s, polled_to=self.offsets.polled_to
            )
            if taken is not None:
                part = _SubBatch(*taken)
                self._parts.append(part)
                if self._setup.overlap_window:
                    self._opened_s = _now_s()
                return part
            self._settle()
            await self._pause(self._intake.deadline_s(self._opened_s))
        return None

    async def _wait(self, delay_s: float) -> bool:
        """Wait; False, at once, when the lane closes."""
        until_s = _now_s() + delay_s
        while not self._closing and _now_s() < until_s:
            await self._pause(until_s)
        return not self._closing

    async def _pause(self, until_s: float | None) -> None:
        """Sleep until something is fed, the lane closes, or the time has come."""
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = None if until_s is None else loop.call_at(until_s, self._rouse)
        try:
            await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # Delivering

    async def _deliver(self, part: _SubBatch, delivery: Delivery, *, depth: int) -> bool:
        """Work on one part until all of it is settled; False when the lane closed first."""
        with ExitStack() as nodes:
            node = delivery
            while True:
                if not await self._shed(part, node):
                    return False
                if part is not self._head():
                    return True  # nothing of it was left to invoke
                decision = await self._invoke(part, node)
                if isinstance(decision, RetryRest):
                    part.batch = part.batch.keep(decision.indices)
                    nodes.close()
                    node = nodes.enter_context(_split(delivery, "partial", part.batch, depth + 1))
                done = await self._follow(decision, part, node, depth)
                if done is not None:
                    return done

    async def _follow(self, decision: Decision, part: _SubBatch, node: Delivery, depth: int) -> bool | None:
        """Do as decided: True when the part is settled, False when the lane closed, None to invoke again."""
        match decision:
            case Commit():
                self._settle_head()
                return True
            case Bisect():
                return await self._bisect(part, node, depth)
            case RetryIn() | RetryRest():
                part.attempts = decision.attempts
                return None if await self._back_off(part, decision.delay_s, node) else False
            case GiveUp():
                part.batch = part.batch.keep(decision.indices)
                return await self._discard(part, decision.condition, node)
            case _:
                assert_never(decision)

    async def _bisect(self, part: _SubBatch, node: Delivery, depth: int) -> bool:
        halves = [_SubBatch(half, part.attempts, part.last) for half in part.batch.bisect()]
        self._parts.popleft()
        self._parts.extendleft(reversed(halves))
        self._settle()
        for half in halves:
            if self._closing:
                return False  # what each half is, and its attempts, are in the commit's metadata
            with _split(node, "bisect", half.batch, depth + 1) as child:
                if not await self._deliver(half, child, depth=depth + 1):
                    return False
        return True

    async def _back_off(self, part: _SubBatch, delay_s: float, node: Delivery) -> bool:
        self._settle()  # the attempts go into the commit's metadata
        attempt = part.attempts.failed + 1
        node.retry_scheduled(delay_s=delay_s, attempt=attempt)
        now_ms = self._setup.now_ms()
        self._status.attempt = attempt
        self._status.block(
            "retrying",
            now_ms=now_ms,
            offset=part.batch.first_offset,
            retry_at_ms=now_ms + int(delay_s * 1000),
            reason=_reason(part.last),
        )
        return await self._wait(delay_s)

    async def _invoke(self, part: _SubBatch, node: Delivery) -> Decision:
        batch, setup, attempt = part.batch, self._setup, part.attempts.failed + 1
        self._status.attempt = attempt
        if not part.attempts.failed and not part.attempts.throttled:
            self._status.enter("invoking", now_ms=setup.now_ms())
        else:
            self._status.block(
                "retrying",
                now_ms=setup.now_ms(),
                offset=batch.first_offset,
                retry_at_ms=None,
                reason=_reason(part.last),
            )
        with node.invoke(
            attempt=attempt, first_offset=batch.first_offset, last_offset=batch.last_offset
        ) as step:
            outcome = await setup.invoker.invoke(
                setup.mapping.function_arn, batch.payload(), trace_headers=step.headers
            )
            decision = decide(
                outcome,
                policy=setup.policy,
                attempts=part.attempts,
                partition_key=self._source.key,
                offsets=self._nameable_offsets(batch),
                random=setup.random(),
            )
            self._note(outcome, decision, step, len(batch))
        part.last = outcome
        if not setup.overlap_window:
            self._opened_s = _now_s()
        return decision

    def _nameable_offsets(self, batch: Batch) -> Sequence[int]:
        """Give the batch's offsets; only a partial batch response names any, else their number is enough."""
        if not self._setup.policy.report_batch_item_failures:
            return range(len(batch))
        return [record.offset for record in batch.records]

    # Giving up

    async def _shed(self, part: _SubBatch, node: Delivery) -> bool:
        """Discard what must not be invoked (again); False when the lane closed first."""
        batch, policy = part.batch, self._setup.policy
        if exhausted(policy, part.attempts):  # given up before a restart, and not yet in the destination
            return await self._discard(part, "RetryAttemptsExhausted", node)
        if len(batch) == 1 and batch.payload_bytes > PAYLOAD_BYTES_MAX:
            return await self._discard(part, "MaximumPayloadSizeExceeded", node)
        if self._setup.age_ms_max is None:
            return True
        ages = [record.timestamp for record in batch.records]
        old = expired(ages, now_ms=self._setup.now_ms(), age_ms_max=self._setup.age_ms_max)
        if not old:
            return True
        prefix = _SubBatch(batch.cut(0, old), part.attempts, part.last)
        self._parts.popleft()
        if old < len(batch):
            part.batch = batch.cut(old, len(batch))
            self._parts.appendleft(part)
        self._parts.appendleft(prefix)
        return await self._discard(prefix, "RecordAgeExceeded", node)

    async def _discard(self, part: _SubBatch, condition: Condition, node: Delivery) -> bool:
        """Put the part into the destination, or drop it, and settle it; False when the lane closed first."""
        if condition == "RetryAttemptsExhausted" and not exhausted(self._setup.policy, part.attempts):
            part.attempts = Attempts(failed=part.attempts.failed + 1)
        self._settle()
        count = len(part.batch)
        if count == 1:
            node.poison()
        if self._setup.destination is None:
            self._drop(part, condition, node, "the mapping has no OnFailure destination")
        elif not await self._send(part, condition, node):
            return False
        self._settle_head()
        return True

    async def _send(self, part: _SubBatch, condition: Condition, node: Delivery) -> bool:
        """Send the failure record, for as long as it takes; False when the lane closed first."""
        setup = self._setup
        assert setup.destination is not None
        assert setup.destination_arn is not None
        record = failure_record(setup, part.batch, condition, attempts=part.attempts, outcome=part.last)
        tried, problem = 0, self._status.problem
        while True:
            with node.send(destination=setup.destination_arn, condition=condition) as step:
                try:
                    await setup.destination.send(record, trace_headers=step.headers)
                except DestinationUnavailable as error:
                    tried += 1
                    step.failed("DestinationUnavailable", str(error))
                    reason = str(error)
                else:
                    self._count("esm.events.delivered_to_destination", len(part.batch))
                    self._status.problem = problem  # the destination's own is over
                    return True
            self._count("esm.errors.destination", 1)
            if setup.drop_undeliverable:
                self._drop(part, condition, node, reason)
                return True
            if not await self._hold(part, reason, backoff_s(setup.policy, tried, random=setup.random())):
                return False

    async def _hold(self, part: _SubBatch, reason: str, delay_s: float) -> bool:
        now_ms = self._setup.now_ms()
        log.warning(
            "partition held: destination unavailable partition=%s offset=%d retry_in_s=%.1f reason=%s",
            self._source.key,
            part.batch.first_offset,
            delay_s,
            reason,
        )
        self._status.problem = f"PROBLEM: OnFailure destination cannot be reached. {reason}"
        self._status.block(
            "holding",
            now_ms=now_ms,
            offset=part.batch.first_offset,
            retry_at_ms=now_ms + int(delay_s * 1000),
            reason=reason,
        )
        return await self._wait(delay_s)

    def _drop(self, part: _SubBatch, condition: Condition, node: Delivery, reason: str) -> None:
        batch = part.batch
        log.warning(
            "records dropped partition=%s first_offset=%d last_offset=%d records=%d condition=%s reason=%s",
            self._source.key,
            batch.first_offset,
            batch.last_offset,
            len(batch),
            condition,
            reason,
        )
        node.dropped(len(batch))
        self._count("esm.events.dropped", len(batch))

    # Settling and telling

    def _head(self) -> _SubBatch | None:
        return self._parts[0] if self._parts else None

    def _settle_head(self) -> None:
        self._parts.popleft()
        self._settle()

    def _settle(self) -> None:
        """Move the commit point to the first record that is not done."""
        pending = [part.pending() for part in self._parts]
        pending += self._intake.restored
        self.offsets.settle(pending, waiting=self._intake.first_offset)
        if self.offsets.due() is not None:
            self._on_progress()

    def _delivery(self, batch: Batch) -> Delivery:
        setup = self._setup
        return setup.tracing.process(
            mapping=setup.mapping,
            topic=batch.records[0].topic,
            partition=batch.records[0].partition,
            first_offset=batch.first_offset,
            last_offset=batch.last_offset,
            record_count=len(batch),
            payload_bytes=batch.payload_bytes,
            closed_by=batch.closed_by,
            filtered=batch.filtered,
            headers=(_sent_headers(record) for record in batch.records),
        )

    def _note(self, outcome: Outcome, decision: Decision, step: Step, count: int) -> None:
        """Tell trace, metrics, status and log how an invocation ended."""
        status = self._status
        self._count("esm.invocations", 1)
        self._count("esm.events.invoked", count)
        match outcome:
            case Delivered():
                step.request_id(outcome.request_id)
                if isinstance(decision, Commit):
                    status.deliveries += 1
                    status.problem = None
                    return
                step.failed("BatchItemFailures", _reason(outcome))
                status.problem = "PROBLEM: Function call failed"
            case FunctionError():
                step.request_id(outcome.request_id)
                step.failed(outcome.error_type or outcome.function_error, outcome.message)
                status.problem = "PROBLEM: Function call failed"
            case Throttled():
                self._count("esm.errors.throttled", 1)
                step.failed("throttle", outcome.reason)
                status.problem = f"PROBLEM: Function call throttled. {outcome.reason}"
            case Unreachable():
                step.failed(outcome.error_type, outcome.reason)
                status.problem = f"PROBLEM: Function could not be called. {outcome.reason}"
            case _:
                assert_never(outcome)
        self._count("esm.events.failed_invoke", count)
        self._count("esm.errors.invoke", 1)
        log.info(
            "invocation failed partition=%s attempt=%d decision=%s reason=%s",
            self._source.key,
            status.attempt,
            type(decision).__name__,
            _one_line(_reason(outcome)),
        )

    def _tell_bytes(self) -> None:
        self._status.buffered_bytes = self._intake.held_bytes
        self._status.fetch_paused = not self._intake.wants_records

    def _count(self, name: CounterName, value: int) -> None:
        self._setup.metrics.count(name, value, mapping=self._setup.mapping.uuid)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _sent_headers(record: Record) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in record.headers if value is not None]


def _split(node: Delivery, kind: str, batch: Batch, depth: int) -> Delivery:
    return node.split(
        kind="bisect" if kind == "bisect" else "partial",
        first_offset=batch.first_offset,
        last_offset=batch.last_offset,
        depth=depth,
    )


def _one_line(text: str) -> str:
    """A handler's own words in a log: no lines that look like ours, and not without end."""
    return " ".join(text.split())[:_LOGGED_REASON_MAX]


def _reason(outcome: Outcome | None) -> str:
    match outcome:
        case FunctionError():
            return f"{outcome.error_type or outcome.function_error}: {outcome.message}"
        case Throttled() | Unreachable():
            return outcome.reason
        case Delivered():
            return "the function reported batchItemFailures"
        case None:
            return ""
        case _:
            assert_never(outcome)
