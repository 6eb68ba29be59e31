"""Long answers in turns: others are served meanwhile, and the connection that asked waits."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from pathlib import Path
from time import perf_counter

import pytest

from tests.fakes.inner_broker import InnerBroker, finished, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tidemill_broker.apis import APIS, CloseConnection, dispatch
from tidemill_broker.apis.dispatching import AT_ONCE_BYTES_MAX, DENIED_ELEMENTS_MAX
from tidemill_broker.apis.turns import TURN_S, Turns
from tidemill_broker.log.errors import TopicBusy, TopicExists
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode

METADATA, OFFSET_COMMIT, OFFSET_FETCH, CREATE_ACLS, LEAVE_GROUP, ALTER_USERS = 3, 8, 9, 30, 13, 51


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path) as opened:
        yield opened


@pytest.fixture
def denied(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path, "allow.everyone.if.no.acl.found=false") as opened:
        yield opened


def busy(seconds: float) -> Generator[None, None, str]:
    until_s = perf_counter() + seconds
    while perf_counter() < until_s:
        yield
    return "done"


async def test_two_long_answers_and_everybody_else_take_turns() -> None:
    turns = Turns()
    rounds = 0

    async def others() -> None:
        nonlocal rounds
        while True:
            await asyncio.sleep(0)
            rounds += 1

    async with asyncio.TaskGroup() as tasks:
        other = tasks.create_task(others())
        answers = await asyncio.gather(turns.take(busy(10 * TURN_S)), turns.take(busy(10 * TURN_S)))
        other.cancel()
    assert list(answers) == ["done", "done"]
    assert rounds >= 3


async def test_a_large_request_is_read_in_its_turn_and_its_connection_waits(inner: InnerBroker) -> None:
    topics = [{"name": f"topic-of-many-{index}"} for index in range(2000)]
    frame = bytearray(request_frame(request(METADATA, 8, topics=topics, allow_auto_topic_creation=False)))
    assert len(frame) > AT_ONCE_BYTES_MAX
    reply = dispatch(inner.broker, inner.connection, memoryview(frame))
    assert inner.connection.in_turns
    frame[:] = bytes(len(frame))  # the buffer is the next request's
    answer = read_response(METADATA, 8, bytes(finished(reply)))
    assert [each.name for each in answer.topics] == [each["name"] for each in topics]
    assert not inner.connection.in_turns


@pytest.mark.parametrize(
    ("key", "version", "members"),
    [
        (
            LEAVE_GROUP,
            4,
            {"group_id": "g", "members": [{"member_id": str(n)} for n in range(DENIED_ELEMENTS_MAX + 1)]},
        ),
        (
            OFFSET_COMMIT,
            8,
            {"group_id": "g", "topics": [{"name": str(n)} for n in range(DENIED_ELEMENTS_MAX + 1)]},
        ),
        (
            OFFSET_FETCH,
            7,
            {"group_id": "g", "topics": [{"name": str(n)} for n in range(DENIED_ELEMENTS_MAX + 1)]},
        ),
        (
            CREATE_ACLS,
            3,
            {"creations": [{"principal": f"User:{n}"} for n in range(DENIED_ELEMENTS_MAX + 1)]},
        ),
    ],
)
def test_without_the_right_of_the_whole_request_its_elements_are_not_decoded(
    denied: InnerBroker, key: int, version: int, members: dict[str, object]
) -> None:
    frame = request_frame(request(key, version, **members))
    with pytest.raises(CloseConnection, match=f"more than {DENIED_ELEMENTS_MAX} elements"):
        finished(dispatch(denied.broker, denied.connection, memoryview(frame)))


def test_a_denied_request_of_few_elements_gets_its_answer(denied: InnerBroker) -> None:
    reply = denied.ask(LEAVE_GROUP, 4, group_id="g", members=[{"member_id": "m"}])
    assert reply.error_code is ErrorCode.group_authorization_failed


def test_every_api_says_how_many_elements_it_takes_or_takes_what_all_take() -> None:
    fewer = {api.name: api.elements_max for api in APIS.values() if api.elements_max is not None}
    assert fewer == {"JoinGroup": 1_000, "CreateAcls": 10_000, "DeleteAcls": 10_000}


def test_nobody_sees_or_changes_a_topic_that_is_made_in_turns(topics: Topics) -> None:
    making = topics.create_in_turns("t", partitions=3)
    next(making)
    assert topics.get("t") is None
    with pytest.raises(TopicExists):
        topics.create("t", partitions=1)
    for _ in making:
        pass
    made = topics.get("t")
    assert made is not None
    assert len(made.partitions) == 3


def test_a_topic_whose_maker_went_away_is_not_there_and_can_be_made(topics: Topics) -> None:
    making = topics.create_in_turns("t", partitions=3)
    next(making)
    making.close()
    assert topics.get("t") is None
    assert len(topics.create("t", partitions=2).partitions) == 2


def test_a_topic_that_is_widened_in_turns_is_not_deleted_meanwhile(topics: Topics) -> None:
    topics.create("t", partitions=1)
    widening = topics.add_partitions_in_turns("t", 3)
    next(widening)
    with pytest.raises(TopicBusy):
        topics.delete("t")
    for _ in widening:
        pass
    topics.delete("t")
    assert topics.get("t") is None
