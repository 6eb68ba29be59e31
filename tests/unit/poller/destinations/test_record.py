"""Failure records are AWS's to the letter."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import replace

import boto3
import pytest

from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations import (
    DestinationUnavailable,
    FailureRecord,
    ResponseContext,
    failure_json,
    open_destination,
)
from tidemill_poller.destinations.record import iso_ms
from tidemill_poller.destinations.s3 import object_key

RECORD = FailureRecord(
    mapping_uuid="0b4f12a8-0000-4000-8000-000000000001",
    function_arn="arn:aws:lambda:us-east-1:123456789012:function:orders",
    condition="RetryAttemptsExhausted",
    approximate_invoke_count=4,
    request_id="5c1f3ac6-2b6d-4d7c-9a15-3f3b9bb1a111",
    response=ResponseContext(status_code=200, executed_version="$LATEST", function_error="Unhandled"),
    batch_size=2,
    event_source_arn="arn:aws:kafka:us-east-1:123456789012:cluster/tidemill/abc-1",
    bootstrap_servers="b-1:9092,b-2:9092",
    payload_bytes=2039,
    partition_key="orders-0",
    first_offset=7,
    last_offset=8,
    first_timestamp_ms=1_795_255_198_000,
    last_timestamp_ms=1_795_255_199_001,
    payload=b'{"eventSource":"aws:kafka","records":{"orders-0":[{"value":"eyJhIjoxfQ=="}]}}',
    timestamp_ms=1_795_255_200_007,
)


def test_the_body_has_the_fields_of_the_aws_page_in_their_order() -> None:
    assert failure_json(RECORD).decode() == (
        '{"requestContext":{"requestId":"5c1f3ac6-2b6d-4d7c-9a15-3f3b9bb1a111",'
        '"functionArn":"arn:aws:lambda:us-east-1:123456789012:function:orders",'
        '"condition":"RetryAttemptsExhausted","approximateInvokeCount":4},'
        '"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},'
        '"version":"1.0","timestamp":"2026-11-21T10:00:00.007Z",'
        '"KafkaBatchInfo":{"batchSize":2,'
        '"eventSourceArn":"arn:aws:kafka:us-east-1:123456789012:cluster/tidemill/abc-1",'
        '"bootstrapServers":"b-1:9092,b-2:9092","payloadSize":2039,'
        '"recordsInfo":{"orders-0":{"firstRecordOffset":"7","lastRecordOffset":"8",'
        '"firstRecordTimestamp":"2026-11-21T09:59:58.000Z",'
        '"lastRecordTimestamp":"2026-11-21T09:59:59.001Z"}}}}'
    )


def test_a_self_managed_source_has_no_event_source_arn() -> None:
    body = json.loads(failure_json(replace(RECORD, event_source_arn=None)))
    assert "eventSourceArn" not in body["KafkaBatchInfo"]


def test_partial_failures_have_a_null_function_error() -> None:
    response = ResponseContext(status_code=200, executed_version="3", function_error=None)
    body = json.loads(failure_json(replace(RECORD, response=response)))
    assert body["responseContext"] == {"statusCode": 200, "executedVersion": "3", "functionError": None}


def test_an_oversized_batch_has_a_null_response_context() -> None:
    body = json.loads(failure_json(replace(RECORD, condition="MaximumPayloadSizeExceeded", response=None)))
    assert body["responseContext"] is None


def test_an_expired_batch_has_no_response_context_even_after_an_invocation() -> None:
    body = json.loads(failure_json(replace(RECORD, condition="RecordAgeExceeded")))
    assert list(body) == ["requestContext", "version", "timestamp", "KafkaBatchInfo"]


def test_an_s3_object_carries_the_event_as_an_escaped_string() -> None:
    body = json.loads(failure_json(RECORD, with_payload=True))
    assert list(body)[-1] == "payload"
    assert body["payload"].encode() == RECORD.payload


def test_the_key_of_an_s3_object_sorts_by_mapping_partition_and_time() -> None:
    random = uuid.UUID(int=5)
    assert object_key(RECORD, random) == (
        "aws/lambda/0b4f12a8-0000-4000-8000-000000000001/orders-0/2026/11/21/2026-11-21T10.00.00-"
        "00000000-0000-0000-0000-000000000005"
    )


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (-1, "1970-01-01T00:00:00.000Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_any_timestamp_that_a_producer_may_send_can_be_written(epoch_ms: int, text: str) -> None:
    assert iso_ms(epoch_ms) == text


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sqs:us-east-1:123456789012:failed.fifo",
        "arn:aws:sns:us-east-1:123456789012:failed.fifo",
        "arn:aws:lambda:us-east-1:123456789012:function:f",
        "kafka://dead-letters",
        "",
    ],
)
def test_other_destinations_are_rejected_with_a_sentence_and_not_to_be_retried(arn: str) -> None:
    with pytest.raises(DestinationUnavailable) as raised:
        open_destination(arn, AwsClients(boto3.Session()))
    assert not raised.value.retriable
    assert re.search("must be standard|give the ARN|leave it out", str(raised.value))
