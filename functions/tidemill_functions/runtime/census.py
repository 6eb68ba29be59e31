"""Counts the processes of this machine: which belong to an environment, and what memory they hold.

Reads /proc and knows no invocations. Where a handler has a user of its own, its processes are that user's,
whatever they do to hide; else they are those of its session, and what descends from it. Reads block a little:
call them in a thread.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_ROUNDS: Final = 100
_ROUND_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as /proc shows it."""

    pid: int
    parent: int
    session: int
    uid: int
    threads: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Root:
    """One environment: the process that was started, and its user if that is its own."""

    pid: int
    uid: int | None
    memory_bytes: int  # above this, memory that its processes share is counted once


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one environment, the one that was started among them while it lives."""

    pids: Sequence[int]
    others_bytes: int  # memory of those that it started


class Census:
    """Follows the groups of environments from look to look; used by one thread at a time."""

    def __init__(self) -> None:
        self._last_pid = b""
        self._pids: dict[Root, Sequence[int]] = {}

    def look(self, roots: Sequence[Root]) -> Mapping[Root, Group]:
        """Return the groups of these environments now; blocks."""
        last_pid = _last_pid()
        # No process or thread was made since: who belongs to whom is as it was.
        if not last_pid or last_pid != self._last_pid or any(root not in self._pids for root in roots):
            found = processes()
            self._last_pid = last_pid
            self._pids = {root: _members(root, found) for root in roots}
        return {root: self._group(root) for root in roots}

    def _group(self, root: Root) -> Group:
        pids = self._pids[root]
        held = {pid: process.resident_bytes for pid in pids if (process := _read(pid)) is not None}
        own = held.pop(root.pid, 0)
        others = sum(held.values())
        if held and own + others > root.memory_bytes:
            others = max(0, proportional_bytes(pids) - own)
        return Group(pids, others)


def processes() -> Mapping[int, Process]:
    """Return all processes that live, by their numbers; none where there is no /proc. Blocks."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - no object for each process
    except OSError:
        return {}
    found = (_read(int(name)) for name in names if name.isdigit())
    return {process.pid: process for process in found if process is not None}


def users_threads(uid: int) -> int:
    """Return how many threads this user has; blocks."""
    return sum(process.threads for process in processes().values() if process.uid == uid)


def proportional_bytes(pids: Sequence[int]) -> int:
    """Return what these processes hold, memory that they share counted once; blocks."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 - no object for each read
            for line in file:
                if line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
    return total


def end_all_of(uid: int) -> bool:
    """End every process of this user, which must be no human's; return whether none is left. Blocks.

    The kernel ends them at once, at the word of a process of the same user: one by one, a handler that forks
    without end would be faster.
    """
    for _ in range(_ROUNDS):
        if not any(process.uid == uid for process in processes().values()):
            return True
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # it may be killed by whom it ends
            subprocess.run(
                ["/bin/sh", "-c", "kill -9 -1"],
                user=uid,
                group=uid,
                extra_groups=(),
                cwd="/",
                env={},
                stderr=subprocess.DEVNULL,
                timeout=_ROUND_S,
                check=False,
            )
    return False


def _members(root: Root, found: Mapping[int, Process]) -> Sequence[int]:
    if root.uid is not None:
        return [process.pid for process in found.values() if process.uid == root.uid]
    return [process.pid for process in found.values() if _descends(process, root.pid, found)]


def _descends(process: Process, ancestor: int, found: Mapping[int, Process]) -> bool:
    seen: set[int] = set()
    current: Process | None = process
    while current is not None and current.pid not in seen:
        if ancestor in (current.pid, current.session):
            return True
        seen.add(current.pid)
        current = found.get(current.parent)
    return False


def _read(pid: int) -> Process | None:
    """Return one process; None if it has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - no object for each read
            line = file.read()
            uid = os.fstat(file.fileno()).st_uid
    except OSError:
        return None
    # After the name, which may hold anything: state, ppid, pgrp, session, … (proc(5)).
    fields = line.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    resident_bytes = int(fields[21]) * _PAGE_BYTES
    return Process(pid, int(fields[1]), int(fields[3]), uid, int(fields[17]), resident_bytes)


def _last_pid() -> bytes:
    """Return the number given last to a process or thread; empty where nobody can tell."""
    try:
        with open("/proc/loadavg", "rb") as file:  # noqa: PTH123 - no object for each read
            return file.read().split()[-1]
    except (OSError, IndexError):
        return b""
