"""Why a partition stands where it stands: plain data for whoever is woken at three in the morning.

Lanes and sources write, the control API's routes and the fleet read. No I/O; times come as arguments.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

PartitionState = Literal["polling", "invoking", "retrying", "holding"]

OK: Final = "OK"
_OF_THE_FUNCTION: Final = "PROBLEM: Function"


@dataclass(slots=True, kw_only=True)
class PartitionStatus:
    """One partition of one mapping; its lane is the only writer, but for `end` and `log_start`."""

    mapping: str
    topic: str
    partition: int
    committed: int
    state: PartitionState = "polling"
    attempt: int = 0  # of the invocation that runs, or that comes next
    blocked_by: int | None = None  # the first offset that is not settled while retrying or holding
    since_ms: int = 0  # in this state
    retry_at_ms: int | None = None
    reason: str = ""
    problem: str | None = None  # as LastProcessingResult says it; None when the last delivery went well
    deliveries: int = 0
    buffered_bytes: int = 0  # fetched and not settled
    fetch_paused: bool = False  # by its own bytes, or by those of all partitions together
    log_start: int | None = None
    end: int | None = None

    @property
    def lag(self) -> int | None:
        """Records between here and the end; what retention deleted is not counted."""
        if self.end is None:
            return None
        return max(self.end - max(self.committed, self.log_start or 0), 0)

    def enter(self, state: PartitionState, *, now_ms: int) -> None:
        """Go to a state in which nothing blocks."""
        if state != self.state or self.blocked_by is not None:
            self.state, self.since_ms = state, now_ms
            self.blocked_by, self.retry_at_ms, self.reason = None, None, ""

    def block(
        self,
        state: Literal["retrying", "holding"],
        *,
        now_ms: int,
        offset: int,
        retry_at_ms: int | None,
        reason: str,
    ) -> None:
        """Go to a state in which the partition waits; `since_ms` stays while the same offset blocks.

        `retry_at_ms` None: it is being tried again right now.
        """
        if (state, offset) != (self.state, self.blocked_by):
            self.state, self.blocked_by, self.since_ms = state, offset, now_ms
        self.retry_at_ms, self.reason = retry_at_ms, reason


@dataclass(slots=True, kw_only=True)
class PollerStatus:
    """One member of a mapping's consumer group; its source is the only writer."""

    number: int
    state: Literal["connecting", "polling", "draining", "failed"] = "connecting"
    reason: str = ""  # broker, step and error of what went wrong
    problem: str | None = None
    since_ms: int = 0


@dataclass(slots=True)
class MappingStatus:
    """All that runs for one mapping in this process."""

    pollers: dict[int, PollerStatus] = field(default_factory=dict)
    partitions: dict[int, PartitionStatus] = field(default_factory=dict)
    notice: str = ""  # what happened to the topic last that its owner should know, though all is well since
    notice_ms: int | None = None

    def result(self) -> str | None:
        """Return LastProcessingResult: a problem while there is one anywhere, None while nothing happened."""
        for poller in self.pollers.values():
            if poller.problem:
                return poller.problem
        for partition in self.partitions.values():
            if partition.problem:
                return partition.problem
        return OK if any(p.deliveries for p in self.partitions.values()) else None

    def heals(self, problem: str) -> bool:
        """Return whether an earlier problem is over, though nothing was delivered since.

        One of the function lasts until its next success, as AWS's result is that of the last invocation.
        """
        joined = self.pollers and all(poller.state == "polling" for poller in self.pollers.values())
        return bool(joined) and problem.startswith("PROBLEM") and not problem.startswith(_OF_THE_FUNCTION)

    def lag(self) -> int:
        """Return the records that wait, over the partitions whose ends are known."""
        return sum(p.lag or 0 for p in self.partitions.values())


class StatusBoard:
    """The statuses of everything that runs; what stops running leaves the board."""

    def __init__(self) -> None:
        self._mappings: dict[str, MappingStatus] = {}

    def mapping(self, uuid: str) -> MappingStatus:
        """Return the mapping's status, an empty one at first."""
        return self._mappings.setdefault(uuid, MappingStatus())

    def forget(self, uuid: str) -> None:
        """Take the mapping off the board."""
        self._mappings.pop(uuid, None)

    def as_json(self, uuid: str) -> dict[str, Any]:
        """Return what `GET /_tidemill/mappings/<uuid>/status` shows; offsets as Kafka counts, times in ms."""
        status = self._mappings.get(uuid, MappingStatus())
        return {
            "mapping": uuid,
            "result": status.result(),
            "lag": status.lag(),
            "notice": status.notice,
            "notice_ms": status.notice_ms,
            "pollers": [asdict(p) for _, p in sorted(status.pollers.items())],
            "partitions": [{**asdict(p), "lag": p.lag} for _, p in sorted(status.partitions.items())],
        }
