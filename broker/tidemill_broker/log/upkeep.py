"""One thread for what must not hold up a request: checkpoints of closed segments, repairs of damaged ones.

Called on the event loop; knows no request and no topic.

See docs/decisions/0105.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tidemill_broker._core import PartitionLog
from tidemill_broker.log.damage import report_damage
from tidemill_broker.log.faults import Faults

logger = logging.getLogger(__name__)


class Upkeep:
    """Does one thing after the other, each partition at most once at a time for each kind."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="upkeep")
        self._faults = Faults(event="a batch could not be read")
        self._checkpoints: set[PartitionLog] = set()
        self._repairs: set[PartitionLog] = set()

    def checkpoint(self, log: PartitionLog) -> None:
        """Spare the next start the scan of a segment that was closed."""
        if log not in self._checkpoints:
            self._checkpoints.add(log)
            self._thread.submit(self._checkpoint, log)

    def repair(self, log: PartitionLog, fault: str) -> None:
        """Log a read that failed, and take out of the partition what is damaged."""
        self._faults.tell(fault)
        if log not in self._repairs:
            self._repairs.add(log)
            self._thread.submit(self._repair, log)

    def close(self) -> None:
        """Wait for all that was begun."""
        self._thread.shutdown()

    def _checkpoint(self, log: PartitionLog) -> None:
        self._checkpoints.discard(log)
        try:
            log.checkpoint()
        except OSError:
            logger.exception("a checkpoint failed; the next start scans more")

    def _repair(self, log: PartitionLog) -> None:
        try:
            report_damage(log.repair(self._clock_ms()))
        except OSError as fault:
            logger.error(  # noqa: TRY400 - a full disk is no fault of the code
                "a damaged segment stays as it is: %s; reads fail there until it is repaired, at the next"
                " read or start",
                fault,
            )
        finally:
            self._repairs.discard(log)
