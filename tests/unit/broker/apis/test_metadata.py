"""Metadata, DescribeTopicPartitions, DescribeCluster: topics, nodes, ids and rights in each version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tidemill_broker.protocol.errors import ErrorCode

METADATA, DESCRIBE_CLUSTER, DESCRIBE_TOPIC_PARTITIONS = 3, 60, 75
NOT_ASKED = -2147483648
# As Kafka computes them: every operation that AclEntry knows for the type of resource.
TOPIC_OPERATIONS, CLUSTER_OPERATIONS = 0b110111111000, 0b1111110100000 | 1 << 12
VERSIONS = range(14)


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path, "num.partitions=2") as opened:
        opened.broker.topics.create("flights", partitions=2, replication_factor=3)
        opened.broker.topics.create("orders", partitions=1)
        yield opened


def names(reply: Any) -> list[str]:
    return [each.name for each in reply.topics]


def asked(version: int, name: str) -> dict[str, Any]:
    return {"name": name, "topic_id": None} if version >= 10 else {"name": name}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_where_the_partitions_lie(inner: InnerBroker, version: int) -> None:
    reply = inner.ask(METADATA, version, topics=[asked(version, "flights")])
    (node,) = reply.brokers
    assert (node.node_id, node.host, node.port) == (1, "127.0.0.1", 9092)
    (topic,) = reply.topics
    assert (topic.error_code, topic.name) == (ErrorCode.none, "flights")
    assert [(each.partition_index, each.leader_id) for each in topic.partitions] == [(0, 1), (1, 1)]
    if version >= 1:
        assert reply.controller_id == 1
        assert topic.is_internal is False
    if version >= 2:
        assert reply.cluster_id == "DSycDm86TFGaVy8PbB96EQ"
    if version >= 10:
        flights = inner.broker.topics.get("flights")
        assert flights is not None
        assert topic.topic_id == flights.topic_id


@pytest.mark.parametrize("version", VERSIONS)
def test_three_replicas_are_reported_as_asked_all_in_sync(inner: InnerBroker, version: int) -> None:
    (topic,) = inner.ask(METADATA, version, topics=[asked(version, "flights")]).topics
    for each in topic.partitions:
        assert each.replica_nodes == each.isr_nodes == (1, 2, 3)
        assert getattr(each, "offline_replicas", ()) == ()


def test_an_empty_list_means_all_topics_in_v0_and_none_later(inner: InnerBroker) -> None:
    assert names(inner.ask(METADATA, 0, topics=[])) == ["flights", "orders"]
    for version in VERSIONS[1:]:
        assert names(inner.ask(METADATA, version, topics=[])) == []


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_null_means_all_topics(inner: InnerBroker, version: int) -> None:
    assert names(inner.ask(METADATA, version, topics=None)) == ["flights", "orders"]


def test_a_topic_that_is_asked_for_twice_is_told_once(inner: InnerBroker) -> None:
    assert names(inner.ask(METADATA, 9, topics=[{"name": "orders"}] * 3)) == ["orders"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_topic_is_created_when_it_is_asked_for(inner: InnerBroker, version: int) -> None:
    may = {"allow_auto_topic_creation": True} if version >= 4 else {}
    (topic,) = inner.ask(METADATA, version, topics=[asked(version, "new")], **may).topics
    assert (topic.error_code, len(topic.partitions)) == (ErrorCode.none, 2)
    assert inner.broker.topics.get("new") is not None


@pytest.mark.parametrize("version", VERSIONS[4:])
def test_a_client_may_forbid_the_creation(inner: InnerBroker, version: int) -> None:
    asks = [asked(version, "new")]
    (topic,) = inner.ask(METADATA, version, topics=asks, allow_auto_topic_creation=False).topics
    assert topic.error_code is ErrorCode.unknown_topic_or_partition
    assert inner.broker.topics.get("new") is None


def test_the_setting_forbids_the_creation(tmp_path: Path) -> None:
    with inner_broker(tmp_path, "auto.create.topics.enable=false") as inner:
        (topic,) = inner.ask(METADATA, 4, topics=[{"name": "new"}], allow_auto_topic_creation=True).topics
        assert topic.error_code is ErrorCode.unknown_topic_or_partition


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a b", ErrorCode.invalid_topic_exception),
        ("", ErrorCode.invalid_topic_exception),
        ("x" * 250, ErrorCode.invalid_topic_exception),
        ("__consumer_offsets", ErrorCode.unknown_topic_or_partition),
    ],
)
def test_a_topic_that_may_not_be_created_is_not(inner: InnerBroker, name: str, code: ErrorCode) -> None:
    for may in (True, False):
        (topic,) = inner.ask(METADATA, 9, topics=[{"name": name}], allow_auto_topic_creation=may).topics
        assert topic.error_code is code
    assert len(inner.broker.topics.all()) == 2


def test_one_request_creates_no_more_than_a_hundred_topics(inner: InnerBroker) -> None:
    asks = [{"name": f"t{number}"} for number in range(102)]
    reply = inner.ask(METADATA, 9, topics=asks, allow_auto_topic_creation=True)
    codes = [each.error_code for each in reply.topics]
    assert codes == [ErrorCode.none] * 100 + [ErrorCode.unknown_topic_or_partition] * 2


@pytest.mark.parametrize("version", [12, 13])
def test_topics_are_found_by_id(inner: InnerBroker, version: int) -> None:
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    ghost = UUID(int=5)
    asks = [{"topic_id": flights.topic_id, "name": None}, {"topic_id": ghost, "name": None}]
    found, unknown = inner.ask(METADATA, version, topics=asks).topics
    assert (found.error_code, found.name) == (ErrorCode.none, "flights")
    assert (unknown.error_code, unknown.name, unknown.topic_id) == (ErrorCode.unknown_topic_id, None, ghost)


@pytest.mark.parametrize("version", [10, 11])
def test_ids_may_not_be_asked_for_before_v12(inner: InnerBroker, version: int) -> None:
    """KAFKA-12701: the field is there in v10, but no broker may accept it."""
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    (topic,) = inner.ask(METADATA, version, topics=[{"topic_id": flights.topic_id, "name": "flights"}]).topics
    assert topic.error_code is ErrorCode.invalid_request


def test_a_recreated_topic_has_another_id(inner: InnerBroker) -> None:
    asks = [{"name": "orders", "topic_id": None}]
    (before,) = inner.ask(METADATA, 12, topics=asks).topics
    inner.broker.topics.delete("orders")
    (after,) = inner.ask(METADATA, 12, topics=asks, allow_auto_topic_creation=True).topics
    assert before.topic_id != after.topic_id
    (old,) = inner.ask(METADATA, 12, topics=[{"topic_id": before.topic_id, "name": None}]).topics
    assert old.error_code is ErrorCode.unknown_topic_id


@pytest.mark.parametrize("version", VERSIONS[8:])
def test_rights_are_told_only_to_those_who_ask(inner: InnerBroker, version: int) -> None:
    asks = [asked(version, "orders")]
    reply = inner.ask(METADATA, version, topics=asks)
    assert reply.topics[0].topic_authorized_operations == NOT_ASKED
    reply = inner.ask(METADATA, version, topics=asks, include_topic_authorized_operations=True)
    assert reply.topics[0].topic_authorized_operations == TOPIC_OPERATIONS
    if version <= 10:
        reply = inner.ask(METADATA, version, topics=[], include_cluster_authorized_operations=True)
        assert reply.cluster_authorized_operations == CLUSTER_OPERATIONS


@pytest.mark.parametrize("version", range(3))
def test_the_cluster_is_one_node_and_its_controller(inner: InnerBroker, version: int) -> None:
    asks = {"endpoint_type": 1} if version >= 1 else {}
    reply = inner.ask(DESCRIBE_CLUSTER, version, include_cluster_authorized_operations=True, **asks)
    assert (reply.error_code, reply.cluster_id) == (ErrorCode.none, inner.broker.cluster_id)
    assert reply.controller_id == 1
    assert [(each.broker_id, each.host, each.port) for each in reply.brokers] == [(1, "127.0.0.1", 9092)]
    assert reply.cluster_authorized_operations == CLUSTER_OPERATIONS


@pytest.mark.parametrize(
    ("endpoint_type", "code"),
    [(2, ErrorCode.mismatched_endpoint_type), (9, ErrorCode.unsupported_endpoint_type)],
)
def test_a_cluster_asked_of_the_wrong_endpoint_is_rejected(
    inner: InnerBroker, endpoint_type: int, code: ErrorCode
) -> None:
    reply = inner.ask(DESCRIBE_CLUSTER, 1, endpoint_type=endpoint_type)
    assert (reply.error_code, reply.brokers) == (code, ())
    assert reply.error_message


def pages(inner: InnerBroker, limit: int, asks: list[dict[str, Any]]) -> list[Any]:
    """Every page of DescribeTopicPartitions, by its cursor."""
    found: list[Any] = []
    where: dict[str, Any] | None = None
    while not found or where is not None:
        page = inner.ask(
            DESCRIBE_TOPIC_PARTITIONS, 0, topics=asks, response_partition_limit=limit, cursor=where
        )
        assert sum(len(topic.partitions) for topic in page.topics) <= limit
        found.append(page)
        cursor = page.next_cursor
        where = cursor and {"topic_name": cursor.topic_name, "partition_index": cursor.partition_index}
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 2000])
def test_partitions_page_without_gap_or_repeat(inner: InnerBroker, limit: int) -> None:
    inner.broker.topics.create("b", partitions=5)
    inner.broker.topics.create("z", partitions=4)
    told = [
        (topic.name, each.partition_index)
        for page in pages(inner, limit, [])
        for topic in page.topics
        for each in topic.partitions
    ]
    counts = {"b": 5, "flights": 2, "orders": 1, "z": 4}
    assert told == [(name, index) for name, count in counts.items() for index in range(count)]


def test_the_setting_limits_a_page(tmp_path: Path) -> None:
    with inner_broker(tmp_path, "max.request.partition.size.limit=2") as inner:
        inner.broker.topics.create("flights", partitions=3)
        page = inner.ask(DESCRIBE_TOPIC_PARTITIONS, 0, topics=[], response_partition_limit=2000)
        assert (page.next_cursor.topic_name, page.next_cursor.partition_index) == ("flights", 2)


def test_described_partitions_are_sorted_and_unknown_topics_named(inner: InnerBroker) -> None:
    asks = [{"name": name} for name in ("orders", "ghost", "a b", "flights", "orders")]
    page = inner.ask(DESCRIBE_TOPIC_PARTITIONS, 0, topics=asks)
    assert [(topic.name, topic.error_code) for topic in page.topics] == [
        ("a b", ErrorCode.invalid_topic_exception),
        ("flights", ErrorCode.none),
        ("ghost", ErrorCode.unknown_topic_or_partition),
        ("orders", ErrorCode.none),
    ]
    assert page.topics[1].partitions[0].isr_nodes == (1, 2, 3)
    assert page.topics[1].partitions[0].eligible_leader_replicas == (), "null breaks Java's admin client"
    assert page.topics[1].topic_authorized_operations == TOPIC_OPERATIONS
    assert page.next_cursor is None


def test_a_negative_cursor_is_read_as_the_beginning(inner: InnerBroker) -> None:
    cursor = {"topic_name": "flights", "partition_index": -1}
    page = inner.ask(DESCRIBE_TOPIC_PARTITIONS, 0, topics=[], cursor=cursor)
    assert [len(topic.partitions) for topic in page.topics] == [2, 1]
