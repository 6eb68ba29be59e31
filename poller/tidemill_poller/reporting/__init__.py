"""Status, traces, metrics and log of what lanes, sources and the fleet report, each through one reporter."""

from tidemill_poller.reporting.delivery import DeliveryReporter, Failure
from tidemill_poller.reporting.mapping import MappingReporter
from tidemill_poller.reporting.partition import PartitionReporter
from tidemill_poller.reporting.poller import PollerReporter
from tidemill_poller.reporting.telemetry import Telemetry
from tidemill_poller.reporting.tracing import MappingView

__all__ = [
    "DeliveryReporter",
    "Failure",
    "MappingReporter",
    "MappingView",
    "PartitionReporter",
    "PollerReporter",
    "Telemetry",
]
