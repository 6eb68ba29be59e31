"""Sees to it that no handler process outlives the server, even one that was killed with -9.

One small process reads a pipe that only the server holds: lines `+pgid` and `-pgid`. When the pipe ends the
server is gone, however it went, and the process groups still listed are killed, children of handlers
included. (PR_SET_PDEATHSIG would end only the direct child, only on Linux, and needs code between fork and
exec.) Called by environments; run as a script it is the other side, so it imports nothing but the library.

See docs/decisions/0402.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable


class Guard:
    """The server's side: tells the guard process which process groups are alive."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Kill this group when the server ends, from now on."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Forget a group that has ended: its number may be another's soon."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End the guard process, which kills what is still listed."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            line = "".join(f"+{group}\n" for group in self._groups)
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # killed this instant: the next line starts another
            self._process.stdin.write(line.encode())

    def _start(self) -> None:
        # In a session of its own: a Ctrl-C at the terminal is for the server, which then closes the pipe.
        self._process = subprocess.Popen(  # noqa: S603 - our own file, no shell
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={},
        )


def stand_guard(lines: Iterable[bytes]) -> None:
    """Read the server's lines to their end, then kill the groups that are left."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        if line.startswith(b"+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    stand_guard(sys.stdin.buffer)
