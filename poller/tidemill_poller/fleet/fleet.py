"""Reconciles stored mappings with running pollers: what the store says is what runs.

Owns one keeper per mapping; nobody calls it back, it reads the store. A restart of the poller is the first
reconciliation, there is no other path. `__main__` runs it.
"""

from __future__ import annotations

import asyncio
import logging

from tidemill_poller.errors import StoreError
from tidemill_poller.fleet.reconciler import Dependencies, Reconciler

log = logging.getLogger(__name__)

_STORE_RETRY_S = 1.0


class Fleet:
    """All mappings of one store, each kept by a task of its own: none waits for, or falls with, another."""

    def __init__(self, surroundings: Dependencies) -> None:
        self._surroundings = surroundings
        self._keepers: dict[str, Reconciler] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask `run` to drain every poller, leave every group and return; no mapping changes its state."""
        self._stopping.set()

    async def run(self) -> None:
        """Keep what runs equal to what is stored, until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(tasks), name="watch store")
            await self._stopping.wait()
            watch.cancel()
            for keeper in self._keepers.values():
                keeper.stop()

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        revision = -1
        while True:
            try:
                revision = await self._surroundings.store.changed(revision)
                self._reconcile(tasks)
            except StoreError as error:
                log.error("the mapping store cannot be read, asking again: %s", error)  # noqa: TRY400  # one line
                await asyncio.sleep(_STORE_RETRY_S)

    def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        for mapping in self._surroundings.store.all():
            keeper = self._keepers.get(mapping.uuid)
            if keeper is None:
                keeper = self._keepers[mapping.uuid] = Reconciler(mapping.uuid, self._surroundings)
                tasks.create_task(self._keep(keeper, mapping.uuid), name=f"mapping {mapping.uuid}")
            keeper.look_at(mapping)

    async def _keep(self, keeper: Reconciler, uuid: str) -> None:
        try:
            await keeper.run()
        finally:
            del self._keepers[uuid]
