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
                                         ├ RETRYING <── RetryIn, RetryRest (the rest is settled);
                                         │          │   ends early when the function is updated
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
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import assert_never

from tidemill_poller.batch import PAYLOAD_BYTES_MAX, Batch, last_offset
from tidemill_poller.errors import DestinationUnavailable, SkipRejected
from tidemill_poller.event import EventSource, Record
from tidemill_poller.lane.dependencies import LaneDependencies
from tidemill_poller.lane.failure import failure_record
from tidemill_poller.lane.input_buffer import InputBuffer
from tidemill_poller.lane.outcomes import failure_of, request_id_of
from tidemill_poller.lane.pause import Pause
from tidemill_poller.lane.sending import FailureSender
from tidemill_poller.offsets import CommitPoint, PartitionOffsets, Pending, decode
from tidemill_poller.reporting import DeliveryReporter, PartitionReporter
from tidemill_poller.retry import (
    Attempts,
    Bisect,
    Commit,
    Condition,
    Decision,
    GiveUp,
    Outcome,
    RetryIn,
    RetryRest,
    decide,
    exhausted,
    expired,
)


@dataclass(slots=True)
class _SubBatch:
    """A batch, or what bisecting or a partial response left of it, on its way to being settled."""

    batch: Batch
    attempts: Attempts
    last: Outcome | None = None

    def pending(self) -> Pending:
        return Pending(runs=self.batch.runs(), attempts=self.attempts)


class _Closed(Exception):
    """The lane closed while a send waited to be tried again."""


