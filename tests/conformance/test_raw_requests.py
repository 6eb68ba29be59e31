"""The same raw requests to Tidemill and to Apache Kafka: what handlers claim of Kafka is tried on it."""

from __future__ import annotations

import socket
import struct
import uuid
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.conformance.conftest import PARTITIONS, KafkaLike
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.harness.processes import wait_until
from tidemill_broker.protocol.errors import ErrorCode

LIST_OFFSETS, METADATA, API_VERSIONS, CREATE, DELETE, INIT_PRODUCER_ID = 2, 3, 18, 19, 20, 22
LEADER_EPOCH, DESCRIBE_CONFIGS, CREATE_PARTITIONS, INCREMENTAL_ALTER, DESCRIBE_CLUSTER = 23, 32, 37, 44, 60
TOPIC, BROKER = 2, 4
SET, DELETE_CONFIG, APPEND, SUBTRACT = range(4)
OK = ErrorCode.none
SOON = timedelta(seconds=10)


def ask(broker: KafkaLike, key: int, version: int, **members: Any) -> Any:
    frame = request_frame(request(key, version, **members))
    return read_response(key, version, ask_raw(broker, frame))


def ask_raw(broker: KafkaLike, frame: bytes) -> bytes:
    """The reply with its length; b"" when the broker closes the connection."""
    with socket.create_connection(("127.0.0.1", broker.port), timeout=10) as connection:
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        with connection.makefile("rb") as stream:
            length = stream.read(4)
            return length + stream.read(int.from_bytes(length, "big"))


@pytest.mark.parametrize("version", [5, 100])
def test_api_versions_of_the_future(kafka_like: KafkaLike, version: int) -> None:
    reply = read_response(
        API_VERSIONS, 0, ask_raw(kafka_like, struct.pack(">hhih", API_VERSIONS, version, 7, -1) + b"\0")
    )
    assert reply.error_code is ErrorCode.unsupported_version
    (row,) = reply.api_keys
    assert (row.api_key, row.min_version) == (API_VERSIONS, 0)


@pytest.mark.parametrize("name", ["", "-a", "a b"])
def test_software_that_breaks_the_pattern(kafka_like: KafkaLike, name: str) -> None:
    reply = ask(kafka_like, API_VERSIONS, 3, client_software_name=name, client_software_version="1")
    assert reply.error_code is ErrorCode.invalid_request


@pytest.mark.parametrize(("key", "version"), [(METADATA, 99), (0, 99), (0, 2), (999, 0)])
def test_other_requests_of_the_future_close_the_connection(
    kafka_like: KafkaLike, key: int, version: int
) -> None:
    assert ask_raw(kafka_like, struct.pack(">hhih", key, version, 7, -1) + b"\0") == b""


def test_produce_is_advertised_from_version_0(kafka_like: KafkaLike) -> None:
    rows = ask(kafka_like, API_VERSIONS, 0).api_keys
    assert [each.min_version for each in rows if each.api_key == 0] == [0]


def topic_asked(name: str, partitions: int = 1, factor: int = 1, **members: Any) -> dict[str, Any]:
    return {"name": name, "num_partitions": partitions, "replication_factor": factor, **members}


def assigned(
    *broker_ids: list[int], first: int = 0, partitions: int = -1, factor: int = -1
) -> dict[str, Any]:
    rows = [
        {"partition_index": index, "broker_ids": ids} for index, ids in enumerate(broker_ids, start=first)
    ]
    return topic_asked("x", partitions, factor, assignments=rows)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (topic_asked("x"), OK),
        (topic_asked("x", -1, -1), OK),
        (assigned([1], [1]), OK),
        (topic_asked(""), ErrorCode.invalid_topic_exception),
        (topic_asked(".."), ErrorCode.invalid_topic_exception),
        (topic_asked("a b"), ErrorCode.invalid_topic_exception),
        (topic_asked("x" * 250), ErrorCode.invalid_topic_exception),
        (topic_asked("x", 0), ErrorCode.invalid_partitions),
        (topic_asked("x", -2), ErrorCode.invalid_partitions),
        (topic_asked("x", 1, 0), ErrorCode.invalid_replication_factor),
        (topic_asked("x", 1, -2), ErrorCode.invalid_replication_factor),
        (topic_asked("x", configs=[{"name": "retention.ms", "value": "x"}]), ErrorCode.invalid_config),
        (topic_asked("x", configs=[{"name": "retention.m", "value": "1"}]), ErrorCode.invalid_config),
        (topic_asked("x", configs=[{"name": "retention.ms"}]), ErrorCode.invalid_config),
        (assigned([1], partitions=1), ErrorCode.invalid_request),
        (assigned([1], factor=1), ErrorCode.invalid_request),
        (assigned([1], first=1), ErrorCode.invalid_replica_assignment),
        (assigned([1], []), ErrorCode.invalid_replica_assignment),
        (assigned([1, 1]), ErrorCode.invalid_replica_assignment),
    ],
)
def test_a_topic_that_would_be_created(kafka_like: KafkaLike, asked: dict[str, Any], code: ErrorCode) -> None:
    (result,) = ask(kafka_like, CREATE, 7, topics=[asked], validate_only=True, timeout=SOON).topics
    assert result.error_code is code
    assert (result.error_message is None) is (code is OK)


