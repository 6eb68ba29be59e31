"""Owns invocations of type Event: bounded, kept on disk until they are done, retried twice as Lambda does.

Done means run to the end of its attempts, and its destinations told (event_results.py).
Delivery is at least once, as on Lambda: an attempt that a crash or a stop of the server interrupts is made
again after the next start. Called by the API; calls the store and the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from tidemill_functions.code.registry import Function, Registry
from tidemill_functions.destinations.record import SUCCESS, Outcome
from tidemill_functions.destinations.sender import Sender
from tidemill_functions.errors import FunctionNotFound, TooManyInvocations
from tidemill_functions.runtime.environment import Invocation, Result
from tidemill_functions.runtime.event_results import EventResults, event_config
from tidemill_functions.runtime.event_store import Event, EventStore
from tidemill_functions.runtime.pool import Pool
from tidemill_functions.settings import Settings

logger = logging.getLogger(__name__)

_QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
# Lambda tries throttled events for six hours, from one second apart up to five minutes.
_AGE_MAX_S: Final = 6 * 3600.0
_THROTTLE_DELAY_S: Final = 1.0
_THROTTLE_DELAY_MAX_S: Final = 300.0

# Finds a function of this server by its ARN; raises AwsUnavailable if there is none.
FindFunction = Callable[[str], Function]


class EventQueue:
    """Events on their way to functions; it lives inside `async with delivering(queue)`."""

    def __init__(
        self, registry: Registry, pool: Pool, settings: Settings, sender: Sender, find: FindFunction
    ) -> None:
        self._registry = registry
        self._pool = pool
        self._settings = settings
        self._find = find
        self._store = EventStore(settings.data_dir / "events")
        self._results = EventResults(registry, self._store, sender, self._invoke)
        self._permits = asyncio.Semaphore(settings.event_concurrency)
        self._events = 0
        self._bytes = 0
        self._deliveries: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        """Return how many events wait, run or wait for their retry."""
        return self._events

    async def put(self, event: Event) -> None:
        """Take an event; it is on the disk when this returns.

        Raises TooManyInvocations when the queue is full, OSError when the event cannot be written.
        """
        is_full = self._events >= self._settings.event_queue_length
        if is_full or self._bytes + len(event.payload) > _QUEUED_BYTES_MAX:
            raise TooManyInvocations(event.key)
        self._count(event, 1)
        try:
            await asyncio.to_thread(self._store.put, event)
        except BaseException:
            self._count(event, -1)
            raise
        self._begin(event)

    def _count(self, event: Event, sign: int) -> None:
        self._events += sign
        self._bytes += sign * len(event.payload)

    def _begin(self, event: Event) -> None:
        assert self._tasks is not None
        delivery = self._tasks.create_task(self._deliver(event), name=f"event {event.request_id}")
        self._deliveries.add(delivery)
        delivery.add_done_callback(lambda done: self._end(done, event))

    def _end(self, delivery: asyncio.Task[None], event: Event) -> None:
        self._deliveries.discard(delivery)
        self._count(event, -1)

    def _resume(self) -> None:
        """Begin the deliveries that the last run of the server left, whatever the bounds are today."""
        kept = self._store.load()
        if kept:
            logger.info("events resumed count=%d", len(kept))
        for event in kept:
            self._count(event, 1)
            self._begin(event)

    async def _deliver(self, event: Event) -> None:
        """Try the event until it is done, tell who is to be told, and forget it then.

        Cancelled, it stays on the disk.
        """
        if event.outcome is None:
            event = await self._run(event)
            event = dataclasses.replace(event, targets=self._results.targets(event))
            if event.targets:
                await self._keep(event)
        is_taken = await self._results.deliver(event)
        try:
            if is_taken:
                self._store.remove(event)
            else:
                logger.error(
                    "event kept file=%s request_id=%s; invoke again with its payload, which follows the"
                    " file's first line, or remove the file",
                    self._store.set_undelivered(event),
                    event.request_id,
                )
        except OSError as error:
            logger.warning(
                "event not removed request_id=%s reason=%s; a restart delivers it again",
                event.request_id,
                error,
            )

    async def _run(self, event: Event) -> Event:
        """Make all attempts; return the event with its outcome."""
        last: _Attempt | None = None
        while True:
            config = event_config(self._registry, event)
            delays_s = self._settings.event_retry_delays_s[: config.get("MaximumRetryAttempts")]
            until_s = event.accepted_ms / 1000 + config.get("MaximumEventAgeInSeconds", _AGE_MAX_S)
            if max(event.retry_at_ms / 1000, time.time()) > until_s:
                return _done(event, "EventAgeExceeded", event.attempts, last)
            await asyncio.sleep(event.retry_at_ms / 1000 - time.time())
            try:
                last = await self._attempt(event, until_s)
            except TooManyInvocations:
                return _done(event, "EventAgeExceeded", event.attempts, last)
            except FunctionNotFound:
                return _done(event, "FunctionNotFound", event.attempts, last)
            if not last.result.failed:
                return _done(event, SUCCESS, event.attempts + 1, last)
            if event.attempts >= len(delays_s):
                return _done(event, "RetriesExhausted", event.attempts + 1, last)
            retry_at_ms = int((time.time() + delays_s[event.attempts]) * 1000)
            event = dataclasses.replace(event, attempts=event.attempts + 1, retry_at_ms=retry_at_ms)
            await self._keep(event)

    async def _invoke(self, arn: str, cause: Event, payload: bytes) -> None:
        """Accept an event for a function of this server, the destination of another."""
        function = self._find(arn)
        await self.put(
            Event(
                key=function.key,
                qualifier="".join(arn.split(":")[7:]),
                arn=arn,
                request_id=str(uuid.uuid4()),
                trace_id=cause.trace_id,
                payload=payload,
            )
        )

    async def _keep(self, event: Event) -> None:
        """Write the attempt down; if the disk is full, a restart makes it again."""
        try:
            await asyncio.to_thread(self._store.put, event)
        except OSError as error:
            logger.warning(
                "event attempt not written request_id=%s reason=%s; a restart makes it again",
                event.request_id,
                error,
            )

    async def _attempt(self, event: Event, until_s: float) -> _Attempt:
        """Run the function once; throttles are waited out and are no attempts."""
        delay_s = _THROTTLE_DELAY_S
        while True:
            function = self._registry.get(event.key)
            if function is None:
                raise FunctionNotFound(self._registry.arn(event.key))
            try:
                async with self._permits:
                    return _Attempt(
                        version=function.version, result=await self._pool.invoke(function, _invocation(event))
                    )
            except TooManyInvocations:
                self._pool.reporter.throttled(function.name)
                if time.time() + delay_s > until_s:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _THROTTLE_DELAY_MAX_S)

    def _stop(self) -> None:
        if self._deliveries:
            logger.info("stopping: events kept for the next start count=%d", len(self._deliveries))
        for delivery in self._deliveries:
            delivery.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One run of the function, and the version that ran."""

    version: str
    result: Result


