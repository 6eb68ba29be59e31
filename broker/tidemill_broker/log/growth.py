"""Who waits for a partition to grow: callbacks by partition handle, called after appends and flushes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable


class Growth:
    """Callbacks by partition handle. Belongs to the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[Callable[[], None]]] = {}

    def watch(self, handles: Iterable[int], wake: Callable[[], None]) -> None:
        """Call `wake` whenever one of these partitions grew, until `unwatch`."""
        for handle in handles:
            self._waiting.setdefault(handle, set()).add(wake)

    def unwatch(self, handles: Iterable[int], wake: Callable[[], None]) -> None:
        """Forget a callback; unknown ones are no error."""
        for handle in handles:
            wakes = self._waiting.get(handle)
            if wakes is not None:
                wakes.discard(wake)
                if not wakes:
                    del self._waiting[handle]

    def grew(self, handles: Iterable[int]) -> None:
        """Wake all that wait for these partitions, each once, however many of its partitions grew."""
        if not self._waiting:
            return
        woken: set[Callable[[], None]] = set()
        for handle in handles:
            woken.update(self._waiting.get(handle, ()))
        for wake in woken:
            wake()

    def grew_soon(self, handles: Iterable[int]) -> None:
        """The same once the present callback is done, so that a producer's reply goes out first."""
        if self._waiting:
            asyncio.get_running_loop().call_soon(self.grew, handles)
