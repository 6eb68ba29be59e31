"""What a lane reports of one delivery: each attempt, wait, sub-batch and send, to its end.

Owns how these events appear in the trace, the metrics, the partition's status and the log. Knows no retry
rules: the lane says what happened, in plain values.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from tidemill_poller.reporting.metrics import CounterName
from tidemill_poller.reporting.status import PartitionStatus
from tidemill_poller.reporting.telemetry import Telemetry
from tidemill_poller.reporting.tracing import Delivery, SplitKind, Step

logger = logging.getLogger(__name__)

_LOGGED_REASON_CHARS_MAX: Final = 500
_OF_DESTINATION: Final = "PROBLEM: OnFailure destination cannot be reached."


class RecordView(Protocol):
    """What is reported of a record; `event.Record` fits as it is."""

    topic: str
    partition: int
    headers: Sequence[tuple[str, bytes | None]]


class BatchView(Protocol):
    """What is reported of a batch; `batch.Batch` fits as it is."""

    @property
    def records(self) -> Sequence[RecordView]:
        """The records in offset order."""
        ...

    @property
    def first_offset(self) -> int:
        """The lowest offset."""
        ...

    @property
    def last_offset(self) -> int:
        """The highest offset."""
        ...

    @property
    def payload_bytes(self) -> int:
        """The size of the event."""
        ...

    @property
    def closed_by(self) -> str:
        """Which limit closed the batch."""
        ...

    @property
    def filtered(self) -> int:
        """How many records the filter left out since the batch before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How an invocation failed: `error_type` is short and countable, `message` what was said."""

    kind: Literal["partial", "function_error", "throttled", "unreachable"]
    error_type: str
    message: str

    @property
    def reason(self) -> str:
        """One sentence."""
        return f"{self.error_type}: {self.message}" if self.kind == "function_error" else self.message

    @property
    def problem(self) -> str:
        """The LastProcessingResult."""
        match self.kind:
            case "throttled":
                return f"PROBLEM: Function call throttled. {self.message}"
            case "unreachable":
                return f"PROBLEM: Function could not be called. {self.message}"
            case _:
                return "PROBLEM: Function call failed"


class Sinks:
    """Where the events of one partition go; shared by its lane's reporters."""

    __slots__ = ("_metrics", "key", "mapping_uuid", "now_ms", "problem_before_hold", "status")

    def __init__(self, telemetry: Telemetry, mapping_uuid: str, status: PartitionStatus) -> None:
        self._metrics = telemetry.metrics
        self.now_ms = telemetry.now_ms
        self.mapping_uuid = mapping_uuid
        self.status = status
        self.key = f"{status.topic}-{status.partition}"
        self.problem_before_hold: str | None = None

    def count(self, name: CounterName, value: int) -> None:
        """Add to a counter of the mapping."""
        self._metrics.count(name, value, mapping=self.mapping_uuid)

    def block(
        self, state: Literal["retrying", "holding"], offset: int, *, delay_s: float | None, reason: str
    ) -> None:
        """Show that a record blocks the partition; `delay_s` None: it is being invoked right now."""
        now_ms = self.now_ms()
        retry_at_ms = None if delay_s is None else now_ms + int(delay_s * 1000)
        self.status.block(state, now_ms=now_ms, offset=offset, retry_at_ms=retry_at_ms, reason=reason)


