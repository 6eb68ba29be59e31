"""Where records go that are given up: SQS, SNS and S3, in the words of AWS's failure records.

Owns the failure record, its JSON (`record.py`) and the Destination seam. Knows nothing of retries or offsets:
the lane decides that a batch is given up, and commits only after `send` returned.
"""

from __future__ import annotations

import re

import boto3

from tidemill_poller.destinations.contract import Destination
from tidemill_poller.destinations.s3 import S3Destination
from tidemill_poller.destinations.sns import SnsDestination
from tidemill_poller.destinations.sqs import SqsDestination
from tidemill_poller.errors import DestinationUnavailable

_ARN = re.compile(
    r"arn:[a-z0-9-]+:(?P<service>sqs|sns|s3):(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<name>\S+)"
)


def open_destination(arn: str, session: boto3.Session) -> Destination:
    """Open the destination an ARN names; nothing is sent yet, and the client is built at the first send.

    Raises DestinationUnavailable, not retriable, for an ARN of another kind or a FIFO queue or topic, which
    Lambda does not support either (AWS: "Monitoring event source mappings", DestinationDeliveryFailures).
    """
    match = _ARN.fullmatch(arn)
    if match is None:
        msg = f"{arn} is no destination: give the ARN of an SQS queue, an SNS topic or an S3 bucket."
        raise DestinationUnavailable(msg, retriable=False)
    service, region, name = match["service"], match["region"], match["name"]
    if name.endswith(".fifo"):
        msg = f"{arn} is FIFO, which on-failure destinations do not support: use a standard queue or topic."
        raise DestinationUnavailable(msg, retriable=False)
    if service == "sqs":
        return SqsDestination(session, region=region, account_id=match["account"], queue_name=name)
    if service == "sns":
        return SnsDestination(session, region=region, topic_arn=arn)
    return S3Destination(session, bucket=name)
