"""Where records go that are given up: SQS, SNS and S3, in the words of AWS's failure records.

Owns the failure record, its JSON (`record.py`) and the Destination seam. Knows nothing of retries or offsets:
the lane decides that a batch is given up, and commits only after `send` returned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from tidemill_poller.destinations.record import FailureRecord, ResponseContext, failure_json
from tidemill_poller.errors import DestinationUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3

__all__ = [
    "Destination",
    "DestinationUnavailable",
    "FailureRecord",
    "ResponseContext",
    "failure_json",
    "open_destination",
]

_ARN = re.compile(
    r"arn:[a-z0-9-]+:(?P<service>sqs|sns|s3):(?P<region>[a-z0-9-]*):(?P<account>\d*):(?P<name>\S+)"
)


class Destination(Protocol):
    """One on-failure destination.

    `send` returns once the service has acknowledged the record. It raises DestinationUnavailable, and nothing
    else but CancelledError, when it could not; it waits a minute at most. Sending again after any failure
    is safe, though the record may then be there twice. Calls may run side by side: a few at a time go out,
    the rest wait their turn.
    """

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """Send one record; `trace_headers` (Step.headers) travel beside the body, never in it."""
        ...


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
    # boto3's clients are imported for the service that is used, when it is used.
    if service == "sqs":
        from tidemill_poller.destinations.sqs import SqsDestination  # noqa: PLC0415  # see above

        return SqsDestination(session, region=region, account_id=match["account"], queue_name=name)
    if service == "sns":
        from tidemill_poller.destinations.sns import SnsDestination  # noqa: PLC0415  # see above

        return SnsDestination(session, region=region, topic_arn=arn)
    from tidemill_poller.destinations.s3 import S3Destination  # noqa: PLC0415  # see above

    return S3Destination(session, bucket=name)
