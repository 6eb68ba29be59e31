"""CreateTopics, DeleteTopics, CreatePartitions: what is made, and each refusal with Kafka's code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tidemill_broker.protocol.errors import ErrorCode

CREATE, DELETE, PARTITIONS = 19, 20, 37
DYNAMIC_TOPIC_CONFIG, STATIC_BROKER_CONFIG, DEFAULT_CONFIG = 1, 4, 5


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path, "num.partitions=3", "log.retention.hours=1") as opened:
        yield opened


def topic(name: str, partitions: int = 1, factor: int = 1, **members: Any) -> dict[str, Any]:
    return {"name": name, "num_partitions": partitions, "replication_factor": factor, **members}


def create(inner: InnerBroker, *topics: dict[str, Any], version: int = 7, validate_only: bool = False) -> Any:
    return inner.ask(CREATE, version, topics=list(topics), validate_only=validate_only).topics


@pytest.mark.parametrize("version", range(2, 8))
def test_a_topic_is_created_in_every_version(inner: InnerBroker, version: int) -> None:
    (created,) = create(inner, topic("flights", 6), version=version)
    assert created.error_code is ErrorCode.none
    made = inner.broker.topics.get("flights")
    assert made is not None
    assert len(made.partitions) == 6
    if version >= 7:
        assert created.topic_id == made.topic_id


def test_minus_one_means_the_brokers_defaults_and_the_reply_says_what_they_are(inner: InnerBroker) -> None:
    (created,) = create(inner, topic("flights", -1, -1))
    assert (created.num_partitions, created.replication_factor) == (3, 1)
    configs = {each.name: each for each in created.configs}
    assert configs["retention.ms"].value == "3600000"
    assert configs["retention.ms"].config_source == STATIC_BROKER_CONFIG
    assert configs["cleanup.policy"].config_source == DEFAULT_CONFIG


def test_configs_are_kept_and_told_as_the_topics_own(inner: InnerBroker) -> None:
    (created,) = create(inner, topic("flights", configs=[{"name": "retention.ms", "value": "5000"}]))
    told = {each.name: (each.value, each.config_source) for each in created.configs}
    assert told["retention.ms"] == ("5000", DYNAMIC_TOPIC_CONFIG)
    made = inner.broker.topics.get("flights")
    assert made is not None
    assert made.configs == {"retention.ms": "5000"}


def test_validate_only_says_what_would_be_and_makes_nothing(inner: InnerBroker) -> None:
    (created,) = create(inner, topic("flights", 2), validate_only=True)
    assert (created.error_code, created.num_partitions, created.topic_id) == (ErrorCode.none, 2, None)
    assert inner.broker.topics.get("flights") is None


def test_a_manual_assignment_gives_partitions_and_replication_factor(inner: InnerBroker) -> None:
    assignments = [{"partition_index": index, "broker_ids": [1, 2, 3]} for index in (1, 0)]
    (created,) = create(inner, topic("flights", -1, -1, assignments=assignments))
    assert (created.num_partitions, created.replication_factor) == (2, 3)


def test_one_rejected_topic_does_not_hinder_the_others(inner: InnerBroker) -> None:
    results = create(inner, topic("a topic"), topic("flights"), topic("orders", 0))
    assert [each.error_code for each in results] == [
        ErrorCode.invalid_topic_exception,
        ErrorCode.none,
        ErrorCode.invalid_partitions,
    ]
    assert [each.name for each in inner.broker.topics.all()] == ["flights"]


def assigned(
    *broker_ids: list[int], first: int = 0, partitions: int = -1, factor: int = -1
) -> dict[str, Any]:
    assignments = [
        {"partition_index": index, "broker_ids": ids} for index, ids in enumerate(broker_ids, start=first)
    ]
    return topic("x", partitions, factor, assignments=assignments)


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (topic(""), ErrorCode.invalid_topic_exception, "invalid"),
        (topic("."), ErrorCode.invalid_topic_exception, "invalid"),
        (topic("a b"), ErrorCode.invalid_topic_exception, "invalid"),
        (topic("x" * 250), ErrorCode.invalid_topic_exception, "invalid"),
        (topic("there"), ErrorCode.topic_already_exists, "already exists"),
        (topic("a_b"), ErrorCode.invalid_topic_exception, "collides with existing topic: a.b"),
        (topic("__consumer_offsets"), ErrorCode.invalid_request, "belongs to the broker"),
        (topic("__cluster_metadata"), ErrorCode.invalid_request, "belongs to the broker"),
        (topic("x", 0), ErrorCode.invalid_partitions, "non-positive"),
        (topic("x", -2), ErrorCode.invalid_partitions, "non-positive"),
        (topic("x", 1001), ErrorCode.policy_violation, "at most 1000 partitions"),
        (topic("x", 1, 0), ErrorCode.invalid_replication_factor, "larger than 0"),
        (topic("x", 1, -2), ErrorCode.invalid_replication_factor, "larger than 0"),
        (topic("x", 1, 61), ErrorCode.invalid_replication_factor, "at most 60"),
        (
            topic("x", configs=[{"name": "retention.ms", "value": "x"}]),
            ErrorCode.invalid_config,
            "not a number",
        ),
        (
            topic("x", configs=[{"name": "retention.m", "value": "1"}]),
            ErrorCode.invalid_config,
            "did you mean",
        ),
        (
            topic("x", configs=[{"name": "retention.ms"}]),
            ErrorCode.invalid_config,
            "Null value not supported",
        ),
        (assigned([1], partitions=1), ErrorCode.invalid_request, "num_partitions was not set to -1"),
        (assigned([1], factor=1), ErrorCode.invalid_request, "replication factor was not set to -1"),
        (assigned([1], first=1), ErrorCode.invalid_replica_assignment, "consecutive 0-based"),
        (assigned([1], []), ErrorCode.invalid_replica_assignment, "at least one replica"),
        (assigned([1, 1]), ErrorCode.invalid_replica_assignment, "each only once"),
        (assigned([1], [1, 2]), ErrorCode.invalid_replica_assignment, "same number of replicas"),
    ],
)
def test_a_topic_that_cannot_be_is_rejected(
    inner: InnerBroker, asked: dict[str, Any], code: ErrorCode, words: str
) -> None:
    create(inner, topic("there"), topic("a.b"))
    for validate_only in (True, False):
        (result,) = create(inner, asked, validate_only=validate_only)
        assert (result.error_code, result.configs) == (code, None)
        assert words in result.error_message
    assert {each.name for each in inner.broker.topics.all()} == {"there", "a.b"}


def test_a_topic_that_is_named_twice_is_made_neither_time(inner: InnerBroker) -> None:
    results = create(inner, topic("x"), topic("y"), topic("x"))
    invalid = ErrorCode.invalid_request
    assert [each.error_code for each in results] == [invalid, ErrorCode.none, invalid]
    assert inner.broker.topics.get("x") is None


def test_the_limit_of_partitions_counts_over_the_whole_request(inner: InnerBroker) -> None:
    results = create(inner, topic("x", 600), topic("y", 600), topic("z", 400), validate_only=True)
    assert [each.error_code for each in results] == [
        ErrorCode.none,
        ErrorCode.policy_violation,
        ErrorCode.none,
    ]


def test_a_rejection_quotes_no_more_than_a_reply_can_carry(inner: InnerBroker) -> None:
    (result,) = create(inner, topic("x", configs=[{"name": "n" * 30_000, "value": "1"}]), version=4)
    assert result.error_code is ErrorCode.invalid_config
    assert len(result.error_message) <= 1000


@pytest.mark.parametrize("version", range(1, 6))
def test_topics_are_deleted_by_name(inner: InnerBroker, version: int) -> None:
    create(inner, topic("flights"))
    reply = inner.ask(DELETE, version, topic_names=["flights", "ghost"])
    assert [(each.name, each.error_code) for each in reply.responses] == [
        ("flights", ErrorCode.none),
        ("ghost", ErrorCode.unknown_topic_or_partition),
    ]
    assert inner.broker.topics.all() == []


def test_topics_are_deleted_by_id_and_answered_with_both(inner: InnerBroker) -> None:
    (created,) = create(inner, topic("flights"))
    (result,) = inner.ask(DELETE, 6, topics=[{"topic_id": created.topic_id}]).responses
    assert (result.error_code, result.name, result.topic_id) == (ErrorCode.none, "flights", created.topic_id)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([{"name": "ghost"}], ErrorCode.unknown_topic_or_partition),
        ([{"topic_id": UUID(int=1)}], ErrorCode.unknown_topic_id),
        ([{}], ErrorCode.invalid_request),
        ([{"name": "flights", "topic_id": UUID(int=1)}], ErrorCode.invalid_request),
        ([{"name": "flights"}, {"name": "flights"}], ErrorCode.invalid_request),
    ],
)
def test_a_deletion_that_cannot_be_is_rejected(
    inner: InnerBroker, asked: list[dict[str, Any]], code: ErrorCode
) -> None:
    create(inner, topic("flights"))
    reply = inner.ask(DELETE, 6, topics=asked)
    assert {each.error_code for each in reply.responses} == {code}
    assert inner.broker.topics.get("flights") is not None


def test_the_brokers_own_topic_is_neither_deleted_nor_widened(inner: InnerBroker) -> None:
    inner.broker.topics.create("__consumer_offsets", partitions=1, internal=True)
    (deleted,) = inner.ask(DELETE, 6, topics=[{"name": "__consumer_offsets"}]).responses
    (widened,) = inner.ask(
        PARTITIONS, 3, topics=[{"name": "__consumer_offsets", "count": 2, "assignments": None}]
    ).results
    assert deleted.error_code is widened.error_code is ErrorCode.invalid_request


@pytest.mark.parametrize("version", range(4))
def test_partitions_are_added(inner: InnerBroker, version: int) -> None:
    create(inner, topic("flights", 2))
    (result,) = inner.ask(
        PARTITIONS, version, topics=[{"name": "flights", "count": 5, "assignments": None}]
    ).results
    assert result.error_code is ErrorCode.none
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    assert [each.index for each in flights.partitions] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"name": "ghost", "count": 5}, ErrorCode.unknown_topic_or_partition, "no topic 'ghost'"),
        ({"name": "flights", "count": 2}, ErrorCode.invalid_partitions, "would not be an increase"),
        ({"name": "flights", "count": 1}, ErrorCode.invalid_partitions, "would not be an increase"),
        ({"name": "flights", "count": 2000}, ErrorCode.policy_violation, "at most 1000"),
        (
            {"name": "flights", "count": 4, "assignments": [{"broker_ids": [1]}]},
            ErrorCode.invalid_replica_assignment,
            "2 partitions are added, but 1",
        ),
        (
            {"name": "flights", "count": 3, "assignments": [{"broker_ids": [1, 2]}]},
            ErrorCode.invalid_replica_assignment,
            "replication factor is 1",
        ),
    ],
)
def test_partitions_that_cannot_be_added_are_rejected(
    inner: InnerBroker, asked: dict[str, Any], code: ErrorCode, words: str
) -> None:
    create(inner, topic("flights", 2))
    (result,) = inner.ask(PARTITIONS, 3, topics=[{"assignments": None, **asked}]).results
    assert result.error_code is code
    assert words in result.error_message
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    assert len(flights.partitions) == 2


def test_validate_only_adds_no_partition(inner: InnerBroker) -> None:
    create(inner, topic("flights"))
    asked = [{"name": "flights", "count": 5, "assignments": None}]
    (result,) = inner.ask(PARTITIONS, 3, topics=asked, validate_only=True).results
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    assert (result.error_code, len(flights.partitions)) == (ErrorCode.none, 1)