class Lane:
    """One partition of one mapping. All methods are for the event loop's thread; only `run` waits."""

    def __init__(
        self,
        dependencies: LaneDependencies,
        source: EventSource,
        *,
        committed: CommitPoint,
        end: int | None = None,
        reporter: PartitionReporter,
        on_progress: Callable[[], None],
    ) -> None:
        """Open at a committed offset, with the attempts in its metadata; `on_progress` asks for a commit.

        `end` is the log's at that time, if it is known.
        """
        self.offsets = PartitionOffsets(committed)
        self._dependencies = dependencies
        self._source = source
        self._reporter = reporter
        self._on_progress = on_progress
        restored = decode(committed.offset, committed.metadata, end=end)
        self._input = InputBuffer(dependencies, source, restored)
        self._sub_batches: deque[_SubBatch] = deque()  # of the batch in progress, in offset order
        self._opened_s = 0.0  # when the present window opened, by the event loop's clock
        self._closing = False
        self._updated = False  # the function, while a sub-batch waits to be invoked again
        self._waiting = False  # for the next attempt, of an invocation or a send
        self._skipping = False  # what waits, because somebody said so
        self._holding = False  # a send has failed, and is tried again
        self._pause = Pause()
        self._sender = FailureSender(dependencies, self._wait_open)

    # What the source calls

    @property
    def wants_records(self) -> bool:
        """Whether to poll this partition now."""
        return not self._closing and self._input.wants_records

    def feed(self, records: Sequence[Record]) -> None:
        """Take what a poll brought, in offset order."""
        if self._closing or not records:
            return
        self.offsets.polled(last_offset(records[-1]))
        kept = self._input.feed(records, now_s=_now_s())
        self._reporter.polled(len(records), kept=kept)
        if kept < len(records):
            self._settle()  # the offsets of a poll that is filtered out whole are done
        self._report_buffer()
        self._pause.end()

    def close(self) -> None:
        """Take nothing more: `run` returns once the invocation in flight is settled."""
        self._closing = True
        self._pause.end()

    def retry(self) -> bool:
        """Try at once what waits to be tried again; False when nothing waits."""
        if not self._waiting or self._closing:
            return False
        self._on_function_update()
        return True

    def skip(self) -> int | None:
        """Give up the first record of what waits to be tried again; its offset, None when nothing waits.

        Raises SkipRejected if the record waits for its failure destination: it would be nowhere.
        """
        head = self._head()
        if head is not None and self._holding:
            raise SkipRejected(
                f"offset {head.batch.first_offset} waits for its failure destination, and a skip would lose"
                " it: make the destination reachable, or remove it from the mapping and skip again"
            )
        if head is None or not self._waiting or self._closing:
            return None
        self._skipping = True
        self._pause.end()
        return head.batch.first_offset

    def revoke(self) -> None:
        """Commit nothing from here on, whatever is still in flight, and forget what is buffered."""
        self.close()
        self.offsets.revoke()
        self._input.clear()

    async def run(self) -> None:
        """Deliver batch after batch; returns only after `close`."""
        while (taken := await self._next_batch()) is not None:
            with self._reporter.batch_opened(taken.batch) as delivery:
                if not await self._deliver(taken, delivery):
                    return
                self._input.release()
                delivery.settled(offset=self.offsets.settled)
            self._report_buffer()
            self._on_progress()  # there is room again, if nothing else

    # Waiting

    async def _next_batch(self) -> _SubBatch | None:
        while not self._closing:
            taken = self._input.take(
                now_s=_now_s(), opened_s=self._opened_s, polled_to=self.offsets.polled_to
            )
            if taken is not None:
                whole = _SubBatch(*taken)
                self._sub_batches.append(whole)
                if self._dependencies.overlap_window:
                    self._opened_s = _now_s()
                return whole
            self._settle()
            await self._pause.until(self._input.deadline_s(self._opened_s))
        return None

    async def _wait(self, delay_s: float) -> bool:
        """Wait, or until the function is updated or `skip`; False, at once, when the lane closes."""
        until_s = _now_s() + delay_s
        self._waiting = True
        try:
            while not (self._closing or self._updated or self._skipping) and _now_s() < until_s:
                await self._pause.until(until_s)
        finally:
            self._waiting = False
        return not self._closing

    async def _wait_open(self, delay_s: float) -> None:
        """Wait for the next attempt of a send. Raises _Closed, at once, when the lane closes."""
        self._updated, self._holding = False, True
        if not await self._wait(delay_s):
            raise _Closed

    # Delivering

    async def _deliver(self, part: _SubBatch, delivery: DeliveryReporter) -> bool:
        """Work on a sub-batch until all of it is settled; False when the lane closed first."""
        with ExitStack() as nodes:
            node = delivery
            while True:
                if not await self._discard_unwanted(part, node):
                    return False
                if part is not self._head():
                    return True  # nothing of it was left to invoke
                decision = await self._invoke(part, node)
                if isinstance(decision, RetryRest):
                    part.batch = part.batch.keep(decision.indices)
                    nodes.close()
                    node = nodes.enter_context(delivery.rest(part.batch))
                done = await self._follow(decision, part, node)
                if done is not None:
                    return done

    async def _follow(self, decision: Decision, part: _SubBatch, node: DeliveryReporter) -> bool | None:
        """Do as decided: True when it is settled, False when the lane closed, None to invoke again."""
        match decision:
            case Commit():
                self._settle_head()
                return True
            case Bisect():
                return await self._bisect(part, node)
            case RetryIn() | RetryRest():
                part.attempts = decision.attempts
                return None if await self._back_off(part, decision.delay_s, node) else False
            case GiveUp():
                part.batch = part.batch.keep(decision.indices)
                return await self._discard(part, decision.condition, node)
            case _:
                assert_never(decision)

    async def _bisect(self, part: _SubBatch, node: DeliveryReporter) -> bool:
        halves = [_SubBatch(half, part.attempts, part.last) for half in part.batch.bisect()]
        self._sub_batches.popleft()
        self._sub_batches.extendleft(reversed(halves))
        self._settle()
        for half in halves:
            if self._closing:
                return False  # what each half is, and its attempts, are in the commit's metadata
            with node.half(half.batch) as child:
                if not await self._deliver(half, child):
                    return False
        return True

    async def _back_off(self, part: _SubBatch, delay_s: float, node: DeliveryReporter) -> bool:
        self._settle()  # the attempts go into the commit's metadata
        node.retrying(
            part.batch, attempt=part.attempts.number, delay_s=delay_s, failure=failure_of(part.last)
        )
        self._updated = False
        function_arn = self._dependencies.mapping.function_arn
        with self._dependencies.function_updates.watching(function_arn, self._on_function_update):
            return await self._wait(delay_s)

    def _on_function_update(self) -> None:
        self._updated = True
        self._pause.end()

    async def _invoke(self, part: _SubBatch, node: DeliveryReporter) -> Decision:
        batch, attempts, given = part.batch, part.attempts, self._dependencies
        first = not attempts.failed and not attempts.throttled
        with node.invoking(
            batch, attempt=attempts.number, repeats=None if first else failure_of(part.last) or ""
        ) as invocation:
            outcome = await given.invoker.invoke(
                given.mapping.function_arn, batch.payload(), trace_headers=invocation.headers
            )
            decision = decide(
                outcome,
                policy=given.policy,
                attempts=attempts,
                partition_key=self._source.key,
                offsets=self._nameable_offsets(batch),
                random=given.random(),
            )
            failure = None if isinstance(decision, Commit) else failure_of(outcome)
            if failure is None:
                invocation.succeeded(request_id=request_id_of(outcome))
            else:
                invocation.failed(
                    failure, request_id=request_id_of(outcome), decision=type(decision).__name__
                )
        part.last = outcome
        if not given.overlap_window:
            self._opened_s = _now_s()
        return decision

    def _nameable_offsets(self, batch: Batch) -> Sequence[int]:
        """Return the batch's offsets; their number is enough where no partial batch response names any."""
        if not self._dependencies.policy.report_batch_item_failures:
            return range(len(batch))
        return [record.offset for record in batch.records]

    # Giving up

    async def _discard_unwanted(self, part: _SubBatch, node: DeliveryReporter) -> bool:
        """Discard what must not be invoked (again); False when the lane closed first."""
        batch, given = part.batch, self._dependencies
        if self._skipping:
            self._skipping = False
            return await self._discard_first(part, 1, "SkippedByOperator", node)
        condition = self._unwanted_whole(part)
        if condition is not None:
            return await self._discard(part, condition, node)
        if given.age_ms_max is None:
            return True
        timestamps = [record.timestamp for record in batch.records]
        old = expired(timestamps, now_ms=given.now_ms(), age_ms_max=given.age_ms_max)
        if not old:
            return True
        return await self._discard_first(part, old, "RecordAgeExceeded", node)

    def _unwanted_whole(self, part: _SubBatch) -> Condition | None:
        """Return why all of a sub-batch must not be invoked (again), None if it may."""
        batch = part.batch
        if batch.undeliverable is not None:
            self._reporter.undeliverable(batch.undeliverable)
            return batch.undeliverable.condition
        if exhausted(self._dependencies.policy, part.attempts):  # given up before a restart, not yet sent
            return "RetryAttemptsExhausted"
        if len(batch) == 1 and batch.payload_bytes > PAYLOAD_BYTES_MAX:
            return "MaximumPayloadSizeExceeded"
        return None

    async def _discard_first(
        self, part: _SubBatch, count: int, condition: Condition, node: DeliveryReporter
    ) -> bool:
        """Discard the first records of a sub-batch; False when the lane closed first."""
        batch = part.batch
        prefix = _SubBatch(batch.cut(0, count), part.attempts, part.last)
        self._sub_batches.popleft()
        if count < len(batch):
            part.batch = batch.cut(count, len(batch))
            self._sub_batches.appendleft(part)
        self._sub_batches.appendleft(prefix)
        return await self._discard(prefix, condition, node)

    async def _discard(self, part: _SubBatch, condition: Condition, node: DeliveryReporter) -> bool:
        """Send it to the destination, or drop it, and settle it; False when the lane closed first."""
        given = self._dependencies
        if condition == "RetryAttemptsExhausted" and not exhausted(given.policy, part.attempts):
            part.attempts = Attempts(failed=part.attempts.failed + 1)
        self._settle()
        if len(part.batch) == 1:
            node.poison()
        if given.destination is None:
            reason = "the mapping has no OnFailure destination"
            node.dropped(part.batch, condition=condition, reason=reason)
        elif not await self._send(part, condition, node):
            return False
        self._settle_head()
        return True

    async def _send(self, part: _SubBatch, condition: Condition, node: DeliveryReporter) -> bool:
        """Send the failure record, or drop it as the mapping says; False when the lane closed first."""
        record = failure_record(
            self._dependencies, part.batch, condition, attempts=part.attempts, outcome=part.last
        )
        try:
            await self._sender.send(record, part.batch, node)
        except DestinationUnavailable as error:
            node.dropped(part.batch, condition=condition, reason=str(error))
        except _Closed:
            return False
        finally:
            self._holding = False
        return True

    # Settling

    def _head(self) -> _SubBatch | None:
        return self._sub_batches[0] if self._sub_batches else None

    def _settle_head(self) -> None:
        self._sub_batches.popleft()
        self._settle()

    def _settle(self) -> None:
        """Move the commit point to the first record that is not done."""
        pending = [part.pending() for part in self._sub_batches]
        pending += self._input.restored
        self.offsets.settle(pending, waiting=self._input.first_offset)
        if self.offsets.due() is not None:
            self._on_progress()

    def _report_buffer(self) -> None:
        self._reporter.buffered(self._input.held_bytes, paused=not self._input.wants_records)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
