"""Reconciles stored mappings with running pollers: what the store says is what runs.

Owns one reconciler per mapping; nobody calls it back, it reads the store. A restart is the first
reconciliation, there is no other path. `__main__` runs it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_fixed

from tidemill_poller.errors import StoreError
from tidemill_poller.fleet.reconciler import Dependencies, Reconciler

logger = logging.getLogger(__name__)

_STORE_RETRY_S: Final = 1.0
_LOGGED_EVERY: Final = 60  # attempts


class Fleet:
    """All mappings of one store, each kept by a task of its own: none waits for, or falls with, another."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._reconcilers: dict[str, Reconciler] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask `run` to drain every poller, leave every group and return; no mapping changes its state."""
        self._stopping.set()

    def retry(self, uuid: str) -> int:
        """Try at once what waits to be tried again; return in how many partitions."""
        reconciler = self._reconcilers.get(uuid)
        return reconciler.retry() if reconciler is not None else 0

    def skip(self, uuid: str, topic: str, partition: int) -> int | None:
        """Give up the record that a partition waits with; its offset, None when it does not wait here.

        It goes to the failure destination. Raises SkipRejected if that is what it waits for.
        """
        reconciler = self._reconcilers.get(uuid)
        return reconciler.skip(topic, partition) if reconciler is not None else None

    async def run(self) -> None:
        """Keep what runs equal to what is stored, until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(tasks), name="watch store")
            updates = tasks.create_task(self._dependencies.function_updates.run(), name="function updates")
            await self._stopping.wait()
            watch.cancel()
            updates.cancel()
            for reconciler in self._reconcilers.values():
                reconciler.stop()

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        reading = AsyncRetrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_fixed(_STORE_RETRY_S),
            before_sleep=_log_unreadable,
        )
        revision = -1
        while True:
            revision = await reading(self._reconcile_after, revision, tasks)

    async def _reconcile_after(self, revision: int, tasks: asyncio.TaskGroup) -> int:
        """Wait for a newer revision of the store and reconcile with it. Raises StoreError."""
        revision = await self._dependencies.store.changed(revision)
        self._reconcile(tasks)
        return revision

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        store = self._dependencies.store
        stored = store.all()
        for mapping in stored:
            reconciler = self._reconcilers.get(mapping.uuid)
            if reconciler is None:
                reconciler = self._reconcilers[mapping.uuid] = Reconciler(mapping.uuid, self._dependencies)
                tasks.create_task(self._keep(reconciler, mapping.uuid), name=f"mapping {mapping.uuid}")
            reconciler.look_at(mapping)
        # One whose row became damaged goes on as it was; one whose row is gone ends.
        kept = {mapping.uuid for mapping in stored} | {damaged.uuid for damaged in store.damaged()}
        for uuid in self._reconcilers.keys() - kept:
            self._reconcilers[uuid].look_again()

    async def _keep(self, reconciler: Reconciler, uuid: str) -> None:
        try:
            await reconciler.run()
        finally:
            del self._reconcilers[uuid]


def _log_unreadable(state: RetryCallState) -> None:
    """Log the first failure in a row, and then one a minute."""
    if state.attempt_number % _LOGGED_EVERY != 1:
        return
    reason = state.outcome.exception() if state.outcome else None
    logger.error("mapping store unreadable, reading it again reason=%s", reason)
