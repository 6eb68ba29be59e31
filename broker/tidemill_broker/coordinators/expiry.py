"""What time does to a group: sessions end, ids lapse, rebalances stop waiting, offsets grow old.

Called by the shell at `next_deadline_ms`; a late call does the same as a punctual one.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidemill_broker.coordinators.generation import end_of_wait
from tidemill_broker.coordinators.group import Group, Limits, State, Step
from tidemill_broker.coordinators.membership import remove
from tidemill_broker.coordinators.records import OffsetCommitted
from tidemill_broker.coordinators.subscription import CONSUMER, subscribed_topics

Place = tuple[str, int]


def expire(group: Group, limits: Limits, now_ms: int) -> Step:
    """Do all that is due. What that leads to may be due again at once; the next call does it."""
    step = Step(group=group)
    for member_id in _silent(group, now_ms) + _late_for_sync(group, now_ms):
        assert step.group is not None
        if member_id in step.group.members or member_id in step.group.pending:
            step = step.then(lambda g, member_id=member_id: remove(g, member_id, limits, now_ms))  # type: ignore[misc]  # mypy infers no types for a lambda's defaults
    return step.then(lambda g: _stop_waiting(g, limits, now_ms))


def _stop_waiting(group: Group, limits: Limits, now_ms: int) -> Step:
    due = group.join_deadline_ms is not None and group.join_deadline_ms <= now_ms
    return end_of_wait(group, limits, now_ms) if due else Step(group=group)


def _silent(group: Group, now_ms: int) -> list[str]:
    lapsed = [member_id for member_id, end_ms in group.pending.items() if end_ms <= now_ms]
    silent = [
        member.member_id
        for member in group.members.values()
        if member.deadline_ms is not None and member.deadline_ms <= now_ms
    ]
    return lapsed + silent


def _late_for_sync(group: Group, now_ms: int) -> list[str]:
    """Who was told of a generation and never fetched its share of it."""
    if group.sync_deadline_ms is None or group.sync_deadline_ms > now_ms:
        return []
    return [member.member_id for member in group.members.values() if member.owes_sync]


def old_offsets(
    group: Group, offsets: Mapping[Place, OffsetCommitted], limits: Limits, now_ms: int
) -> list[Place]:
    """The offsets that nobody will ask for any more (Kafka's ClassicGroup.offsetExpirationCondition).

    An Empty group of members keeps them for the retention from when it became Empty; a group that only ever
    committed, from each commit; a live consumer group loses those of topics it has ceased to read.
    """
    oldest_ms = now_ms - limits.offsets_retention_ms
    if group.state is State.EMPTY:
        since_ms = group.since_ms if group.protocol_type else 0
        return [place for place, held in offsets.items() if max(since_ms, held.committed_at_ms) <= oldest_ms]
    topics = read_topics(group)
    if topics is None:
        return []
    return [
        place
        for place, held in offsets.items()
        if place[0] not in topics and held.committed_at_ms <= oldest_ms
    ]


def read_topics(group: Group) -> frozenset[str] | None:
    """The topics a consumer group reads now, None if that cannot be told (ClassicGroup.subscribedTopics)."""
    if group.state is State.EMPTY:
        return frozenset()
    if group.protocol_type != CONSUMER or group.protocol is None:
        return None
    each = [subscribed_topics(member.metadata(group.protocol)) for member in group.members.values()]
    return None if None in each else frozenset().union(*(topics for topics in each if topics))
