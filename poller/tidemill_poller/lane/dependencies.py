"""What a lane is given: the mapping's rules and the seams to the outside. Made by the fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from tidemill_poller.batch import BatchLimits, ByteBudget
from tidemill_poller.destinations import Destination
from tidemill_poller.reporting import MappingView
from tidemill_poller.retry import Outcome, RetryPolicy


class Invoking(Protocol):
    """Calls a function; every reply, error and timeout is an Outcome, nothing is raised."""

    async def invoke(
        self, function_arn: str, payload: bytes, *, trace_headers: Mapping[str, str] = ...
    ) -> Outcome:
        """Invoke and wait for the reply."""
        ...


class FunctionUpdates(Protocol):
    """Notices updates of functions."""

    def watching(self, function_arn: str, on_update: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `on_update` when the function's code or configuration was updated, while in the context."""
        ...


class Filtering(Protocol):
    """Decides which values a mapping wants."""

    def matches(self, value: bytes | None) -> bool:
        """Return whether a record with this value is delivered."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneDependencies:
    """What all lanes of a mapping share."""

    mapping: MappingView
    event_source_arn: str | None
    bootstrap_servers: tuple[str, ...]
    destination_arn: str | None
    destination: Destination | None
    drop_undeliverable: bool  # AWS's way: a failure record that is not taken is lost
    policy: RetryPolicy
    limits: BatchLimits
    overlap_window: bool  # provisioned: the next window opens when a batch closes, not when it is done
    age_ms_max: int | None
    filter: Filtering | None
    invoker: Invoking
    function_updates: FunctionUpdates
    budget: ByteBudget
    buffer_bytes: int
    now_ms: Callable[[], int]
    random: Callable[[], float]  # from 0 to 1; spreads the waits
