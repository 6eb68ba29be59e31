"""What a failure destination is to the lane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tidemill_poller.destinations.record import FailureRecord


class Destination(Protocol):
    """One on-failure destination.

    `send` returns once the service has acknowledged the record. It raises DestinationUnavailable, and nothing
    else but CancelledError, when it could not; it waits a minute at most. Sending again after any failure
    is safe, though the record may then be there twice. Calls may run side by side: a few at a time go out,
    the rest wait their turn.
    """

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """Send one record; `trace_headers` (Step.headers) travel beside the body, never in it."""
        ...
