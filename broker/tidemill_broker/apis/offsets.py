"""ListOffsets 1-10, OffsetForLeaderEpoch 2-4, DeleteRecords 0-2: where a partition's records begin and end.

There are no transactions yet, so the last stable offset is the high watermark. Nothing is tiered: the
earliest local offset is the log start, and the latest tiered one does not exist.
"""

from collections import Counter
from typing import Any, Final, NamedTuple

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.rejections import partition_of, reject_repeated
from tidemill_broker.apis.request import Request
from tidemill_broker.apis.turns import Steps
from tidemill_broker.auth.authorizer import Operation, ResourceType
from tidemill_broker.log.errors import OffsetOutOfRange
from tidemill_broker.log.partition import Partition
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.schema import ResponseSchema

# Timestamps that mean a place, and the first version that has each (KIP-79, KIP-734, KIP-405, KIP-1005).
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
FIRST_VERSION: Final = {LATEST: 0, EARLIEST: 0, MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}


class Found(NamedTuple):
    """A place in a log; -1 where there is none."""

    offset: int = -1
    timestamp_ms: int = -1
    leader_epoch: int = -1


def list_offsets(broker: Broker, request: Request) -> Steps[Any]:
    """Answer ListOffsets."""
    reply = request.reply
    times = Counter(
        (topic.name, each.partition_index) for topic in request.body.topics for each in topic.partitions
    )
    topics = []
    for topic in request.body.topics:
        partitions = []
        for asked in topic.partitions:
            code, found = ErrorCode.none, Found()
            try:
                request.authorize(Operation.DESCRIBE, ResourceType.TOPIC, topic.name)
                reject_repeated(times, (topic.name, asked.partition_index), "partition")
                found = _list_offset(broker, request.version, topic.name, asked)
            except Rejected as rejected:
                code = rejected.code
            partitions.append(_listed(reply, asked.partition_index, code, found))
            yield
        topics.append(reply.ListOffsetsTopicResponse(name=topic.name, partitions=tuple(partitions)))
    return reply.ListOffsetsResponse(topics=tuple(topics))


def _list_offset(broker: Broker, version: int, name: str, asked: Any) -> Found:
    epoch = getattr(asked, "current_leader_epoch", -1)
    partition = partition_of(broker.topics.get(name), asked.partition_index, epoch)
    if asked.timestamp < 0 and version < FIRST_VERSION.get(asked.timestamp, version + 1):
        raise Rejected(ErrorCode.unsupported_version)
    return _found(partition, asked.timestamp)


def _found(partition: Partition, timestamp: int) -> Found:
    if timestamp == LATEST:
        return Found(partition.high_watermark, -1, partition.leader_epoch)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        start = partition.log_start
        return Found(start, -1, partition.epoch_for_offset(start))
    if timestamp == LATEST_TIERED:
        return Found()
    found = (
        partition.max_timestamp() if timestamp == MAX_TIMESTAMP else partition.offset_for_timestamp(timestamp)
    )
    return Found() if found is None else Found(*found)


def _listed(reply: ResponseSchema, index: int, code: ErrorCode, found: Found) -> Any:
    return reply.ListOffsetsPartitionResponse(
        partition_index=index,
        error_code=code,
        timestamp=found.timestamp_ms,
        offset=found.offset,
        leader_epoch=found.leader_epoch,
    )


def offset_for_leader_epoch(broker: Broker, request: Request) -> Steps[Any]:
    """Answer OffsetForLeaderEpoch: where an epoch ended, so that a client sees what was cut off (KIP-320)."""
    reply = request.reply
    topics = []
    for topic in request.body.topics:
        partitions = []
        for asked in topic.partitions:
            code, epoch, end_offset = ErrorCode.none, -1, -1
            try:
                request.authorize(Operation.DESCRIBE, ResourceType.TOPIC, topic.topic)
                known = broker.topics.get(topic.topic)
                partition = partition_of(known, asked.partition, asked.current_leader_epoch)
                epoch, end_offset = partition.end_offset_for_epoch(asked.leader_epoch)
            except Rejected as rejected:
                code = rejected.code
            partitions.append(
                reply.EpochEndOffset(
                    error_code=code, partition=asked.partition, leader_epoch=epoch, end_offset=end_offset
                )
            )
            yield
        topics.append(reply.OffsetForLeaderTopicResult(topic=topic.topic, partitions=tuple(partitions)))
    return reply.OffsetForLeaderEpochResponse(topics=tuple(topics))


def delete_records(broker: Broker, request: Request) -> Steps[Any]:
    """Answer DeleteRecords: move the log start up (KIP-107)."""
    reply = request.reply
    topics = []
    for topic in request.body.topics:
        partitions = []
        for asked in topic.partitions:
            code, low_watermark = ErrorCode.none, -1
            try:
                request.authorize(Operation.DELETE, ResourceType.TOPIC, topic.name)
                low_watermark = _delete_before(broker, topic.name, asked)
            except Rejected as rejected:
                code = rejected.code
            partitions.append(
                reply.DeleteRecordsPartitionResult(
                    partition_index=asked.partition_index, low_watermark=low_watermark, error_code=code
                )
            )
            yield
        topics.append(reply.DeleteRecordsTopicResult(name=topic.name, partitions=tuple(partitions)))
    return reply.DeleteRecordsResponse(topics=tuple(topics))


def _delete_before(broker: Broker, name: str, asked: Any) -> int:
    topic = broker.topics.get(name)
    if topic is not None and topic.internal:
        raise Rejected(ErrorCode.policy_violation)
    partition = partition_of(topic, asked.partition_index)
    try:
        return partition.delete_before(asked.offset)
    except OffsetOutOfRange as error:
        raise Rejected(ErrorCode.offset_out_of_range) from error
    except OSError as error:
        raise Rejected(ErrorCode.kafka_storage_error) from error


APIS: Final = (
    Api(key=2, name="ListOffsets", min_version=1, max_version=10, handle=list_offsets),
    Api(key=21, name="DeleteRecords", min_version=0, max_version=2, handle=delete_records),
    Api(key=23, name="OffsetForLeaderEpoch", min_version=2, max_version=4, handle=offset_for_leader_epoch),
)
