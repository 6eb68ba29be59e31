"""The failure record and its JSON, to the letter of AWS's pages on Kafka on-failure destinations. Pure.

Bodies follow "Capturing discarded batches for an Amazon MSK event source" (with-msk-on-failure) and
"Capturing discarded batches for self-managed Apache Kafka" (kafka-on-failure): field order, offsets as
strings, timestamps in UTC with milliseconds and a Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

# Conditions under which AWS leaves `responseContext` out altogether, because no function was invoked.
_WITHOUT_RESPONSE: Final = frozenset({"RecordAgeExceeded"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseContext:
    """What the function answered last; `function_error` is None when it returned partial failures."""

    status_code: int
    executed_version: str
    function_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord:
    """One discarded batch of one partition. Offsets are inclusive, times are epoch milliseconds."""

    mapping_uuid: str
    function_arn: str
    condition: str  # RetryAttemptsExhausted, RecordAgeExceeded, MaximumPayloadSizeExceeded
    approximate_invoke_count: int
    request_id: str
    response: ResponseContext | None  # None: null in the body, or left out for RecordAgeExceeded
    batch_size: int
    event_source_arn: str | None  # None for self-managed Kafka: the field is absent
    bootstrap_servers: str
    payload_bytes: int
    partition_key: str  # "topic-partition", as in the event's records
    first_offset: int
    last_offset: int
    first_timestamp_ms: int
    last_timestamp_ms: int
    payload: bytes  # the invocation event; only S3 carries it
    timestamp_ms: int  # now


def failure_json(record: FailureRecord, *, with_payload: bool = False) -> bytes:
    """Return the body of the message; `with_payload` adds the event as an escaped JSON string, for S3."""
    body: dict[str, Any] = {
        "requestContext": {
            "requestId": record.request_id,
            "functionArn": record.function_arn,
            "condition": record.condition,
            "approximateInvokeCount": record.approximate_invoke_count,
        }
    }
    if record.condition not in _WITHOUT_RESPONSE:
        body["responseContext"] = _response(record.response)
    body["version"] = "1.0"
    body["timestamp"] = iso_ms(record.timestamp_ms)
    body["KafkaBatchInfo"] = _batch_info(record)
    if with_payload:
        body["payload"] = record.payload.decode()
    return orjson.dumps(body)


def iso_ms(epoch_ms: int) -> str:
    """Return epoch milliseconds as AWS writes them (2026-11-21T10:00:00.000Z); out of range, the nearest."""
    # A producer may stamp a record with any 64-bit number (-1 means none): the failure record must be written
    # still.
    latest_ms = 253_402_300_799_999
    seconds, millis = divmod(min(max(epoch_ms, 0), latest_ms), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def _response(response: ResponseContext | None) -> dict[str, Any] | None:
    if response is None:
        return None
    return {
        "statusCode": response.status_code,
        "executedVersion": response.executed_version,
        "functionError": response.function_error,
    }


def _batch_info(record: FailureRecord) -> dict[str, Any]:
    source = {} if record.event_source_arn is None else {"eventSourceArn": record.event_source_arn}
    return {
        "batchSize": record.batch_size,
        **source,
        "bootstrapServers": record.bootstrap_servers,
        "payloadSize": record.payload_bytes,
        "recordsInfo": {
            record.partition_key: {
                "firstRecordOffset": str(record.first_offset),
                "lastRecordOffset": str(record.last_offset),
                "firstRecordTimestamp": iso_ms(record.first_timestamp_ms),
                "lastRecordTimestamp": iso_ms(record.last_timestamp_ms),
            }
        },
    }