def _done(event: Event, condition: str, invoke_count: int, last: _Attempt | None) -> Event:
    """Return the event with its outcome; one that did not succeed is named in the log."""
    if condition != SUCCESS:
        logger.warning(
            "event dropped function=%s request_id=%s reason=%s attempts=%d",
            *(event.key, event.request_id, condition, invoke_count),
        )
    outcome = Outcome(
        condition=condition,
        invoke_count=invoke_count,
        ended_ms=time.time_ns() // 1_000_000,
        executed_version=last.version if last else "",
        is_error=bool(last and last.result.failed),
        response=last.result.payload.decode(errors="replace") if last else "",
    )
    return dataclasses.replace(event, outcome=outcome)


def _invocation(event: Event) -> Invocation:
    return Invocation(
        payload=event.payload,
        arn=event.arn,
        request_id=event.request_id,
        trace_id=event.trace_id,
        caller_trace=event.caller_trace,
    )


@contextlib.asynccontextmanager
async def delivering(queue: EventQueue) -> AsyncIterator[EventQueue]:
    """Run the queue: every delivery is a task in here."""
    async with asyncio.TaskGroup() as tasks:
        queue._tasks = tasks  # noqa: SLF001 - the queue's own other half
        try:
            queue._resume()  # noqa: SLF001 - the same
            yield queue
        finally:
            queue._stop()  # noqa: SLF001 - the same
