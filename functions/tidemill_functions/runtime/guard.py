"""Sees to it that no handler process outlives the server, even one that was killed with -9.

One small process reads a pipe that only the server holds: lines `+pgid`, `+pgid uid` and `-pgid`. When the
pipe ends the server is gone, however it went, and the process groups still listed are killed, children of
handlers included, and whatever else runs as a user of their own. (PR_SET_PDEATHSIG would end only the direct
child, only on Linux, and needs code between fork and exec.) Called by environments; run as a
script it is the other side, so it imports nothing but the library.

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

    def __init__(self, users_lock: int | None = None) -> None:
        self._groups: dict[int, int | None] = {}
        # Held by the guard too: while it ends processes, no other server starts some with their users.
        self._held = () if users_lock is None else (users_lock,)
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int, uid: int | None = None) -> None:
        """Kill this group, and all processes of its own user, when the server ends, from now on."""
        self._groups[group] = uid
        self._tell(_line(group, uid))

    def forget(self, group: int) -> None:
        """Forget a group that has ended: its number may be another's soon."""
        self._groups.pop(group, None)
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
            line = "".join(_line(group, uid) for group, uid in self._groups.items())
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
            pass_fds=self._held,
        )


def _line(group: int, uid: int | None) -> str:
    return f"+{group}\n" if uid is None else f"+{group} {uid}\n"


def stand_guard(lines: Iterable[bytes]) -> None:
    """Read the server's lines to their end, then kill the groups that are left."""
    groups: dict[int, int | None] = {}
    for line in lines:
        group, uid = (*map(int, line[1:].split()), None)[:2]
        assert group is not None
        if line.startswith(b"+"):
            groups[group] = uid
        else:
            groups.pop(group, None)
    for group, uid in groups.items():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        if uid is not None:
            with contextlib.suppress(OSError):
                subprocess.Popen(["/bin/sh", "-c", "kill -9 -1"], user=uid, group=uid, extra_groups=()).wait()


if __name__ == "__main__":
    stand_guard(sys.stdin.buffer)
