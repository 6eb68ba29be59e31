"""Tells of batches that the disk did not take or give back: one line in each window, with a count.

A full disk rejects every batch of every producer; a line for each would hide everything else in the log.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

WINDOW_S: Final = 10.0


class Faults:
    """Counts what is not told; whoever comes first after a window tells of it."""

    def __init__(
        self,
        monotonic_s: Callable[[], float] = time.monotonic,
        *,
        event: str = "a batch could not be written",
    ) -> None:
        self._event = event
        self._monotonic_s = monotonic_s
        self._window_ends_s = float("-inf")
        self._untold = 0

    def tell(self, fault: str) -> None:
        """Log a fault, or count it if one was logged a short time ago."""
        now_s = self._monotonic_s()
        if now_s < self._window_ends_s:
            self._untold += 1
            return
        logger.error("%s untold=%d: %s", self._event, self._untold, fault)
        self._window_ends_s = now_s + WINDOW_S
        self._untold = 0
