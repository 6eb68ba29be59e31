"""Sends results of Event invocations to SQS, SNS, EventBridge and S3, wherever AWS's settings say they are.

One table of services: which of them a destination or a dead-letter queue may name, and how each is called.
Knows no queue and no retry. A Lambda function as destination is the event queue's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from tidemill_functions.aws import AwsClients
from tidemill_functions.destinations.record import (
    SUCCESS,
    Outcome,
    Request,
    Target,
    dead_letter_attributes,
    invocation_record,
    object_key,
    qualified,
)
from tidemill_functions.errors import AwsUnavailable

DEAD_LETTER_SERVICES: Final = ("sqs", "sns")
# What an invocation may go to, and what only a failed one may.
SUCCESS_SERVICES: Final = ("sqs", "sns", "lambda", "events")
FAILURE_SERVICES: Final = (*SUCCESS_SERVICES, "s3")
# Above it Lambda leaves the payloads out of the record ("Retaining records of asynchronous invocations").
_SNS_BYTES_MAX: Final = 256 * 1024
_SQS_BYTES_MAX: Final = 1024 * 1024


def service_of(arn: str) -> str:
    """Return the service of an ARN; "" for what is no whole ARN."""
    parts = arn.split(":", 5)
    return parts[2] if len(parts) == 6 and parts[0] == "arn" and parts[5] else ""  # noqa: PLR2004 - an ARN's six parts


def record_json(request: Request, outcome: Outcome, *, bytes_max: int = 0) -> str:
    """Return the record as JSON, without its payloads if it is larger than a service takes."""
    record = invocation_record(request, outcome)
    text = orjson.dumps(record)
    if bytes_max and len(text) > bytes_max:
        record = {name: value for name, value in record.items() if not name.endswith("Payload")}
        text = orjson.dumps(record)
    return text.decode()


class Sender:
    """Sends one result to one target."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    def send(self, target: Target, request: Request, outcome: Outcome) -> None:
        """Send it; blocks. Raises AwsUnavailable."""
        _SENDERS[service_of(target.arn)](self._clients, target, request, outcome)


def _to_sqs(clients: AwsClients, target: Target, request: Request, outcome: Outcome) -> None:
    _, _, _, region, account, name = target.arn.split(":", 5)
    # An emulator's queue URLs are its own affair, so the ARN is not turned into one here.
    found = clients.call(
        "sqs", "get_queue_url", region=region, QueueName=name, QueueOwnerAWSAccountId=account
    )
    clients.call(
        "sqs",
        "send_message",
        region=region,
        QueueUrl=found["QueueUrl"],
        MessageBody=_body(target, request, outcome, _SQS_BYTES_MAX),
        MessageAttributes=_attributes(target, request, outcome),
    )


def _to_sns(clients: AwsClients, target: Target, request: Request, outcome: Outcome) -> None:
    clients.call(
        "sns",
        "publish",
        region=_region(target),
        TopicArn=target.arn,
        Message=_body(target, request, outcome, _SNS_BYTES_MAX),
        MessageAttributes=_attributes(target, request, outcome),
    )


def _to_events(clients: AwsClients, target: Target, request: Request, outcome: Outcome) -> None:
    ending = "Success" if outcome.condition == SUCCESS else "Failure"
    entry = {
        "Source": "lambda",
        "DetailType": f"Lambda Function Invocation Result - {ending}",
        "Detail": _body(target, request, outcome, _SNS_BYTES_MAX),
        "Resources": [target.arn, qualified(request.arn)],
        "EventBusName": target.arn,
    }
    reply = clients.call("events", "put_events", region=_region(target), Entries=[entry])
    if reply.get("FailedEntryCount"):
        failed = reply["Entries"][0]
        code = failed.get("ErrorCode", "")
        raise AwsUnavailable(
            f"{code}: {failed.get('ErrorMessage')}", code=code, is_temporary=code != "InvalidArgument"
        )


def _to_s3(clients: AwsClients, target: Target, request: Request, outcome: Outcome) -> None:
    clients.call(
        "s3",
        "put_object",
        Bucket=target.arn.split(":", 5)[5],
        Key=object_key(request, outcome),
        Body=_body(target, request, outcome).encode(),
    )


def _to_lambda(clients: AwsClients, target: Target, request: Request, outcome: Outcome) -> None:
    clients.call(
        "lambda",
        "invoke",
        region=_region(target),
        FunctionName=target.arn,
        InvocationType="Event",
        Payload=_body(target, request, outcome, _SQS_BYTES_MAX).encode(),
    )


_SENDERS: Final[Mapping[str, Callable[[AwsClients, Target, Request, Outcome], None]]] = {
    "sqs": _to_sqs,
    "sns": _to_sns,
    "events": _to_events,
    "lambda": _to_lambda,
    "s3": _to_s3,
}


def _region(target: Target) -> str:
    return target.arn.split(":")[3]


def _body(target: Target, request: Request, outcome: Outcome, bytes_max: int = 0) -> str:
    if target.kind == "dead letter":
        return request.payload.decode(errors="replace")
    return record_json(request, outcome, bytes_max=bytes_max)


def _attributes(target: Target, request: Request, outcome: Outcome) -> dict[str, dict[str, str]]:
    return dead_letter_attributes(request, outcome) if target.kind == "dead letter" else {}
