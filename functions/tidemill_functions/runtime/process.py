"""Owns one handler process as the operating system sees it: its start, its group, its memory, its end.

It starts a command in a process group of its own, with three descriptors and nothing else, and ends the whole
group. It must not know invocations, the Runtime API or what a process runs: environment.py does.
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

from tidemill_functions.runtime.guard import Guard

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Go's names where C's differ.
_SIGNALS: Final[Mapping[int, str]] = {
    signal.SIGKILL: "killed",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGABRT: "aborted",
}


# Lambda's quota; the server itself takes what the system lets it.
_FILES_MAX: Final = 1024


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

    def start(
        self, command: Sequence[str], *, folder: Path, variables: Mapping[str, str], output: int
    ) -> None:
        """Start the command in `folder`; standard output and error go to the descriptor `output`.

        Not by the event loop's own subprocess_exec: uvloop's lets a child inherit whatever is not closed on
        exec. Raises OSError or ValueError if it cannot be started.
        """
        self._process = subprocess.Popen(  # noqa: S603 - the function's own runtime, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=variables,
            close_fds=True,
            # Its process group, so that what a handler starts ends with it.
            start_new_session=True,
        )
        self._guard.watch(self._process.pid)
        _limit_files(self._process.pid)
        with contextlib.suppress(OSError):  # not Linux
            self._memory_file = os.open(f"/proc/{self._process.pid}/statm", os.O_RDONLY)
        self._await_exit(self._process)

    def kill(self) -> None:
        """End the process and its group if it runs; `exited` follows."""
        if self._process is not None and self._process.returncode is None:
            self._kill_group(self._process)

    def resident_mb(self) -> int:
        """Return the resident memory of the process now, in MB; 0 where there is no /proc."""
        resident = 0
        if self._memory_file >= 0:
            with contextlib.suppress(OSError, IndexError):
                resident = int(os.pread(self._memory_file, 64, 0).split()[1]) * _PAGE_BYTES
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
        assert process.pid > 0  # 0 would be the server's own group
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def exit_reason(code: int) -> str:
    """Return Lambda's words for a process that ended: Go's for an exit status, by way of RIE."""
    if code == 0:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    name = _SIGNALS.get(-code) or (signal.strsignal(-code) or f"signal {-code}").lower()
    return f"Runtime exited with error: signal: {name}"


def _limit_files(pid: int) -> None:
    """Give a handler Lambda's limit of open files again, which the server has raised for itself."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # it has ended already
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(_FILES_MAX, hard), hard))
