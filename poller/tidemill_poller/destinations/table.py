"""The kinds of failure destinations: one row each. A new kind is its own module and a row here.

The control API checks what a mapping names (`check_destination`), the fleet opens it (`open_destination`).
Whether the destination exists is found out when a record is sent there. Knows nothing of retries or offsets:
the lane decides that a batch is given up, and commits only after `send` returned.
Facts: AWS Lambda Developer Guide, kafka-on-failure-destination.
"""

from __future__ import annotations

from typing import Final

from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations import kafka_topic, s3, sns, sqs
from tidemill_poller.destinations.contract import Destination, DestinationKind
from tidemill_poller.errors import DestinationUnavailable, InvalidParameter

KINDS: Final[tuple[DestinationKind, ...]] = (sqs.KIND, sns.KIND, s3.KIND, kafka_topic.KIND)


def check_destination(destination: str, *, source_topic: str) -> None:
    """Check the on-failure destination that a mapping of `source_topic` names.

    Raises InvalidParameter if it is of no known kind, or one that such a mapping cannot have.
    """
    _kind(destination).check(destination, source_topic=source_topic)


def open_destination(destination: str, clients: AwsClients) -> Destination:
    """Open a destination; nothing is sent yet.

    Raises DestinationUnavailable, not retriable, for what `check_destination` does not accept.
    """
    try:
        check_destination(destination, source_topic="")
    except InvalidParameter as error:
        raise DestinationUnavailable(str(error), retriable=False) from error
    return _kind(destination).open(destination, clients)


def _kind(destination: str) -> DestinationKind:
    for kind in KINDS:
        if kind.names(destination):
            return kind
    known = [kind.called for kind in KINDS if kind.called]
    offered = f"{', '.join(known[:-1])} or {known[-1]}"
    raise InvalidParameter(f"'{destination}' is no on-failure destination: give the ARN of {offered}.")
