"""Owns one handler process as the operating system sees it: its start, its group, its memory, its end.

It starts a command in a process group of its own, with three descriptors and nothing else, freezes and thaws
the group, and ends it. Where the server is root it runs as a user of its own, in a view of the file system
(mounts.py). It must not know invocations, the Runtime API or what a process runs: environment.py does.

See docs/decisions/0406.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from tidemill_functions.runtime.census import Group, users_threads
from tidemill_functions.runtime.guard import Guard
from tidemill_functions.runtime.mounts import View, enter
from tidemill_functions.runtime.users import in_own_thread

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Go's names where C's differ.
_SIGNALS: Final[Mapping[int, str]] = {
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGABRT: "aborted",
}
# Lambda's quotas; the server itself takes what the system lets it.
_FILES_MAX: Final = 1024
_PROCESSES_MAX: Final = 1024
# For what a human starts meanwhile, where handlers run as that human.
_HEADROOM: Final = 4096
# A shell sets the limits: to set another user's takes a capability that containers do not give to root.
# Where the one is called -u, -p is a pipe's; where it is called -p, there is no -u.
_LIMITED: Final = (
    f"ulimit -n {_FILES_MAX}; {{ ulimit -u {_PROCESSES_MAX} || ulimit -p {_PROCESSES_MAX}; }} 2>/dev/null;"
    ' unset PWD OLDPWD SHLVL; exec "$@"'
)


class Owner(Protocol):
    """Who started the process; called on the event loop, must not block."""

    def exited(self, code: int) -> None:
        """Take the exit status, negative for a signal; the rest of the group has been killed."""


class HandlerProcess:
    """One process and all that it starts. All methods belong to one event loop."""

    def __init__(self, owner: Owner, guard: Guard) -> None:
        self._owner = owner
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._exit_file = -1
        self._memory_file = -1
        self._peak_bytes = 0
        self._others_bytes = 0
        self._is_frozen = False
        self._is_killed = False
        self._strays: set[int] = set()

    async def start(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        variables: Mapping[str, str],
        output: int,
        view: View | None = None,
    ) -> None:
        """Start the command in `folder`; standard output and error go to the descriptor `output`.

        With a view it sees no more than that, as the view's user. Raises OSError or ValueError if it cannot
        be started.
        """

        def spawn() -> subprocess.Popen[bytes]:
            return _spawn(command, folder=folder, variables=variables, output=output, view=view)

        # Root has no limit of processes; with a view a shell sets it.
        counts = view is None and os.geteuid() != 0
        others = await asyncio.to_thread(users_threads, os.geteuid()) if counts else 0
        if view is None:
            self._process = spawn()
        else:
            self._process = await asyncio.to_thread(in_own_thread, spawn)
        self._guard.watch(self._process.pid, None if view is None else view.uid)
        if view is None:
            _limit(self._process.pid, processes=others + _HEADROOM)
        with contextlib.suppress(OSError):  # not Linux
            self._memory_file = os.open(f"/proc/{self._process.pid}/statm", os.O_RDONLY)
        self._await_exit(self._process)
        if self._is_killed:  # while it was started
            self.kill()

    def kill(self) -> None:
        """End the process and its group if it runs, or once it does; `exited` follows."""
        self._is_killed = True
        if self._process is not None and self._process.returncode is None:
            self._kill_group(self._process)

    @property
    def pid(self) -> int | None:
        """Its number while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def freeze(self) -> None:
        """Stop the group until `thaw`."""
        if self.pid is not None and not self._is_frozen:
            self._is_frozen = True
            _signal_group(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the group go on, and what left it."""
        if self._is_frozen:
            self._is_frozen = False
            if self.pid is not None:
                _signal_group(self.pid, signal.SIGCONT)
            for pid in self._strays:
                _signal(pid, signal.SIGCONT)
            self._strays.clear()

    def take_group(self, group: Group) -> None:
        """Take note of its processes, as they were a moment ago: what left the group is frozen with it."""
        self._others_bytes = group.others_bytes
        if self._is_frozen:
            for pid in group.pids:
                if pid not in self._strays and _has_left(pid, self.pid):
                    self._strays.add(pid)
                    _signal(pid, signal.SIGSTOP)

    def resident_mb(self) -> int:
        """Return the resident memory of all its processes now, in MB; 0 where there is no /proc."""
        resident = 0
        if self._memory_file >= 0:
            with contextlib.suppress(OSError, IndexError):
                resident = int(os.pread(self._memory_file, 64, 0).split()[1]) * _PAGE_BYTES
                resident += self._others_bytes
                self._peak_bytes = max(self._peak_bytes, resident)
        return resident >> 20

    def peak_mb(self) -> int:
        """Return the most resident memory seen by these calls, in MB; 0 where there is no /proc."""
        self.resident_mb()
        return self._peak_bytes >> 20

    def close(self) -> None:
        """Give its descriptors back; it must have exited, or never have started."""
        if self._memory_file >= 0:
            os.close(self._memory_file)
            self._memory_file = -1

    def _await_exit(self, process: subprocess.Popen[bytes]) -> None:
        try:
            self._exit_file = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # not Linux, or one before 5.3
            threading.Thread(target=self._wait, args=(process,), daemon=True).start()
        else:
            self._loop.add_reader(self._exit_file, self._reap, process)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """In a thread: wait for the end, and tell the loop."""
        process.wait()
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(self._reap, process)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Kill what the process left in its group, then tell the owner."""
        if self._exit_file >= 0:
            self._loop.remove_reader(self._exit_file)
            os.close(self._exit_file)
            self._exit_file = -1
        # Before it is reaped: until then its number cannot be another group's.
        self._kill_group(process)
        code = process.wait()
        self._guard.forget(process.pid)
        self._owner.exited(code)

    def _kill_group(self, process: subprocess.Popen[bytes]) -> None:
        _signal_group(process.pid, signal.SIGKILL)


def exit_reason(code: int) -> str:
    """Return Lambda's words for a process that ended: Go's for an exit status, by way of RIE."""
    if code == 0:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    name = _SIGNALS.get(-code) or (signal.strsignal(-code) or f"signal {-code}").lower()
    return f"Runtime exited with error: signal: {name}"


def _spawn(
    command: Sequence[str], *, folder: Path, variables: Mapping[str, str], output: int, view: View | None
) -> subprocess.Popen[bytes]:
    """Start a process; with a view, that changes the thread for good.

    Not by the event loop's own subprocess_exec: uvloop's lets a child inherit whatever is not closed on exec.
    """
    if view is not None:
        enter(view)
        command = ("/bin/sh", "-c", _LIMITED, "sh", *command)
    return subprocess.Popen(  # noqa: S603 - the function's own runtime, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        env=variables,
        close_fds=True,
        # Its process group, so that what a handler starts ends with it.
        start_new_session=True,
        user=None if view is None else view.uid,
        group=None if view is None else view.uid,
        extra_groups=None if view is None else (),
    )


def _limit(pid: int, *, processes: int) -> None:
    """Give a handler Lambda's limit of open files again, which the server has raised for itself.

    The limit of processes counts all of the user's, who may be a human; it does not hold for root.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, ValueError):  # it has ended already, or the limit is lower
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(_FILES_MAX, hard), hard))
        resource.prlimit(pid, resource.RLIMIT_NPROC, (processes, processes))


def _has_left(pid: int, group: int | None) -> bool:
    """Return whether a process lives outside of this group."""
    try:
        return os.getpgid(pid) != group
    except ProcessLookupError:
        return False


def _signal_group(group: int, number: int) -> None:
    assert group > 0  # 0 would be the server's own group
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal(pid: int, number: int) -> None:
    assert pid > 0
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
