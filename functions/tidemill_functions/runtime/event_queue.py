"""Owns invocations of type Event: bounded, kept on disk until they are done, retried twice as Lambda does.

Delivery is at least once, as on Lambda: an attempt that a crash or a stop of the server interrupts is made
again after the next start. Called by the API; calls the store and the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from tidemill_functions.code.registry import LATEST, Registry
from tidemill_functions.errors import FunctionNotFound, TooManyInvocations
from tidemill_functions.runtime.environment import Invocation
from tidemill_functions.runtime.event_store import Event, EventStore
from tidemill_functions.runtime.pool import Pool
from tidemill_functions.settings import Settings

logger = logging.getLogger(__name__)

_QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
# Lambda tries throttled events for six hours, from one second apart up to five minutes.
_AGE_MAX_S: Final = 6 * 3600.0
_THROTTLE_DELAY_S: Final = 1.0
_THROTTLE_DELAY_MAX_S: Final = 300.0


class EventQueue:
    """Events on their way to functions; it lives inside `async with delivering(queue)`."""

    def __init__(self, registry: Registry, pool: Pool, settings: Settings) -> None:
        self._registry = registry
        self._pool = pool
        self._settings = settings
        self._store = EventStore(settings.data_dir / "events")
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
        """Try the event until it is done, and forget it then; cancelled, it stays on the disk."""
        reason = await self._dropped_because(event)
        if reason:
            logger.warning(
                "event dropped function=%s request_id=%s reason=%s", event.key, event.request_id, reason
            )
        try:
            self._store.remove(event)
        except OSError as error:
            logger.warning(
                "event not removed request_id=%s reason=%s; a restart delivers it again",
                event.request_id,
                error,
            )

    async def _dropped_because(self, event: Event) -> str:
        """Make all attempts; return "" once the function succeeded, else why the event is dropped."""
        while True:
            config = self._config(event)
            delays_s = self._settings.event_retry_delays_s[: config.get("MaximumRetryAttempts")]
            until_s = event.accepted_ms / 1000 + config.get("MaximumEventAgeInSeconds", _AGE_MAX_S)
            if max(event.retry_at_ms / 1000, time.time()) > until_s:
                return "EventAgeExceeded"
            await asyncio.sleep(event.retry_at_ms / 1000 - time.time())
            try:
                if await self._attempt(event, until_s):
                    return ""
            except (FunctionNotFound, TooManyInvocations) as error:
                return f"{type(error).__name__}: {error}"
            if event.attempts >= len(delays_s):
                return f"RetriesExhausted attempts={event.attempts + 1}"
            retry_at_ms = int((time.time() + delays_s[event.attempts]) * 1000)
            event = dataclasses.replace(event, attempts=event.attempts + 1, retry_at_ms=retry_at_ms)
            await self._keep(event)

    def _config(self, event: Event) -> Mapping[str, Any]:
        """Return the event invoke configuration as it is now."""
        configs = self._registry.attached.get(event.key.partition(":")[0]).event_invoke
        return configs.get("" if event.qualifier == LATEST else event.qualifier, {})

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

    async def _attempt(self, event: Event, until_s: float) -> bool:
        """Return whether the function succeeded; throttles are waited out and are no attempts."""
        delay_s = _THROTTLE_DELAY_S
        while True:
            function = self._registry.get(event.key)
            if function is None:
                raise FunctionNotFound(self._registry.arn(event.key))
            try:
                async with self._permits:
                    return not (await self._pool.invoke(function, _invocation(event))).failed
            except TooManyInvocations:
                if time.time() + delay_s > until_s:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _THROTTLE_DELAY_MAX_S)

    def _stop(self) -> None:
        if self._deliveries:
            logger.info("stopping: events kept for the next start count=%d", len(self._deliveries))
        for delivery in self._deliveries:
            delivery.cancel()


def _invocation(event: Event) -> Invocation:
    return Invocation(
        payload=event.payload, arn=event.arn, request_id=event.request_id, trace_id=event.trace_id
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
