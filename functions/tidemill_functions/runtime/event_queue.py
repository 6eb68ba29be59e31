"""Owns invocations of type Event: bounded, retried twice as Lambda does, kept in memory only.

A crash or a stop of the server loses what waits here; callers that need more than that use RequestResponse,
as event source mappings do. Called by the API; calls the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Final

from tidemill_functions.code.registry import LATEST, Function, Registry
from tidemill_functions.errors import FunctionNotFound, TooManyInvocations
from tidemill_functions.runtime.environment import Invocation
from tidemill_functions.runtime.pool import Pool
from tidemill_functions.settings import Settings

logger = logging.getLogger(__name__)

_QUEUED_BYTES_MAX: Final = 64 * 1024 * 1024
_AGE_MAX_S: Final = 6 * 3600.0
# Lambda tries throttled events for six hours, from one second apart up to five minutes.
_THROTTLED_MAX_S: Final = 6 * 3600.0
_THROTTLE_DELAY_S: Final = 1.0
_THROTTLE_DELAY_MAX_S: Final = 300.0


class EventQueue:
    """Events on their way to functions; it lives inside `async with delivering(queue)`."""

    def __init__(self, registry: Registry, pool: Pool, settings: Settings) -> None:
        self._registry = registry
        self._pool = pool
        self._settings = settings
        self._permits = asyncio.Semaphore(settings.event_concurrency)
        self._bytes = 0
        self._deliveries: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        """Events that wait, run or wait for their retry."""
        return len(self._deliveries)

    def put(self, function: Function, invocation: Invocation, *, qualifier: str) -> None:
        """Take an event for a function as it was named. Raises TooManyInvocations when the queue is full."""
        assert self._tasks is not None
        payload_bytes = len(invocation.payload)
        is_full = len(self._deliveries) >= self._settings.event_queue_length
        if is_full or self._bytes + payload_bytes > _QUEUED_BYTES_MAX:
            raise TooManyInvocations(function.name)
        self._bytes += payload_bytes
        configs = self._registry.attached.get(function.name).event_invoke
        config = configs.get("" if qualifier == LATEST else qualifier, {})
        delivery = self._tasks.create_task(
            self._deliver(function.key, invocation, config), name=f"event {invocation.request_id}"
        )
        self._deliveries.add(delivery)
        delivery.add_done_callback(lambda done: self._forget(done, payload_bytes))

    def _forget(self, delivery: asyncio.Task[None], payload_bytes: int) -> None:
        self._deliveries.discard(delivery)
        self._bytes -= payload_bytes

    async def _deliver(self, key: str, invocation: Invocation, config: Mapping[str, Any]) -> None:
        delays_s = self._settings.event_retry_delays_s[: config.get("MaximumRetryAttempts")]
        age_max_s = config.get("MaximumEventAgeInSeconds", _AGE_MAX_S)
        until_s = asyncio.get_running_loop().time() + age_max_s
        request_id = invocation.request_id
        for delay_s in (0.0, *delays_s):
            if asyncio.get_running_loop().time() + delay_s > until_s:
                logger.warning("event dropped function=%s request_id=%s age_s=%d", key, request_id, age_max_s)
                return
            await asyncio.sleep(delay_s)
            try:
                if await self._attempt(key, invocation):
                    return
            except (FunctionNotFound, TooManyInvocations) as error:
                reason = f"{type(error).__name__}: {error}"
                logger.warning("event dropped function=%s request_id=%s reason=%s", key, request_id, reason)
                return
        attempts = len(delays_s) + 1
        logger.warning("event dropped function=%s request_id=%s attempts=%d", key, request_id, attempts)

    async def _attempt(self, key: str, invocation: Invocation) -> bool:
        """Return whether the function succeeded; throttles are waited out and are no attempts."""
        loop = asyncio.get_running_loop()
        until_s, delay_s = loop.time() + _THROTTLED_MAX_S, _THROTTLE_DELAY_S
        while True:
            function = self._registry.get(key)
            if function is None:
                raise FunctionNotFound(self._registry.arn(key))
            try:
                async with self._permits:
                    return not (await self._pool.invoke(function, replace(invocation))).failed
            except TooManyInvocations:
                if loop.time() + delay_s > until_s:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _THROTTLE_DELAY_MAX_S)

    def _give_up(self) -> None:
        if self._deliveries:
            logger.warning("stopping: events lost count=%d", len(self._deliveries))
        for delivery in self._deliveries:
            delivery.cancel()


@contextlib.asynccontextmanager
async def delivering(queue: EventQueue) -> AsyncIterator[EventQueue]:
    """Run the queue: every delivery is a task in here."""
    async with asyncio.TaskGroup() as tasks:
        queue._tasks = tasks  # noqa: SLF001 - the queue's own other half
        try:
            yield queue
        finally:
            queue._give_up()  # noqa: SLF001 - the same
