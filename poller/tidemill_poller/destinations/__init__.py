"""Where records go that are given up: SQS, SNS and S3, in the words of AWS's failure records."""

from tidemill_poller.destinations.contract import Destination
from tidemill_poller.destinations.record import FailureRecord, ResponseContext, failure_json
from tidemill_poller.destinations.table import check_destination, open_destination
from tidemill_poller.errors import DestinationUnavailable

__all__ = [
    "Destination",
    "DestinationUnavailable",
    "FailureRecord",
    "ResponseContext",
    "check_destination",
    "failure_json",
    "open_destination",
]