def test_a_topic_that_is_there_or_alike_or_named_twice(kafka_like: KafkaLike) -> None:
    name = f"a.{uuid.uuid4().hex[:8]}"
    (made,) = ask(kafka_like, CREATE, 7, topics=[topic_asked(name)], timeout=SOON).topics
    asks = [topic_asked(name), topic_asked(name.replace(".", "_"))]
    there, alike = ask(kafka_like, CREATE, 7, topics=asks, timeout=SOON).topics
    twice = ask(kafka_like, CREATE, 7, topics=[topic_asked("twice")] * 2, timeout=SOON).topics
    assert made.error_code is OK
    assert there.error_code is ErrorCode.topic_already_exists
    assert alike.error_code is ErrorCode.invalid_topic_exception
    assert {each.error_code for each in twice} == {ErrorCode.invalid_request}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([{"name": "ghost"}], ErrorCode.unknown_topic_or_partition),
        ([{"topic_id": uuid.UUID(int=9)}], ErrorCode.unknown_topic_id),
        ([{}], ErrorCode.invalid_request),
        ([{"name": "ghost", "topic_id": uuid.UUID(int=9)}], ErrorCode.invalid_request),
    ],
)
def test_a_topic_that_cannot_be_deleted(
    kafka_like: KafkaLike, asked: list[dict[str, Any]], code: ErrorCode
) -> None:
    (result,) = ask(kafka_like, DELETE, 6, topics=asked, timeout=SOON).responses
    assert result.error_code is code


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"count": PARTITIONS + 1}, OK),
        ({"count": PARTITIONS}, ErrorCode.invalid_partitions),
        ({"count": 1}, ErrorCode.invalid_partitions),
        (
            {"count": PARTITIONS + 2, "assignments": [{"broker_ids": [1]}]},
            ErrorCode.invalid_replica_assignment,
        ),
        ({"count": PARTITIONS + 1, "assignments": [{"broker_ids": [1]}]}, OK),
        ({"name": "ghost", "count": 5}, ErrorCode.unknown_topic_or_partition),
    ],
)
def test_partitions_that_would_be_added(
    kafka_like: KafkaLike, topic: str, members: dict[str, Any], code: ErrorCode
) -> None:
    asked = {"name": topic, "assignments": None, **members}
    (result,) = ask(
        kafka_like, CREATE_PARTITIONS, 3, topics=[asked], validate_only=True, timeout=SOON
    ).results
    assert result.error_code is code


def test_metadata_by_name_and_by_id(kafka_like: KafkaLike, topic: str) -> None:
    (known,) = ask(kafka_like, METADATA, 12, topics=[{"name": topic, "topic_id": None}]).topics
    (by_id,) = ask(kafka_like, METADATA, 12, topics=[{"name": None, "topic_id": known.topic_id}]).topics
    assert (by_id.error_code, by_id.name, by_id.topic_id) == (OK, topic, known.topic_id)
    (unknown,) = ask(kafka_like, METADATA, 12, topics=[{"name": None, "topic_id": uuid.UUID(int=9)}]).topics
    assert (unknown.error_code, unknown.name) == (ErrorCode.unknown_topic_id, None)
    early = ask(kafka_like, METADATA, 11, topics=[{"name": topic, "topic_id": known.topic_id}]).topics
    assert [each.error_code for each in early] == [ErrorCode.invalid_request]


