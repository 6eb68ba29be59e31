"""One trace per delivery: batch, attempts, halves, poison record, destination, commit.

Owns the span model (the tree that `recorded.py` builds and `tree.py` prints). Knows no Kafka client and no
AWS client: lanes and sources tell it what happened. Off, as it is without an exporter and without a buffer,
every call lands on one shared object that does nothing, and the OpenTelemetry SDK is not even imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

SplitKind = Literal["bisect", "partial"]


class DeliveriesView(Protocol):
    """The last deliveries of each mapping, kept in memory; see `recent.RecentDeliveries`."""

    def deliveries(self, mapping_uuid: str) -> list[dict[str, Any]]:
        """Return the trees of one mapping as JSON values, newest first."""
        ...


class MappingView(Protocol):
    """What a trace says of the event source mapping; `tidemill_poller.mapping.Mapping` fits as it is."""

    @property
    def uuid(self) -> str:
        """The mapping's UUID."""
        ...

    @property
    def function_arn(self) -> str:
        """The function, with its qualifier if one was given."""
        ...

    @property
    def consumer_group_id(self) -> str:
        """The Kafka consumer group."""
        ...


class Step:
    """One call to the outside: an invocation, a send to a destination or a commit. Off: it does nothing."""

    __slots__ = ()

    @property
    def headers(self) -> Mapping[str, str]:
        """`traceparent` and `X-Amzn-Trace-Id` for the request; empty when tracing is off."""
        return {}

    def failed(self, error_type: str, message: str) -> None:
        """Note that the call failed; `error_type` is short and countable (`ValueError`, `throttle`)."""

    def request_id(self, request_id: str) -> None:
        """Name AWS's request id of the call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class Delivery:
    """One node of the retry tree: a batch, or a part of it that is retried alone. Off: it does nothing.

    A batch that ends without `commit` is shown as interrupted: another lane will take it up.
    """

    __slots__ = ()

    def invoke(self, *, attempt: int, first_offset: int, last_offset: int) -> Step:
        """Open the span of one invocation; `attempt` counts from 1."""
        del attempt, first_offset, last_offset
        return NO_STEP

    def retry_scheduled(self, *, delay_s: float, attempt: int) -> None:
        """Note that `attempt` follows after `delay_s`."""

    def split(self, *, kind: SplitKind, first_offset: int, last_offset: int, depth: int) -> Delivery:
        """Open the node of a part of this batch, both offsets included."""
        del kind, first_offset, last_offset, depth
        return NO_DELIVERY

    def send(self, *, destination: str, condition: str) -> Step:
        """Open the span of a send to the failure destination (an ARN)."""
        del destination, condition
        return NO_STEP

    def commit(self, *, offset: int) -> Step:
        """Open the span of an offset commit; `offset` is the next one to read, as Kafka counts."""
        del offset
        return NO_STEP

    def dropped(self, records: int) -> None:
        """Note that records were given up and are in no destination: only this turns the trace red."""

    def poison(self) -> None:
        """Note that the one record left in this node is the one that cannot be processed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class Tracing:
    """The poller's tracer. This class is the one that is off; `open_tracing` gives the one that is on."""

    __slots__ = ()
    enabled: bool = False

    @property
    def recent(self) -> DeliveriesView | None:
        """The deliveries kept in memory, or None when none are kept."""
        return None

    def poll(self, *, topic: str, group: str, records: int, bytes: int) -> None:  # noqa: A002 - the unit is the name
        """Record a poll that brought records; empty polls leave no trace."""

    def process(  # noqa: PLR0913 - a batch has this many facts worth a search
        self,
        *,
        mapping: MappingView,
        topic: str,
        partition: int,
        first_offset: int,
        last_offset: int,
        record_count: int,
        payload_bytes: int,
        closed_by: str,
        filtered: int,
        headers: Iterable[Sequence[tuple[str, bytes]]],
    ) -> Delivery:
        """Open the delivery of one batch: the root of a trace, linked to the producers its headers name."""
        del mapping, topic, partition, first_offset, last_offset, record_count
        del payload_bytes, closed_by, filtered, headers
        return NO_DELIVERY

    def close(self) -> None:
        """Flush what is buffered for export. Blocks for some seconds at most: call it in a thread."""


NO_STEP = Step()
NO_DELIVERY = Delivery()
NO_TRACING = Tracing()
