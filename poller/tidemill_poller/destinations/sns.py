"""A standard SNS topic as failure destination: one message per discarded batch, metadata only."""

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


class SnsDestination:
    """Publishes to one topic; the body is far below SNS's 256 KB, since no payload goes along."""

    def __init__(self, clients: AwsClients, *, region: str, topic_arn: str) -> None:
        self._calls = AwsCalls(clients, "sns", region=region, target=f"The SNS topic {topic_arn}")
        self._topic_arn = topic_arn

    async def send(self, record: FailureRecord, *, trace_headers: Mapping[str, str]) -> None:
        """See Destination."""
        body = failure_json(record).decode()
        attributes = message_attributes(trace_headers)

        def call(client: Any) -> None:
            client.publish(TopicArn=self._topic_arn, Message=body, MessageAttributes=attributes)

        await self._calls.run(call)


def _open(clients: AwsClients, arn: Arn) -> SnsDestination:
    return SnsDestination(clients, region=arn.region, topic_arn=str(arn))


KIND: Final = AwsKind(called="SNS topic", service="sns", resource=re.compile(r"[A-Za-z0-9_.-]+"), opens=_open)