@pytest.mark.parametrize("name", ["ghost", "a b", ""])
def test_metadata_of_a_topic_that_may_not_be_created(kafka_like: KafkaLike, name: str) -> None:
    expected = ErrorCode.unknown_topic_or_partition if name == "ghost" else ErrorCode.invalid_topic_exception
    (told,) = ask(kafka_like, METADATA, 9, topics=[{"name": name}], allow_auto_topic_creation=False).topics
    assert (told.error_code, told.name) == (expected, name)


def test_metadata_of_none_and_of_all(kafka_like: KafkaLike, topic: str) -> None:
    assert ask(kafka_like, METADATA, 4, topics=[]).topics == ()
    assert topic in {each.name for each in ask(kafka_like, METADATA, 4, topics=None).topics}
    assert topic in {each.name for each in ask(kafka_like, METADATA, 0, topics=[]).topics}
    twice = ask(kafka_like, METADATA, 4, topics=[{"name": topic}] * 2).topics
    assert [each.name for each in twice] == [topic]


def test_rights_that_are_told(kafka_like: KafkaLike, topic: str) -> None:
    reply = ask(
        kafka_like,
        METADATA,
        9,
        topics=[{"name": topic}],
        include_topic_authorized_operations=True,
        include_cluster_authorized_operations=True,
    )
    cluster = ask(kafka_like, DESCRIBE_CLUSTER, 0, include_cluster_authorized_operations=True)
    assert reply.topics[0].topic_authorized_operations == 0b110111111000
    assert reply.cluster_authorized_operations == cluster.cluster_authorized_operations == 0b1111110100000
    assert ask(kafka_like, METADATA, 9, topics=[]).cluster_authorized_operations == -(1 << 31)


@pytest.mark.parametrize(
    ("endpoint_type", "code"),
    [(1, OK), (2, ErrorCode.mismatched_endpoint_type), (9, ErrorCode.unsupported_endpoint_type)],
)
def test_the_endpoint_that_a_cluster_is_asked_of(
    kafka_like: KafkaLike, endpoint_type: int, code: ErrorCode
) -> None:
    assert ask(kafka_like, DESCRIBE_CLUSTER, 1, endpoint_type=endpoint_type).error_code is code


def list_offset(broker: KafkaLike, topic: str, version: int, *timestamps: int, **members: Any) -> Any:
    asked = [{"partition_index": 0, "timestamp": timestamp, **members} for timestamp in timestamps]
    topics = [{"name": topic, "partitions": asked}]
    return ask(broker, LIST_OFFSETS, version, replica_id=-1, topics=topics).topics[0].partitions


def until_led(broker: KafkaLike, topic: str) -> None:
    """Kafka's metadata names a leader before it leads."""
    wait_until(lambda: list_offset(broker, topic, 5, -1)[0].error_code is OK, what="a leader")


def test_offsets_by_sentinel_and_by_time(kafka_like: KafkaLike, topic: str) -> None:
    until_led(kafka_like, topic)
    producer = Producer({"bootstrap.servers": kafka_like.bootstrap_servers})
    times = (1_700_000_001_000, 1_700_000_005_000, 1_700_000_003_000)
    for time_ms in times:
        producer.produce(topic, b"v", partition=0, timestamp=time_ms)
        assert producer.flush(10) == 0
    expected = {
        -1: (3, -1),
        -2: (0, -1),
        -3: (1, times[1]),
        -4: (0, -1),
        -5: (-1, -1),
        0: (0, times[0]),
        times[0] + 1: (1, times[1]),
        times[1] + 1: (-1, -1),
    }
    for timestamp, found in expected.items():
        (told,) = list_offset(kafka_like, topic, 9, timestamp)
        assert (told.error_code, told.offset, told.timestamp) == (OK, *found), f"asked for {timestamp}"


@pytest.mark.parametrize(("version", "timestamp"), [(6, -3), (7, -4), (8, -5), (10, -6), (10, -99)])
def test_a_sentinel_that_the_version_lacks(
    kafka_like: KafkaLike, topic: str, version: int, timestamp: int
) -> None:
    until_led(kafka_like, topic)
    (told,) = list_offset(kafka_like, topic, version, timestamp)
    assert told.error_code is ErrorCode.unsupported_version


