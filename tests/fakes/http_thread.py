"""Serves an aiohttp application from a thread of its own, for clients that block (boto3, the AWS CLI)."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import abc
from contextlib import contextmanager

from aiohttp import web

_DEADLINE_S = 10.0


@contextmanager
def serving(make_application: abc.Callable[[], web.Application]) -> abc.Iterator[str]:
    """The URL of the application, which is made, served and closed in the thread."""
    started: queue.SimpleQueue[str | BaseException] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(make_application())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.put(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stop.wait()
        await runner.cleanup()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            started.put(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="http")
    thread.start()
    try:
        outcome = started.get(timeout=_DEADLINE_S)
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(_DEADLINE_S)
