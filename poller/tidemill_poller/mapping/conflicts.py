"""What two mappings may not have in common. Pure: the control API asks before it writes."""

from __future__ import annotations

from collections import abc
from typing import Final, NoReturn

from tidemill_poller.errors import InvalidParameter, MappingConflict
from tidemill_poller.mapping.model import MSK_BLOCK, SELF_MANAGED_BLOCK, Mapping, MskSource
from tidemill_poller.mapping.rejections import camel

GROUP_MAPPINGS_MAX: Final = 100
GROUP_POLLERS_MAX: Final = 2000
"""Of all mappings with one PollerGroupName (AWS: kafka-scaling-modes)."""


def check_conflicts(mapping: Mapping, stored: abc.Iterable[Mapping]) -> None:
    """Reject a mapping that collides with another; itself among the stored ones is skipped.

    Raises MappingConflict if the same records would go to the same function twice or one consumer group would
    serve two mappings, and InvalidParameter if the poller group would be too large.
    """
    others = [other for other in stored if other.uuid != mapping.uuid]
    for other in others:
        _check_duplicate(mapping, other)
        _check_consumer_group(mapping, other)
    _check_poller_group(mapping, others)


def _check_duplicate(mapping: Mapping, other: Mapping) -> None:
    """AWS: any shared bootstrap server, the same function and the same topic make a duplicate.

    AWS words it in two ways: for self-managed Kafka (recorded in 2024) and for a source with an ARN (2020).
    """
    same_target = (other.function_arn, other.topic) == (mapping.function_arn, mapping.topic)
    if same_target and not _servers(mapping).isdisjoint(_servers(other)):
        joint = " and" if isinstance(mapping.source, MskSource) else ","
        _conflict(mapping, other, f'function ("{mapping.function_arn}"){joint} topics ("{mapping.topic}")')


def _check_consumer_group(mapping: Mapping, other: Mapping) -> None:
    """AWS documents that a group is unique; whether another cluster may use the name too is not known."""
    if other.consumer_group_id == mapping.consumer_group_id:
        block = camel(MSK_BLOCK if isinstance(mapping.source, MskSource) else SELF_MANAGED_BLOCK)
        _conflict(mapping, other, f'{block}.consumerGroupId ("{mapping.consumer_group_id}")')


def _conflict(mapping: Mapping, other: Mapping, what: str) -> NoReturn:
    kind = "event source arn" if isinstance(mapping.source, MskSource) else "event source"
    raise MappingConflict(
        f'An event source mapping with {kind} ("{",".join(_quoted(mapping))}"), {what} already exists.'
        f" Please update or delete the existing mapping with UUID {other.uuid}"
    )


def _quoted(mapping: Mapping) -> tuple[str, ...]:
    source = mapping.source
    return (source.arn,) if isinstance(source, MskSource) else source.bootstrap_servers


def _servers(mapping: Mapping) -> frozenset[str]:
    return frozenset(_quoted(mapping))


def _check_poller_group(mapping: Mapping, others: abc.Sequence[Mapping]) -> None:
    if mapping.provisioned is None or not mapping.provisioned.group_name:
        return
    name = mapping.provisioned.group_name
    members = [
        one.provisioned
        for one in (mapping, *others)
        if one.provisioned is not None and one.provisioned.group_name == name
    ]
    if len(members) > GROUP_MAPPINGS_MAX:
        raise InvalidParameter(f"The poller group '{name}' is full: {GROUP_MAPPINGS_MAX} mappings at most.")
    pollers = sum(member.maximum_pollers for member in members)
    if pollers > GROUP_POLLERS_MAX:
        raise InvalidParameter(
            f"The poller group '{name}' would have MaximumPollers of {pollers} in all;"
            f" {GROUP_POLLERS_MAX} at most."
        )
