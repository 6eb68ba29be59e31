"""The shell of the group coordinator: appends its records, keeps waiting requests, sets its timers.

`apis.groups` turns requests into calls of this; `__main__` holds `run` in its TaskGroup. All state
changes happen between two awaits: a handler's step is appended, applied and answered in one go.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable

from tidemill_broker.coordinators.group import Limits, Step
from tidemill_broker.coordinators.groups import GroupCoordinator, Place
from tidemill_broker.coordinators.messages import (
    CommitRequest,
    JoinReply,
    JoinRequest,
    MemberIdentity,
    SyncReply,
    SyncRequest,
    Ticket,
)
from tidemill_broker.groups.offsets_topic import NAME, OffsetsTopic
from tidemill_broker.log.errors import LogError
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.settings import Settings

logger = logging.getLogger(__name__)

# After a failed append (a full disk, most likely) what was due is tried again so much later.
RETRY_MS = 1_000
# One in which what lies in the sockets is read, one in which it is served, one for what asyncio defers.
ROUNDS_BEFORE_EXPIRY = 3
# A text in a record has a 16-bit length.
TEXT_MAX_BYTES = 32_767
UNAVAILABLE = ErrorCode.coordinator_not_available


class GroupService:
    """The groups of one broker. Made (and loaded) before the broker listens.

    `now_ms` is the wall clock, `monotonic_s` what timeouts are measured by.
    """

    def __init__(
        self,
        topics: Topics,
        settings: Settings,
        *,
        now_ms: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        # Timestamps and deadlines share one clock that starts as the wall clock and never jumps.
        self._epoch_ms = now_ms() - int(monotonic_s() * 1000)
        self._monotonic_s = monotonic_s
        self._check_interval_ms = settings.offsets_retention_check_interval_ms
        self._next_check_ms = self.now_ms() + self._check_interval_ms
        self._log = OffsetsTopic(topics, partitions=settings.offsets_topic_num_partitions, now_ms=self.now_ms)
        self._waiting: dict[Ticket, asyncio.Future[JoinReply | SyncReply | None]] = {}
        self._tickets = itertools.count(1)
        self._alarm_moved = asyncio.Event()
        self._alarm_ms = self._next_check_ms
        self.coordinator = GroupCoordinator(_limits(settings))
        for record in self._log.read_all():
            self.coordinator.replay(record, self.now_ms())

    def now_ms(self) -> int:
        """Milliseconds since the epoch, steady."""
        return self._epoch_ms + int(self._monotonic_s() * 1000)

    async def run(self) -> None:
        """Do what time asks for, until cancelled."""
        while True:
            self._rest_until_next()
            delay_s = max(self._alarm_ms - self.now_ms(), 0) / 1000
            try:
                async with asyncio.timeout(delay_s):
                    await self._alarm_moved.wait()
            except TimeoutError:
                # Timers come before sockets in a round of the loop: if something held it up, heartbeats that
                # came in time lie unread. They are served before a session is ended for want of them.
                for _ in range(ROUNDS_BEFORE_EXPIRY):
                    await asyncio.sleep(0)
                self._rest_until_next()
                if self._alarm_ms <= self.now_ms():
                    self._expire()

    def dismiss(self) -> None:
        """The broker stops: waiting clients are told to look for a coordinator again (once it is back)."""
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)

    async def join(self, request: JoinRequest) -> JoinReply:
        """JoinGroup: wait until the generation is formed."""
        reply = await self._wait_for(
            request.group_id, lambda ticket, now_ms: self.coordinator.join(request, ticket, now_ms)
        )
        assert isinstance(reply, JoinReply | None)
        return reply or JoinReply(error=UNAVAILABLE, member_id=request.member_id)

    async def sync(self, request: SyncRequest) -> SyncReply:
        """SyncGroup: wait until the leader has assigned."""
        reply = await self._wait_for(
            request.group_id, lambda ticket, now_ms: self.coordinator.sync(request, ticket, now_ms)
        )
        assert isinstance(reply, SyncReply | None)
        return reply or SyncReply(error=UNAVAILABLE)

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        """Heartbeat of one member."""
        step, error = self.coordinator.heartbeat(group_id, member_id, instance_id, generation, self.now_ms())
        return error if self._carry_out(step) else UNAVAILABLE

    def leave(
        self, group_id: str, identities: tuple[MemberIdentity, ...]
    ) -> tuple[ErrorCode, tuple[ErrorCode, ...]]:
        """LeaveGroup: an error for the whole and one for each member that leaves."""
        step, error, errors = self.coordinator.leave(group_id, identities, self.now_ms())
        return (error, errors) if self._carry_out(step) else (UNAVAILABLE, errors)

    def commit(self, request: CommitRequest) -> tuple[ErrorCode, ...]:
        """OffsetCommit: an error for each offset."""
        step, errors = self.coordinator.commit_offsets(request, self.now_ms())
        return errors if self._carry_out(step) else (UNAVAILABLE,) * len(errors)

    def delete_group(self, group_id: str) -> ErrorCode:
        """DeleteGroups, for one of them."""
        step, error = self.coordinator.delete_group(group_id)
        return error if self._carry_out(step) else UNAVAILABLE

    def delete_offsets(self, group_id: str, places: tuple[Place, ...]) -> tuple[ErrorCode, ...]:
        """OffsetDelete: an error for each (topic, partition)."""
        step, errors = self.coordinator.delete_offsets(group_id, places)
        return errors if self._carry_out(step) else (UNAVAILABLE,) * len(errors)

    def forget_topics(self, names: Iterable[str]) -> None:
        """Topics were deleted; their committed offsets go with them."""
        self._carry_out(self.coordinator.forget_topics(frozenset(names)))

    async def _wait_for(
        self, group_id: str, begin: Callable[[Ticket, int], Step]
    ) -> JoinReply | SyncReply | None:
        """Begin something whose answer may come later; None if the log fails, or the broker stops.

        The wait ends by the coordinator's deadlines at the latest. Cancelled when the connection is gone:
        then the group is told that no request waits.
        """
        ticket = Ticket(next(self._tickets))
        future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            return await future if self._carry_out(begin(ticket, self.now_ms())) else None
        except asyncio.CancelledError:
            self._carry_out(self.coordinator.abandon(group_id, ticket, self.now_ms()))
            raise
        finally:
            del self._waiting[ticket]

    def _carry_out(self, step: Step) -> bool:
        """Append, then apply, then answer; False (and nothing has changed) if the log cannot be written."""
        try:
            if step.records:
                self._log.append(step.records)
        except (OSError, LogError):
            logger.exception("the group coordinator could not write topic=%s", NAME)
            return False
        self.coordinator.apply(step, self.now_ms())
        for answer in step.answers:
            waiting = self._waiting.get(answer.ticket)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer.reply)
        if step.records and self._log.overgrown:
            self._rewrite()
        self._move_alarm()
        return True

    def _rewrite(self) -> None:
        try:
            self._log.rewrite(self.coordinator.snapshot())
        except (OSError, LogError):
            # The old records are still there; the next append tries again.
            logger.exception("could not rewrite topic=%s", NAME)

    def _expire(self) -> None:
        now_ms = self.now_ms()
        for group_id in self.coordinator.due(now_ms):
            if not self._carry_out(self.coordinator.expire(group_id, now_ms)):
                self.coordinator.wake_at(group_id, now_ms + RETRY_MS)
        if now_ms >= self._next_check_ms:
            self._next_check_ms = now_ms + self._check_interval_ms
            self._carry_out(self.coordinator.expire_offsets(now_ms))

    def _rest_until_next(self) -> None:
        self._alarm_moved.clear()
        deadline_ms = self.coordinator.next_deadline_ms
        self._alarm_ms = self._next_check_ms if deadline_ms is None else min(deadline_ms, self._next_check_ms)

    def _move_alarm(self) -> None:
        """Wake `run` if something is now due sooner than it sleeps."""
        deadline_ms = self.coordinator.next_deadline_ms
        if deadline_ms is not None and deadline_ms < self._alarm_ms:
            self._alarm_moved.set()


def _limits(settings: Settings) -> Limits:
    return Limits(
        group_min_session_timeout_ms=settings.group_min_session_timeout_ms,
        group_max_session_timeout_ms=settings.group_max_session_timeout_ms,
        group_initial_rebalance_delay_ms=settings.group_initial_rebalance_delay_ms,
        group_max_size=settings.group_max_size,
        offset_metadata_max_bytes=min(settings.offset_metadata_max_bytes, TEXT_MAX_BYTES),
        offsets_retention_ms=settings.offsets_retention_minutes * 60_000,
    )
