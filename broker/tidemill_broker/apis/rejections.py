"""The log's errors as Kafka's error codes, for the handlers that create, change and read topics."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tidemill_broker.apis.api import Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.log.errors import (
    InvalidConfig,
    InvalidPartitions,
    InvalidTopicName,
    LogError,
    TopicBusy,
    TopicExists,
    UnknownTopic,
)
from tidemill_broker.log.partition import Partition
from tidemill_broker.log.topics import Topic
from tidemill_broker.protocol.errors import ErrorCode

_CODES = {
    InvalidConfig: ErrorCode.invalid_config,
    InvalidPartitions: ErrorCode.invalid_partitions,
    InvalidTopicName: ErrorCode.invalid_topic_exception,
    # Clients try again after it.
    TopicBusy: ErrorCode.request_timed_out,
    TopicExists: ErrorCode.topic_already_exists,
    UnknownTopic: ErrorCode.unknown_topic_or_partition,
}


@contextmanager
def rejecting() -> Iterator[None]:
    """Turn errors of the log and of the disk into Rejected."""
    try:
        yield
    except LogError as error:
        raise Rejected(_CODES.get(type(error), ErrorCode.unknown_server_error), str(error)) from error
    except OSError as error:
        raise Rejected(
            ErrorCode.kafka_storage_error, f"The broker's disk failed: {error.strerror}."
        ) from error


def reject_repeated(times: Counter[Any], item: object, what: str) -> None:
    """Reject what a request names more than once: answers could contradict each other."""
    if times[item] > 1:
        raise Rejected(ErrorCode.invalid_request, f"The request names this {what} more than once.")


def topic_named(broker: Broker, name: str) -> Topic:
    """Find a topic by its name, or reject the item with UNKNOWN_TOPIC_OR_PARTITION."""
    topic = broker.topics.get(name)
    if topic is None:
        raise Rejected(ErrorCode.unknown_topic_or_partition, f"There is no topic '{name}'.")
    return topic


def partition_of(topic: Topic | None, index: int, current_leader_epoch: int = -1) -> Partition:
    """Find a partition, and check the leader epoch that the client believes in (KIP-320; -1: not checked)."""
    if topic is None or not 0 <= index < len(topic.partitions):
        raise Rejected(ErrorCode.unknown_topic_or_partition)
    partition = topic.partitions[index]
    if current_leader_epoch >= 0 and current_leader_epoch < partition.leader_epoch:
        raise Rejected(ErrorCode.fenced_leader_epoch)
    if current_leader_epoch > partition.leader_epoch:
        raise Rejected(ErrorCode.unknown_leader_epoch)
    return partition
