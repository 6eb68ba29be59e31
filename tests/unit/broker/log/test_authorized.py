"""Names come out of the core and decisions go in, as values; no request is served before all are decided."""

from __future__ import annotations

import pytest

from tests.fakes.kafka_frames import read_response
from tests.fakes.log_frames import FETCH, PRODUCE, fetch_frame, fetch_partition, produce_frame
from tests.fakes.record_batches import NOW_MS, batch
from tidemill_broker._core import AllowedTopics, LogTable, Undecided, WaitingFetch
from tidemill_broker.log.topics import Topics
from tidemill_broker.protocol.errors import ErrorCode

TRANSACTIONAL = 0x10
NOTHING_YET: tuple[dict[str, bool], None] = ({}, None)


class Rules:
    """An authorizer that notes what it is asked for; `allowed` are the names that may be used."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed
        self.asked: list[str] = []

    def may_write(self, topic: str, /) -> bool:
        self.asked.append(topic)
        return topic in self.allowed

    def may_write_as(self, transactional_id: str, /) -> bool:
        return self.may_write(transactional_id)

    def may_read(self, topic: str, /) -> bool:
        return self.may_write(topic)

    def refresh(self) -> None:
        self.asked.append("version")


@pytest.fixture
def table(topics: Topics) -> LogTable:
    topics.create("t", partitions=1)
    return topics._table


@pytest.fixture
def allowed() -> AllowedTopics:
    return AllowedTopics()


def undecided(answer: object) -> Undecided:
    assert isinstance(answer, Undecided), answer
    return answer


def produced(answer: object) -> ErrorCode:
    assert isinstance(answer, tuple), answer
    error: ErrorCode = read_response(PRODUCE, 12, answer[0]).responses[0].partition_responses[0].error_code
    return error


def high_watermark(topics: Topics) -> int:
    topic = topics.get("t")
    assert topic is not None
    return topic.partitions[0].high_watermark


def test_a_produce_request_is_served_only_with_the_decision_about_its_topic(
    topics: Topics, table: LogTable, allowed: AllowedTopics
) -> None:
    frame = produce_frame(batch())
    first = undecided(table.produce(frame, NOW_MS, allowed))
    assert (first.topics, first.transactional_id) == ([], None), "the version of the rules is compared first"
    assert undecided(table.produce(frame, NOW_MS, allowed, NOTHING_YET)).topics == ["t"]
    assert high_watermark(topics) == 0
    denied = table.produce(frame, NOW_MS, allowed, ({"t": False}, None))
    assert produced(denied) is ErrorCode.topic_authorization_failed
    assert high_watermark(topics) == 0
    assert produced(table.produce(frame, NOW_MS, allowed, ({"t": True}, None))) is ErrorCode.none
    assert high_watermark(topics) == 1


def test_what_was_allowed_is_not_undecided_again_until_it_is_forgotten(
    table: LogTable, allowed: AllowedTopics
) -> None:
    frame = produce_frame(batch())
    table.produce(frame, NOW_MS, allowed)
    table.produce(frame, NOW_MS, allowed, ({"t": True}, None))
    assert produced(table.produce(frame, NOW_MS, allowed, NOTHING_YET)) is ErrorCode.none
    allowed.forget()
    assert undecided(table.produce(frame, NOW_MS, allowed, NOTHING_YET)).topics == ["t"]


def test_a_denial_and_a_topic_that_does_not_exist_are_undecided_in_the_next_request(
    table: LogTable, allowed: AllowedTopics
) -> None:
    for name, decision in (("t", False), ("nowhere", True)):
        frame = produce_frame(batch(), topic=name)
        assert isinstance(table.produce(frame, NOW_MS, allowed, ({name: decision}, None)), tuple)
        assert undecided(table.produce(frame, NOW_MS, allowed, NOTHING_YET)).topics == [name]


def test_a_transactional_id_is_decided_before_any_topic(table: LogTable, allowed: AllowedTopics) -> None:
    frame = produce_frame(batch(attributes=TRANSACTIONAL, producer=(1, 0, 0)), transactional_id="x")
    first = undecided(table.produce(frame, NOW_MS, allowed, NOTHING_YET))
    assert (first.topics, first.transactional_id) == ([], "x")
    assert undecided(table.produce(frame, NOW_MS, allowed, ({}, True))).topics == ["t"]
    denied = produced(table.produce(frame, NOW_MS, allowed, ({}, False)))
    assert denied is ErrorCode.transactional_id_authorization_failed


def test_a_fetch_and_a_waiting_fetch_are_served_only_with_the_decision(
    table: LogTable, allowed: AllowedTopics
) -> None:
    frame = fetch_frame([fetch_partition(offset=0)], version=12, min_bytes=1, max_wait_ms=60_000)
    assert undecided(table.fetch(frame, allowed)).topics == []
    assert undecided(table.fetch(frame, allowed, NOTHING_YET)).topics == ["t"]
    waiting = table.fetch(frame, allowed, ({"t": True}, None))
    assert isinstance(waiting, WaitingFetch)
    assert waiting.poll(allowed, NOTHING_YET, last=False) is None
    allowed.forget()
    assert undecided(waiting.poll(allowed, NOTHING_YET, last=False)).topics == ["t"]
    answer = waiting.poll(allowed, ({"t": False}, None), last=False)
    assert isinstance(answer, memoryview), "a denial does not wait"
    error = read_response(FETCH, 12, bytes(answer)).responses[0].partitions[0].error_code
    assert error is ErrorCode.topic_authorization_failed


def test_each_undecided_name_is_decided_once_after_the_version_of_the_rules_was_compared(
    topics: Topics, allowed: AllowedTopics
) -> None:
    topics.create("t", partitions=1)
    rules = Rules("t")
    for _ in range(3):
        reply, failed, _ = topics.produce(memoryview(produce_frame(batch())), NOW_MS, allowed, rules)
        assert (reply is not None, failed) == (True, False)
    assert rules.asked[:3] == ["version", "version", "t"]
    assert rules.asked.count("t") == 1


@pytest.mark.parametrize(("rules", "served"), [(Rules("x"), ["x", "t"]), (Rules(), ["x"])])
def test_the_topics_of_a_denied_transaction_are_not_decided(
    topics: Topics, allowed: AllowedTopics, rules: Rules, served: list[str]
) -> None:
    topics.create("t", partitions=1)
    frame = produce_frame(batch(attributes=TRANSACTIONAL, producer=(1, 0, 0)), transactional_id="x")
    _, failed, _ = topics.produce(memoryview(frame), NOW_MS, allowed, rules)
    assert failed
    assert [each for each in rules.asked if each != "version"] == served
