"""THE PER-PARTITION PIPELINE: filter -> batch -> invoke -> settle -> commit; see `lane`."""

from tidemill_poller.lane.dependencies import Filtering, Invoking, LaneDependencies
from tidemill_poller.lane.lane import Lane

__all__ = ["Filtering", "Invoking", "Lane", "LaneDependencies"]
