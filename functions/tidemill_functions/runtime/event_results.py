"""Tells the destinations and dead-letter queues of Event invocations how these ended, at least once.

A target that cannot be reached is tried again for as long as Lambda keeps an event; one that rejects the
result is named in the log, and the event is kept aside. Called by the event queue; must not know when events
are tried.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from tidemill_functions.code.registry import LATEST, Registry
from tidemill_functions.destinations.record import SUCCESS, Target
from tidemill_functions.destinations.sender import Sender, record_json
from tidemill_functions.errors import AwsUnavailable, TooManyInvocations
from tidemill_functions.runtime.event_store import Event, EventStore

logger = logging.getLogger(__name__)

SENDS_MAX: Final = 4
_AGE_MAX_S: Final = 6 * 3600.0  # Lambda's for an event
# Lambda's for the payload of an event; a function that fails into itself would double it without end.
_EVENT_BYTES_MAX: Final = 1_048_576
_DELAY_S: Final = 1.0
_DELAY_MAX_S: Final = 60.0

InvokeFunction = Callable[[str, Event, bytes], Awaitable[None]]


class EventResults:
    """Sends what targets are to be told; `invoke` accepts an event for a function of this server."""

    def __init__(self, registry: Registry, store: EventStore, sender: Sender, invoke: InvokeFunction) -> None:
        self._registry = registry
        self._store = store
        self._sender = sender
        self._invoke = invoke
        self._permits = asyncio.Semaphore(SENDS_MAX)

    def targets(self, event: Event) -> Sequence[Target]:
        """Return who is told of an event that is done: as it is configured now."""
        assert event.outcome is not None
        is_success = event.outcome.condition == SUCCESS
        config = event_config(self._registry, event).get("DestinationConfig") or {}
        found = (config.get("OnSuccess" if is_success else "OnFailure") or {}).get("Destination")
        targets = [Target(kind="destination", arn=found)] if found else []
        function = self._registry.get(event.key)
        if function is not None and not is_success:
            arn = (function.echoed.get("DeadLetterConfig") or {}).get("TargetArn")
            targets += [Target(kind="dead letter", arn=arn)] if arn else []
        return targets

    async def deliver(self, event: Event) -> bool:
        """Tell every target; return whether all took it. Cancelled, the rest stays on the disk."""
        rejected = []
        while event.targets:
            target, *rest = event.targets
            if not await self._tell(event, target):
                rejected.append(target)
            event = dataclasses.replace(event, targets=rest)
            if rest:
                await self._keep(event)
        return not rejected

    async def _tell(self, event: Event, target: Target) -> bool:
        """Send to one target until it takes it; return whether it did."""
        delay_s, is_told = _DELAY_S, False
        while True:
            try:
                async with self._permits:
                    await self._send(event, target)
            except (AwsUnavailable, TooManyInvocations) as error:
                is_final = isinstance(error, AwsUnavailable) and not error.is_temporary
                if is_final or time.time() - event.accepted_ms / 1000 > _AGE_MAX_S:
                    logger.error(  # noqa: TRY400 - the sentence says it all
                        "event result rejected request_id=%s function=%s %s=%s reason=%s",
                        *(event.request_id, event.key, target.kind.replace(" ", "_"), target.arn, error),
                    )
                    return False
                if not is_told:
                    logger.warning(
                        "event result not sent yet request_id=%s function=%s %s=%s reason=%s;"
                        " it is sent again",
                        *(event.request_id, event.key, target.kind.replace(" ", "_"), target.arn, error),
                    )
                    is_told = True
            except Exception:
                # One event must not end the server, and again at each start: it is kept aside.
                logger.exception(
                    "event result not sendable request_id=%s function=%s", event.request_id, event.key
                )
                return False
            else:
                return True
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _DELAY_MAX_S)

    async def _send(self, event: Event, target: Target) -> None:
        assert event.outcome is not None
        if target.arn.startswith(self._registry.arn("")):
            record = record_json(event.request, event.outcome, bytes_max=_EVENT_BYTES_MAX).encode()
            await self._invoke(target.arn, event, record)
        else:
            await asyncio.to_thread(self._sender.send, target, event.request, event.outcome)

    async def _keep(self, event: Event) -> None:
        try:
            await asyncio.to_thread(self._store.put, event)
        except OSError as error:
            logger.warning(
                "event result not written request_id=%s reason=%s; a restart sends it again",
                event.request_id,
                error,
            )


def event_config(registry: Registry, event: Event) -> Mapping[str, Any]:
    """Return the event invoke configuration as it is now."""
    configs = registry.attached.get(event.key.partition(":")[0]).event_invoke
    return configs.get("" if event.qualifier == LATEST else event.qualifier, {})
