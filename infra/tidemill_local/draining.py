"""Owns what `up` says while it waits for a program to stop: how long already, and for which invocations.

The poller answers its API while it drains, so what it waits for is asked there. Called by the launcher.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import aiohttp

# A stop that takes no longer than the first needs no word.
FIRST_AFTER_S: Final = 1.0
_THEN_EVERY_S: Final = 10.0
_TIMEOUT_S: Final = 2.0
# Named one by one; of more, the number.
_NAMED_MAX: Final = 3
_MAPPINGS_PATH: Final = "/2015-03-31/event-source-mappings/"
_AT_WORK: Final = frozenset({"invoking", "retrying", "holding"})


async def tell_progress(name: str, poller_url: str | None, tell: Callable[[str], None]) -> None:
    """Say every few seconds that ``name`` is waited for, and for what where a ``poller_url`` is given."""
    began_s = time.monotonic()
    await asyncio.sleep(FIRST_AFTER_S)
    while True:
        work = await _work_of(poller_url) if poller_url else ""
        waited_s = time.monotonic() - began_s
        tell(
            f"waiting for {name} since {waited_s:.0f} s{work}; "
            "Ctrl-C again ends everything at once: what is in flight is delivered again at the next start"
        )
        await asyncio.sleep(_THEN_EVERY_S)


async def _work_of(poller_url: str) -> str:
    """The partitions that are not at rest, in words; empty where the poller does not say."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(poller_url, timeout=timeout) as session:
            listed = await _get(session, _MAPPINGS_PATH)
            told = [
                sentence
                for mapping in listed["EventSourceMappings"]
                for sentence in _sentences(
                    mapping, await _get(session, f"/_tidemill/mappings/{mapping['UUID']}/status")
                )
            ]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
        return ""
    more = [f"{len(told) - _NAMED_MAX} more partitions"] if len(told) > _NAMED_MAX else []
    return ": " + ", ".join(told[:_NAMED_MAX] + more) if told else ""


def _sentences(mapping: dict[str, Any], status: dict[str, Any]) -> Iterator[str]:
    function = str(mapping["FunctionArn"]).rpartition(":")[2]
    for partition in status["partitions"]:
        if partition["state"] in _AT_WORK:
            since_s = max(time.time() - partition["since_ms"] / 1000, 0)
            key, state = f"{partition['topic']}-{partition['partition']}", partition["state"]
            yield f"{function} ({state} {key} since {since_s:.0f} s)"


async def _get(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with session.get(path) as reply:
        reply.raise_for_status()
        found: dict[str, Any] = json.loads(await reply.read())
        return found
