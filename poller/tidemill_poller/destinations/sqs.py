"""A standard SQS queue as failure destination: one message per discarded batch, metadata only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tidemill_poller.arn import Arn
from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations.aws_call import AwsCalls
from tidemill_poller.destinations.aws_kind import AwsKind
from tidemill_poller.destinations.record import FailureRecord, failure_json
from tidemill_poller.destinations.trace_context import message_attributes


class SqsDestination:
    """Sends to the queue of that name and account, wherever AWS's endpoint settings say that SQS is."""

    def __init__(self, clients: AwsClients, *, region: str, account_id: str, queue_name: str) -> None:
        self._calls = AwsCalls(clients, "sqs", region=region, target=f"The SQS queue {queue_name}")
        self._account_id = account_id
        self._queue_name = queue_name
        self._url: str | None = None

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """See Destination."""
        body = failure_json(record).decode()
        attributes = message_attributes(trace_headers)

        def call(client: Any) -> None:
            try:
                client.send_message(
                    QueueUrl=self._queue_url(client), MessageBody=body, MessageAttributes=attributes
                )
            except client.exceptions.QueueDoesNotExist:
                self._url = None  # it may be made anew, under another URL
                raise

        await self._calls.run(call)

    def _queue_url(self, client: Any) -> str:
        # An emulator's queue URLs are its own affair, so the ARN is not turned into one here.
        if self._url is None:
            reply = client.get_queue_url(QueueName=self._queue_name, QueueOwnerAWSAccountId=self._account_id)
            self._url = str(reply["QueueUrl"])
        return self._url


def _open(clients: AwsClients, arn: Arn) -> SqsDestination:
    return SqsDestination(clients, region=arn.region, account_id=arn.account, queue_name=arn.resource)


KIND: Final = AwsKind(
    called="an SQS queue", service="sqs", resource=re.compile(r"[A-Za-z0-9_.-]+"), opens=_open
)
