"""Destinations that an ARN names: the grammar of the ARN, and the rule that FIFO ones are not supported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tidemill_poller.arn import Arn, parse_arn
from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations.contract import Destination
from tidemill_poller.errors import InvalidParameter

_FIFO: Final = ".fifo"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKind:
    """A DestinationKind of one AWS service."""

    called: str
    service: str
    resource: re.Pattern[str]
    regional: bool = True
    """Whether the ARN has a region and an account, as all but S3's have."""
    opens: Callable[[AwsClients, Arn], Destination]

    def names(self, destination: str) -> bool:
        """See DestinationKind."""
        arn = parse_arn(destination)
        return (
            arn is not None
            and arn.service == self.service
            and (bool(arn.region), bool(arn.account)) == (self.regional, self.regional)
            and self.resource.fullmatch(arn.resource) is not None
        )

    def check(self, destination: str, *, source_topic: str) -> None:  # noqa: ARG002 - a queue is no topic
        """See DestinationKind. AWS documents that FIFO queues and topics are not supported."""
        if destination.endswith(_FIFO):
            raise InvalidParameter(f"'{destination}' is FIFO, and on-failure destinations must be standard.")

    def open(self, destination: str, clients: AwsClients) -> Destination:
        """See DestinationKind."""
        arn = parse_arn(destination)
        assert arn is not None, "the table opens what the kind names"
        return self.opens(clients, arn)
