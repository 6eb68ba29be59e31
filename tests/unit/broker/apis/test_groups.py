"""The group APIs through frame, table and handler, as clients of every age speak them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.group_shell import subscription
from tests.fakes.inner_broker import START_MS, InnerBroker, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tidemill_broker.apis import dispatch, group_offsets
from tidemill_broker.apis.groups import APIS
from tidemill_broker.apis.request import Request
from tidemill_broker.groups.service import GroupService
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import decode_request, read_request_header

COMMIT, FETCH, FIND, JOIN, HEARTBEAT, LEAVE, SYNC, DESCRIBE, LIST, DELETE, FORGET = (
    *range(8, 17),
    42,
    47,
)
RANGES = {api.key: (api.min_version, api.max_version) for api in APIS}
EVERY_AGE = pytest.mark.parametrize("age", range(11))
NONE = ErrorCode.none
PROTOCOLS = [{"name": "range", "metadata": subscription("flights")}]
IDENTITY = {"group_id": "g", "member_id": "", "generation_id_or_member_epoch": -1}


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path) as opened:
        opened.broker.topics.create("flights", partitions=2)
        yield opened


def version_of(api_key: int, age: int) -> int:
    """The version that a client of this age takes: the newest that both know."""
    low, high = RANGES[api_key]
    return min(max(age, low), high)


async def ask(inner: InnerBroker, api_key: int, age: int, **members: Any) -> Any:
    version = version_of(api_key, age)
    frame = request_frame(request(api_key, version, **members))
    reply: Any = dispatch(inner.broker, inner.connection, memoryview(frame))
    return read_response(api_key, version, await reply if inspect.isawaitable(reply) else reply)


async def join(inner: InnerBroker, age: int, member_id: str = "", **members: Any) -> Any:
    session = {"session_timeout": timedelta(seconds=10), "rebalance_timeout": timedelta(seconds=60)}
    asked = {"group_id": "g", "protocol_type": "consumer", "protocols": PROTOCOLS, **session, **members}
    return await ask(inner, JOIN, age, member_id=member_id, **asked)


async def enter(inner: InnerBroker, age: int) -> Any:
    """Join as a client of this age does: once more with the id, where the version asks for that."""
    reply = await join(inner, age)
    if version_of(JOIN, age) >= 4:
        assert reply.error_code is ErrorCode.member_id_required
        reply = await join(inner, age, reply.member_id)
    return reply


async def commit(inner: InnerBroker, age: int, place: dict[str, Any], index: int = 0, **members: Any) -> Any:
    partition = {"partition_index": index, "committed_offset": 42, "committed_metadata": "m"}
    topics = [{**place, "partitions": [partition]}]
    reply = await ask(inner, COMMIT, age, topics=topics, **{**IDENTITY, **members})
    return reply.topics[0].partitions[0].error_code


async def fetch(
    inner: InnerBroker, age: int, topics: list[dict[str, Any]] | None, group_id: str = "g"
) -> Any:
    """(error of the group, its topics)."""
    if version_of(FETCH, age) >= 8:
        reply = await ask(inner, FETCH, age, groups=[{"group_id": group_id, "topics": topics}])
        return reply.groups[0].error_code, reply.groups[0].topics
    reply = await ask(inner, FETCH, age, group_id=group_id, topics=topics)
    return getattr(reply, "error_code", NONE), reply.topics


def place_of(inner: InnerBroker, age: int, name: str = "flights") -> dict[str, Any]:
    """How a client of this age names a topic to OffsetCommit and OffsetFetch."""
    topic = inner.broker.topics.get(name)
    return {"topic_id": topic.topic_id if topic else None} if age >= 10 else {"name": name}


@EVERY_AGE
async def test_a_member_lives_through_every_version(inner: InnerBroker, age: int) -> None:
    found = await ask(inner, FIND, age, key="g", key_type=0, coordinator_keys=["g"])
    found = found.coordinators[0] if version_of(FIND, age) >= 4 else found
    assert (found.error_code, found.node_id, found.host, found.port) == (NONE, 1, "127.0.0.1", 9092)

    joined = await enter(inner, age)
    assert (joined.error_code, joined.generation_id, joined.protocol_name) == (NONE, 1, "range")
    assert joined.leader == joined.member_id == joined.members[0].member_id
    assert joined.members[0].metadata == subscription("flights")

    who = {"group_id": "g", "generation_id": 1, "member_id": joined.member_id}
    share = [{"member_id": joined.member_id, "assignment": b"share"}]
    protocol = {"protocol_type": "consumer", "protocol_name": "range"}
    synced = await ask(inner, SYNC, age, **who, **protocol, assignments=share)
    assert (synced.error_code, synced.assignment) == (NONE, b"share")
    assert (await ask(inner, HEARTBEAT, age, **who)).error_code is NONE

    described = (await ask(inner, DESCRIBE, age, groups=["g"])).groups[0]
    assert (described.error_code, described.group_state) == (NONE, "Stable")
    assert described.members[0].member_assignment == b"share"
    listed = await ask(inner, LIST, age)
    assert [(group.group_id, group.protocol_type) for group in listed.groups] == [("g", "consumer")]

    error = await commit(
        inner, age, place_of(inner, age), member_id=joined.member_id, generation_id_or_member_epoch=1
    )
    assert error is NONE
    error, topics = await fetch(inner, age, [{**place_of(inner, age), "partition_indexes": [0, 1]}])
    assert error is NONE
    assert [(each.committed_offset, each.metadata) for each in topics[0].partitions] == [(42, "m"), (-1, "")]

    member = {"member_id": joined.member_id}
    left = await ask(inner, LEAVE, age, group_id="g", **member, members=[member])
    assert left.error_code is NONE
    assert (await ask(inner, HEARTBEAT, age, **who)).error_code is ErrorCode.unknown_member_id
    deleted = await ask(inner, DELETE, age, groups_names=["g"])
    assert deleted.results[0].error_code is NONE


@EVERY_AGE
async def test_what_is_not_there_is_told_in_every_version(inner: InnerBroker, age: int) -> None:
    nobody = {"group_id": "g", "generation_id": 1, "member_id": "nobody"}
    assert (await join(inner, age, "nobody")).error_code is ErrorCode.unknown_member_id
    assert (await ask(inner, SYNC, age, **nobody)).error_code is ErrorCode.unknown_member_id
    assert (await ask(inner, HEARTBEAT, age, **nobody)).error_code is ErrorCode.unknown_member_id
    left = await ask(inner, LEAVE, age, group_id="g", member_id="nobody", members=[{"member_id": "nobody"}])
    error = left.members[0].error_code if version_of(LEAVE, age) >= 3 else left.error_code
    assert error is ErrorCode.unknown_member_id
    described = (await ask(inner, DESCRIBE, age, groups=["g"])).groups[0]
    assert described.group_state == "Dead"
    expected = ErrorCode.group_id_not_found if version_of(DESCRIBE, age) >= 6 else NONE
    assert described.error_code is expected
    deleted = await ask(inner, DELETE, age, groups_names=["g", ""])
    assert [each.error_code for each in deleted.results] == [
        ErrorCode.group_id_not_found,
        ErrorCode.invalid_group_id,
    ]


@EVERY_AGE
async def test_offsets_of_what_does_not_exist_are_rejected(inner: InnerBroker, age: int) -> None:
    unknown = ErrorCode.unknown_topic_id if age >= 10 else ErrorCode.unknown_topic_or_partition
    assert await commit(inner, age, place_of(inner, age, "nowhere")) is unknown
    beyond = await commit(inner, age, place_of(inner, age), index=2)
    assert beyond is ErrorCode.unknown_topic_or_partition
    place = place_of(inner, age, "nowhere")
    error, topics = await fetch(inner, age, [{**place, "partition_indexes": [0]}])
    partition = topics[0].partitions[0]
    assert (error, partition.committed_offset) == (NONE, -1)
    assert partition.error_code is (ErrorCode.unknown_topic_id if age >= 10 else NONE)


@EVERY_AGE
async def test_a_group_without_a_name_has_no_offsets(inner: InnerBroker, age: int) -> None:
    assert await commit(inner, age, place_of(inner, age), group_id="") is ErrorCode.invalid_group_id
    error, topics = await fetch(inner, age, [{**place_of(inner, age), "partition_indexes": [0]}], "")
    told = error if version_of(FETCH, age) >= 2 else topics[0].partitions[0].error_code
    assert told is ErrorCode.invalid_group_id


@pytest.mark.parametrize("age", range(2, 11))
async def test_null_topics_fetch_everything(inner: InnerBroker, age: int) -> None:
    assert await commit(inner, age, place_of(inner, age)) is NONE
    _, topics = await fetch(inner, age, None)
    assert [partition.committed_offset for partition in topics[0].partitions] == [42]
    said = topics[0].topic_id if age >= 10 else topics[0].name
    assert said == next(iter(place_of(inner, age).values()))


async def test_a_transactional_id_gets_a_plain_answer(inner: InnerBroker) -> None:
    """The code is one that no client retries."""
    (found,) = (await ask(inner, FIND, 6, key_type=1, coordinator_keys=["t"])).coordinators
    final = ErrorCode.transactional_id_authorization_failed
    assert found.error_code is final
    assert "transactions" in found.error_message
    assert (await ask(inner, FIND, 1, key="t", key_type=1)).error_code is final


async def test_a_share_group_has_no_coordinator_here(inner: InnerBroker) -> None:
    (found,) = (await ask(inner, FIND, 6, key_type=2, coordinator_keys=["g:topic:0"])).coordinators
    assert found.error_code is ErrorCode.invalid_request


async def test_groups_are_listed_by_state_and_type(inner: InnerBroker) -> None:
    await enter(inner, 9)

    async def listed(**filters: Any) -> list[str]:
        return [group.group_id for group in (await ask(inner, LIST, 5, **filters)).groups]

    assert await listed(states_filter=["completingrebalance"]) == ["g"]
    assert await listed(states_filter=["Stable"]) == []
    assert await listed(types_filter=["classic"]) == ["g"]
    assert await listed(types_filter=["consumer"]) == []


async def test_authorized_operations_come_only_when_asked_for(inner: InnerBroker) -> None:
    await enter(inner, 9)

    async def operations(asked: bool) -> int:  # noqa: FBT001 - the request's own flag
        reply = await ask(inner, DESCRIBE, 6, groups=["g"], include_authorized_operations=asked)
        told: int = reply.groups[0].authorized_operations
        return told

    assert await operations(asked=False) == -(2**31)
    assert await operations(asked=True) == sum(1 << code for code in (3, 6, 8, 10, 11))


async def test_offset_delete_answers_for_the_group_and_for_each_partition(inner: InnerBroker) -> None:
    place = {"name": "flights", "partitions": [{"partition_index": 0}]}
    reply = await ask(inner, FORGET, 0, group_id="g", topics=[place])
    assert reply.error_code is ErrorCode.group_id_not_found
    await commit(inner, 9, place_of(inner, 9))
    reply = await ask(inner, FORGET, 0, group_id="g", topics=[place])
    assert reply.topics[0].partitions[0].error_code is NONE
    reply = await ask(inner, FORGET, 0, group_id="", topics=[place])
    assert reply.error_code is ErrorCode.invalid_group_id


async def test_many_groups_are_fetched_at_once(inner: InnerBroker) -> None:
    """KIP-709: one of them wrong does not spoil the others."""
    await commit(inner, 9, place_of(inner, 9))
    topics = [{"name": "flights", "partition_indexes": [0]}]
    asked = [{"group_id": name, "topics": topics} for name in ("g", "other", "")]
    reply = await ask(inner, FETCH, 9, groups=asked)
    assert [group.error_code for group in reply.groups] == [NONE, NONE, ErrorCode.invalid_group_id]
    offsets = [group.topics[0].partitions[0].committed_offset for group in reply.groups[:2]]
    assert offsets == [42, -1]


async def test_a_deleted_topic_is_forgotten_by_its_groups(inner: InnerBroker) -> None:
    await commit(inner, 9, place_of(inner, 9))
    inner.broker.topics.delete("flights")
    inner.broker.groups.forget_topics(["flights"])
    inner.broker.topics.create("flights", partitions=2)
    _, topics = await fetch(inner, 9, [{"name": "flights", "partition_indexes": [0]}])
    assert topics[0].partitions[0].committed_offset == -1


def test_a_kill_between_the_batches_of_a_commit_leaves_each_position_old_or_new_and_can_be_repeated(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_offsets, "COMMITTED_AT_ONCE", 2)
    inner.broker.topics.create("wide", partitions=5)
    partitions = [{"partition_index": index, "committed_offset": 10 + index} for index in range(5)]
    members = {
        "group_id": "g",
        "generation_id_or_member_epoch": -1,
        "topics": [{"name": "wide", "partitions": partitions}],
    }
    frame = request_frame(request(COMMIT, 8, **members))
    header = read_request_header(frame)
    asked = Request(api="", header=header, body=decode_request(header, frame), connection=inner.connection)
    steps = group_offsets.offset_commit(inner.broker, asked)
    while not committed(inner.broker.groups):
        next(steps)
    steps.close()

    inner.broker.groups = reread = GroupService(
        inner.broker.topics, inner.broker.settings, now_ms=lambda: START_MS, monotonic_s=lambda: 0.0
    )
    assert committed(reread) == {0: 10, 1: 11}
    (topic,) = inner.ask(COMMIT, 8, **members).topics
    assert {each.error_code for each in topic.partitions} == {ErrorCode.none}
    assert committed(reread) == {index: 10 + index for index in range(5)}


def committed(service: GroupService) -> dict[int, int]:
    return {index: each.offset for (_, index), each in service.coordinator.committed("g").items()}
