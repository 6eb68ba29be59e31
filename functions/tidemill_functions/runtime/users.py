"""Hands out the user that each handler process runs as, where the server is root: none is another's.

A server takes a block of user ids by a lock that ends with it, so that two servers of one machine never
share one. Decides once, at the start, whether this machine can isolate at all, by trying. Must not know
functions; process.py starts processes as these users.

See docs/decisions/0406.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import logging
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, TypeVar

from tidemill_functions.runtime.mounts import View, enter

logger = logging.getLogger(__name__)

_LOCKS: Final = Path("/run/tidemill")
_BLOCK_UIDS: Final = 10_000
_BLOCKS: Final = 1_000
_TRIED_S: Final = 10.0
_TRIED_VIEW_MB: Final = 1

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Users:
    """The user ids of one server; they belong to one event loop."""

    first_uid: int
    lock: int  # a descriptor
    _unused: list[int] = field(default_factory=list)
    _next: itertools.count[int] = field(default_factory=itertools.count)

    def take(self) -> int:
        """Return a user id that no process has."""
        return heapq.heappop(self._unused) if self._unused else self.first_uid + next(self._next)

    def give_back(self, uid: int) -> None:
        """Take a user id back whose processes are gone."""
        heapq.heappush(self._unused, uid)

    def close(self) -> None:
        """Let go of the block."""
        os.close(self.lock)


def find_users(first_uid: int) -> Users | None:
    """Return the users that handlers run as; None if they run as the server's own, which is logged for root.

    `first_uid` is where the blocks begin; 0 asks for none. Blocks: it starts a process to try.
    """
    if first_uid == 0 or os.geteuid() != 0:
        return None
    try:
        users = _lock_block(first_uid)
    except OSError as error:
        logger.warning("handlers run as root reason=%s", error)
        return None
    try:
        in_own_thread(lambda: _try(users.first_uid))
    except (OSError, subprocess.SubprocessError) as error:
        users.close()
        logger.warning("handlers run as root reason=%s", error)
        return None
    return users


def in_own_thread(call: Callable[[], T]) -> T:
    """Return what `call` does in a thread that ends after it: what it does to its thread ends with it."""
    errand = _Errand(call)
    thread = threading.Thread(target=errand.run)
    thread.start()
    thread.join()
    return errand.result()


class _Errand(Generic[T]):
    """One call, and how it ended."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by whom it concerns
            self._error = error

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]


def _lock_block(first_uid: int) -> Users:
    """Take the first block that no other server has. Raises OSError."""
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    for block in range(_BLOCKS):
        uid = first_uid + block * _BLOCK_UIDS
        lock = os.open(_LOCKS / f"uids-{uid}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return Users(first_uid=uid, lock=lock)
    raise OSError(f"{_BLOCKS} servers have locks in {_LOCKS}")


def _try(uid: int) -> None:
    """Start a process in a view of its own. Raises OSError or SubprocessError where that cannot be done."""
    enter(View(uid=uid, needs=(), hidden=(), tmp_mb=_TRIED_VIEW_MB))
    subprocess.run(
        ["/bin/sh", "-c", "echo > /tmp/tried"],
        check=True,
        timeout=_TRIED_S,
        user=uid,
        group=uid,
        extra_groups=(),
        cwd="/",
        stderr=subprocess.DEVNULL,
    )