class DeliveryReporter:
    """One node of the retry tree: a batch, or a sub-batch that is invoked alone. A context manager."""

    __slots__ = ("_depth", "_node", "_sinks")

    def __init__(self, node: Delivery, sinks: Sinks, *, depth: int = 0) -> None:
        self._node = node
        self._sinks = sinks
        self._depth = depth

    def __enter__(self) -> Self:
        self._node.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._node.__exit__(kind, error, traceback)

    # Invoking

    def invoking(self, batch: BatchView, *, attempt: int, repeats: Failure | str | None) -> Invocation:
        """Open an invocation; `repeats` is why the one before failed, None for the first."""
        status = self._sinks.status
        status.attempt = attempt
        if repeats is None:
            status.enter("invoking", now_ms=self._sinks.now_ms())
        else:
            reason = repeats.reason if isinstance(repeats, Failure) else repeats
            self._sinks.block("retrying", batch.first_offset, delay_s=None, reason=reason)
        step = self._node.invoke(
            attempt=attempt, first_offset=batch.first_offset, last_offset=batch.last_offset
        )
        return Invocation(step, self._sinks, len(batch.records))

    def retrying(self, batch: BatchView, *, attempt: int, delay_s: float, failure: Failure | None) -> None:
        """Note that this attempt follows after a wait."""
        self._node.retry_scheduled(delay_s=delay_s, attempt=attempt)
        self._sinks.status.attempt = attempt
        reason = failure.reason if failure else ""
        self._sinks.block("retrying", batch.first_offset, delay_s=delay_s, reason=reason)

    def half(self, batch: BatchView) -> DeliveryReporter:
        """Open the node of one half."""
        return DeliveryReporter(self._split("bisect", batch), self._sinks, depth=self._depth + 1)

    def rest(self, batch: BatchView) -> DeliveryReporter:
        """Open the node of the records that a partial batch response named."""
        return DeliveryReporter(self._split("partial", batch), self._sinks, depth=self._depth)

    def _split(self, kind: SplitKind, batch: BatchView) -> Delivery:
        return self._node.split(
            kind=kind,
            first_offset=batch.first_offset,
            last_offset=batch.last_offset,
            depth=self._depth + 1,
        )

    # Giving up

    def poison(self) -> None:
        """Note that the one record left here is the one that cannot be processed."""
        self._node.poison()

    def sending(self, batch: BatchView, *, destination: str, condition: str) -> Send:
        """Open a send to the failure destination (an ARN)."""
        return Send(
            self._node.send(destination=destination, condition=condition), self._sinks, len(batch.records)
        )

    def holding(self, batch: BatchView, *, delay_s: float, reason: str) -> None:
        """Note that the partition waits for its destination."""
        sinks = self._sinks
        logger.warning(
            "partition held: destination unavailable partition=%s offset=%d retry_in_s=%.1f reason=%s",
            sinks.key,
            batch.first_offset,
            delay_s,
            reason,
        )
        if sinks.status.state != "holding":
            sinks.problem_before_hold = sinks.status.problem
        sinks.status.problem = f"{_OF_DESTINATION} {reason}"
        sinks.block("holding", batch.first_offset, delay_s=delay_s, reason=reason)

    def dropped(self, batch: BatchView, *, condition: str, reason: str) -> None:
        """Note that records were given up and are in no destination."""
        logger.warning(
            "records dropped partition=%s first_offset=%d last_offset=%d records=%d condition=%s reason=%s",
            self._sinks.key,
            batch.first_offset,
            batch.last_offset,
            len(batch.records),
            condition,
            reason,
        )
        self._node.dropped(len(batch.records))
        self._sinks.count("esm.events.dropped", len(batch.records))

    def settled(self, *, offset: int) -> None:
        """Note that the delivery is done; `offset` is the next one to read, as Kafka counts."""
        with self._node.commit(offset=offset):
            pass
        self._sinks.status.enter("polling", now_ms=self._sinks.now_ms())


class _Call:
    """One call to the outside, as a context manager; `headers` carry its trace context."""

    __slots__ = ("_records", "_sinks", "_step")

    def __init__(self, step: Step, sinks: Sinks, records: int) -> None:
        self._step = step
        self._sinks = sinks
        self._records = records

    @property
    def headers(self) -> Mapping[str, str]:
        """`traceparent` and `X-Amzn-Trace-Id`; empty when tracing is off."""
        return self._step.headers

    def __enter__(self) -> Self:
        self._step.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._step.__exit__(kind, error, traceback)


class Invocation(_Call):
    """One invocation; it ends with `succeeded` or `failed`."""

    __slots__ = ()

    def succeeded(self, *, request_id: str) -> None:
        """Note that every record was accepted."""
        self._ended(request_id)
        self._sinks.status.deliveries += 1
        self._sinks.status.problem = None

    def failed(self, failure: Failure, *, request_id: str, decision: str) -> None:
        """Note that it failed, even in part, and what was decided."""
        self._ended(request_id)
        sinks = self._sinks
        self._step.failed(failure.error_type, failure.message)
        sinks.status.problem = failure.problem
        if failure.kind == "throttled":
            sinks.count("esm.errors.throttled", 1)
        sinks.count("esm.events.failed_invoke", self._records)
        sinks.count("esm.errors.invoke", 1)
        logger.info(
            "invocation failed partition=%s attempt=%d decision=%s reason=%s",
            sinks.key,
            sinks.status.attempt,
            decision,
            _one_line(failure.reason),
        )

    def _ended(self, request_id: str) -> None:
        self._sinks.count("esm.invocations", 1)
        self._sinks.count("esm.events.invoked", self._records)
        if request_id:
            self._step.request_id(request_id)


class Send(_Call):
    """One send of a failure record; it ends with `sent` or `failed`."""

    __slots__ = ()

    def sent(self) -> None:
        """Note that the destination has the record."""
        self._sinks.count("esm.events.delivered_to_destination", self._records)
        if self._sinks.status.state == "holding":
            self._sinks.status.problem = self._sinks.problem_before_hold  # the destination's own is over

    def failed(self, reason: str) -> None:
        """Note that the destination did not take it."""
        self._step.failed("DestinationUnavailable", reason)
        self._sinks.count("esm.errors.destination", 1)


def _one_line(text: str) -> str:
    """Return a handler's words for the log: bounded, and without lines that look like ours."""
    return " ".join(text.split())[:_LOGGED_REASON_CHARS_MAX]
