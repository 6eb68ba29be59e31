"""Each row of the table of failure destinations is checked and opened by its own grammar, and by no other."""

from __future__ import annotations

import re
from collections.abc import Mapping

import boto3
import pytest

from tidemill_poller.arn import Arn
from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations import Destination, FailureRecord, table
from tidemill_poller.destinations.aws_kind import AwsKind
from tidemill_poller.destinations.s3 import S3Destination
from tidemill_poller.destinations.sns import SnsDestination
from tidemill_poller.destinations.sqs import SqsDestination
from tidemill_poller.destinations.table import check_destination, open_destination
from tidemill_poller.errors import DestinationUnavailable, InvalidParameter

CLIENTS = AwsClients(boto3.Session(region_name="us-east-1"))


@pytest.mark.parametrize(
    ("destination", "kind"),
    [
        ("arn:aws:sqs:us-east-1:123456789012:failures", SqsDestination),
        ("arn:aws-us-gov:sqs:us-gov-west-1:123456789012:failures", SqsDestination),
        ("arn:aws:sns:us-east-1:123456789012:failures", SnsDestination),
        ("arn:aws:s3:::my.failure-bucket", S3Destination),
        ("arn:aws-cn:s3:::bucket", S3Destination),
    ],
)
def test_queues_topics_and_buckets_are_destinations(destination: str, kind: type) -> None:
    check_destination(destination, source_topic="orders")
    assert isinstance(open_destination(destination, CLIENTS), kind)


@pytest.mark.parametrize(
    "destination",
    [
        "arn:aws:sqs:us-east-1::failures",
        "arn:aws:sqs::123456789012:failures",
        "arn:aws:sqs:us-east-1:123456789012:",
        "arn:aws:s3:::bucket/key",
        "arn:aws:s3:us-east-1:123456789012:bucket",
        "arn:aws:sns:us-east-1:123456789012:topic:subscription",
        "arn:aws:lambda:us-east-1:123456789012:function:f",
        "arn:other:sqs:us-east-1:123456789012:failures",
        "arn:aws:sqs",
        "arn",
        "",
    ],
)
def test_what_only_looks_like_a_destination_is_neither_accepted_nor_opened(destination: str) -> None:
    text = "is no on-failure destination: give the ARN of an SQS queue, SNS topic or S3 bucket."
    with pytest.raises(InvalidParameter, match=text):
        check_destination(destination, source_topic="orders")
    with pytest.raises(DestinationUnavailable, match=text):
        open_destination(destination, CLIENTS)


def test_a_new_kind_takes_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
            raise NotImplementedError

    def opens(_: AwsClients, arn: Arn) -> Destination:
        assert arn.resource == "stream/failures"
        return Stream()

    row = AwsKind(
        called="a Kinesis stream", service="kinesis", resource=re.compile("stream/[a-z]+"), opens=opens
    )
    monkeypatch.setattr(table, "KINDS", (*table.KINDS, row))
    arn = "arn:aws:kinesis:us-east-1:123456789012:stream/failures"
    check_destination(arn, source_topic="orders")
    assert isinstance(open_destination(arn, CLIENTS), Stream)
    with pytest.raises(InvalidParameter, match="SNS topic, S3 bucket or a Kinesis stream"):
        check_destination("nowhere", source_topic="orders")
