"""Committed offsets: who may commit, what is too large, what a group may be made to forget.

Knows no topics: the shell asks only about those that exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from tidemill_broker.coordinators.expiry import Place, read_topics
from tidemill_broker.coordinators.group import Group, Limits, State, Step
from tidemill_broker.coordinators.membership import check_member
from tidemill_broker.coordinators.messages import NO_GENERATION, CommitRequest, OffsetToCommit
from tidemill_broker.coordinators.records import (
    GroupForgotten,
    GroupStored,
    OffsetCommitted,
    OffsetForgotten,
    Record,
)
from tidemill_broker.protocol.errors import ErrorCode


@dataclass(slots=True)
class OffsetTable:
    """Every group's committed offsets by (topic, partition); changed by replayed records only."""

    groups: dict[str, dict[Place, OffsetCommitted]] = field(default_factory=dict)

    def of(self, group_id: str) -> dict[Place, OffsetCommitted]:
        """A group's offsets; not to be changed by the caller."""
        return self.groups.get(group_id, {})

    def replay(self, record: Record) -> None:
        """Apply one record; those of groups themselves mean nothing here."""
        match record:
            case OffsetCommitted():
                self.groups.setdefault(record.group_id, {})[record.topic, record.partition] = record
            case OffsetForgotten():
                offsets = self.groups.get(record.group_id, {})
                offsets.pop((record.topic, record.partition), None)
                if not offsets:
                    self.groups.pop(record.group_id, None)
            case GroupStored() | GroupForgotten():
                pass
            case _:
                assert_never(record)


def commit(
    group: Group, request: CommitRequest, limits: Limits, now_ms: int
) -> tuple[Step, tuple[ErrorCode, ...]]:
    """Commit offsets, each with an error of its own; a commit also counts as a sign of life."""
    error = check_commit(group, request)
    if error is not ErrorCode.none:
        return Step(group=None), (error,) * len(request.offsets)
    errors = tuple(_check_metadata(wanted, limits) for wanted in request.offsets)
    records = tuple(
        OffsetCommitted(
            group_id=group.group_id,
            topic=wanted.topic,
            partition=wanted.partition,
            offset=wanted.offset,
            leader_epoch=wanted.leader_epoch,
            metadata=wanted.metadata,
            committed_at_ms=now_ms,
        )
        for wanted, error in zip(request.offsets, errors, strict=True)
        if error is ErrorCode.none
    )
    member = group.members.get(request.member_id)
    heard = group if member is None else group.with_member(member.heard(now_ms))
    return Step(group=heard, records=records), errors


def check_commit(group: Group, request: CommitRequest) -> ErrorCode:
    """Whether this request may commit for the group now (Kafka's ClassicGroup.validateOffsetCommit).

    During PreparingRebalance members may still commit what they did; before their new assignment is known
    (CompletingRebalance) they may not.
    """
    outside = request.generation < 0
    if outside and group.state is State.EMPTY:
        return ErrorCode.none
    if outside and request.member_id == "" and request.instance_id is None:
        return ErrorCode.unknown_member_id
    error = check_member(group, request.member_id, request.instance_id)
    if error is not ErrorCode.none:
        return error
    if request.generation != group.generation:
        return ErrorCode.illegal_generation
    return ErrorCode.rebalance_in_progress if group.state is State.COMPLETING else ErrorCode.none


def may_create(request: CommitRequest) -> bool:
    """Whether a commit to an unknown group makes one: an administrator's or a lone consumer's does."""
    return request.generation <= NO_GENERATION


def forget(group: Group, places: tuple[Place, ...]) -> tuple[Step, tuple[ErrorCode, ...]]:
    """OffsetDelete: remove offsets of topics that the group does not read; (step, an error per place)."""
    topics = read_topics(group)
    if topics is None:
        return Step(group=None), (ErrorCode.non_empty_group,) * len(places)
    errors = tuple(
        ErrorCode.group_subscribed_to_topic if topic in topics else ErrorCode.none for topic, _ in places
    )
    records = tuple(
        OffsetForgotten(group_id=group.group_id, topic=topic, partition=partition)
        for (topic, partition), error in zip(places, errors, strict=True)
        if error is ErrorCode.none
    )
    return Step(group=None, records=records), errors


def _check_metadata(wanted: OffsetToCommit, limits: Limits) -> ErrorCode:
    too_large = len(wanted.metadata.encode()) > limits.offset_metadata_max_bytes
    return ErrorCode.offset_metadata_too_large if too_large else ErrorCode.none