def test_offsets_that_are_rejected(kafka_like: KafkaLike, topic: str) -> None:
    until_led(kafka_like, topic)
    twice = list_offset(kafka_like, topic, 5, -1, -1)
    assert {each.error_code for each in twice} == {ErrorCode.invalid_request}
    (unknown,) = list_offset(kafka_like, topic, 5, -1, partition_index=99)
    assert unknown.error_code is ErrorCode.unknown_topic_or_partition
    (newer,) = list_offset(kafka_like, topic, 5, -1, current_leader_epoch=1000)
    assert newer.error_code is ErrorCode.unknown_leader_epoch


def test_the_end_of_a_leader_epoch(kafka_like: KafkaLike, topic: str) -> None:
    until_led(kafka_like, topic)
    asked = [{"partition": 0, "current_leader_epoch": -1, "leader_epoch": epoch} for epoch in (0, 1000)]
    topics = [{"topic": topic, "partitions": asked}]
    present, future = ask(kafka_like, LEADER_EPOCH, 4, topics=topics).topics[0].partitions
    assert (present.error_code, present.leader_epoch, present.end_offset) == (OK, 0, 0)
    assert (future.error_code, future.leader_epoch, future.end_offset) == (OK, -1, -1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ([(SET, "retention.ms", "5000")], OK),
        ([(DELETE_CONFIG, "retention.ms", None)], OK),
        ([(APPEND, "cleanup.policy", "compact")], OK),
        ([(SUBTRACT, "cleanup.policy", "compact")], OK),
        ([(SET, "retention.ms", "x")], ErrorCode.invalid_config),
        ([(SET, "no.such", "1")], ErrorCode.invalid_config),
        ([(SET, "retention.ms", None)], ErrorCode.invalid_request),
        ([(APPEND, "retention.ms", "1")], ErrorCode.invalid_config),
        ([(SET, "retention.ms", "1")] * 2, ErrorCode.invalid_request),
    ],
)
def test_configs_that_would_change(
    kafka_like: KafkaLike, topic: str, changes: list[tuple[int, str, str | None]], code: ErrorCode
) -> None:
    configs = [
        {"config_operation": operation, "name": name, "value": value} for operation, name, value in changes
    ]
    resource = {"resource_type": TOPIC, "resource_name": topic, "configs": configs}
    (result,) = ask(kafka_like, INCREMENTAL_ALTER, 1, resources=[resource], validate_only=True).responses
    assert result.error_code is code


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "ghost", ErrorCode.unknown_topic_or_partition),
        (BROKER, "7", ErrorCode.invalid_request),
        (BROKER, "one", ErrorCode.invalid_request),
        (99, "x", ErrorCode.invalid_request),
    ],
)
def test_what_has_no_configs(kafka_like: KafkaLike, kind: int, name: str, code: ErrorCode) -> None:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": None}
    (result,) = ask(kafka_like, DESCRIBE_CONFIGS, 4, resources=[resource]).results
    assert result.error_code is code


def test_where_a_topics_config_comes_from(kafka_like: KafkaLike, topic: str) -> None:
    configs = [{"config_operation": SET, "name": "max.message.bytes", "value": "5000"}]
    resource = {"resource_type": TOPIC, "resource_name": topic, "configs": configs}
    ask(kafka_like, INCREMENTAL_ALTER, 1, resources=[resource])
    wait_until(lambda: len(synonyms(kafka_like, topic)) == 2, what="the topic's own value")
    assert synonyms(kafka_like, topic) == [
        ("max.message.bytes", "5000", 1),
        ("message.max.bytes", "1048588", 5),
    ]


def synonyms(broker: KafkaLike, topic: str) -> list[tuple[str, str, int]]:
    resource = {"resource_type": TOPIC, "resource_name": topic, "configuration_keys": ["max.message.bytes"]}
    reply = ask(broker, DESCRIBE_CONFIGS, 4, resources=[resource], include_synonyms=True)
    return [(each.name, each.value, each.source) for each in reply.results[0].configs[0].synonyms]


def test_producer_ids_differ(kafka_like: KafkaLike) -> None:
    # Kafka's controller hands out its first block of ids when somebody first asks.
    first, second = (
        wait_until(lambda: given_producer_id(kafka_like), what="a producer id") for _ in range(2)
    )
    assert first.producer_epoch == second.producer_epoch == 0
    assert first.producer_id != second.producer_id


def given_producer_id(broker: KafkaLike) -> Any:
    reply = ask(broker, INIT_PRODUCER_ID, 4, transactional_id=None)
    return reply if reply.error_code is OK else None
