"""What a failure destination is: to the lane something that sends, to the table a kind with its own rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations.record import FailureRecord


class Destination(Protocol):
    """One on-failure destination.

    `send` returns once the service has acknowledged the record. It raises DestinationUnavailable, and nothing
    else but CancelledError, when it could not; it waits a minute at most, and sends the record once. Sending
    again after any failure is safe, though the record may then be there twice. Calls may run side by side: a
    few at a time go out, the rest wait their turn.
    """

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """Send one record; `trace_headers` (Step.headers) travel beside the body, never in it."""
        ...


class DestinationKind(Protocol):
    """One row of the table: a kind of destination, how it is named, and what sends to it."""

    @property
    def called(self) -> str:
        """What error messages offer, e.g. "an SQS queue"; empty for a kind that cannot be used yet."""
        ...

    def names(self, destination: str) -> bool:
        """Return whether this text names a destination of this kind."""
        ...

    def check(self, destination: str, *, source_topic: str) -> None:
        """Check what a mapping of `source_topic` names. Raises InvalidParameter if it may not."""
        ...

    def open(self, destination: str, clients: AwsClients) -> Destination:
        """Open the destination; nothing is sent yet, and the client is made at the first send."""
        ...
