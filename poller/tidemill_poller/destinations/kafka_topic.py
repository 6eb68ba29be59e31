"""A topic of the mapping's cluster as failure destination, `kafka://<topic>`: checked, and not built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations.contract import Destination
from tidemill_poller.errors import DestinationUnavailable, InvalidParameter
from tidemill_poller.mapping.rejections import not_built

_SCHEME: Final = "kafka://"


@dataclass(frozen=True, slots=True)
class KafkaTopicKind:
    """A DestinationKind whose destinations no mapping can have today."""

    called: str = ""

    def names(self, destination: str) -> bool:
        """See DestinationKind."""
        return destination.startswith(_SCHEME)

    def check(self, destination: str, *, source_topic: str) -> None:
        """See DestinationKind."""
        topic = destination.removeprefix(_SCHEME)
        if topic == source_topic:
            raise InvalidParameter(
                f"The on-failure topic must not be the source topic '{topic}':"
                " failures would come back for ever."
            )
        not_built("a kafka:// destination")

    def open(self, destination: str, clients: AwsClients) -> Destination:  # noqa: ARG002 - the seam's
        """See DestinationKind."""
        raise DestinationUnavailable(
            f"{destination} is a Kafka topic, which is not built: give the ARN of an SQS queue,"
            " an SNS topic or an S3 bucket.",
            retriable=False,
        )


KIND: Final = KafkaTopicKind()
