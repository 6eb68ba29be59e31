"""Owns the one log of `up`: each line with the name of its program, in the program's colour on a terminal."""

import os
import sys
from typing import Protocol, TextIO

_COLOURS = {"broker": 36, "poller": 35, "functions": 32, "aws": 33, "gateway": 34, "tidemill": 1}
_NAME_WIDTH = 9
# A terminal obeys control characters, and part of a line may be a stranger's: a client id, an error's text.
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), *range(127, 160))}


def visible(text: str) -> str:
    """The text with control characters other than tabs spelled out."""
    return text.translate(_VISIBLE)


class LogSink(Protocol):
    """Takes whole lines; may block for a moment; never raises."""

    def line(self, program: str, text: str) -> None:
        """Write one line of one program."""


class ConsoleLog:
    """Writes to standard error; colours only where a terminal shows them and NO_COLOR is unset."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._coloured = self._stream.isatty() and not os.environ.get("NO_COLOR")

    def line(self, program: str, text: str) -> None:
        """Write one line of one program."""
        name = f"{program:<{_NAME_WIDTH}} │"
        if self._coloured:
            name = f"\x1b[{_COLOURS[program]}m{name}\x1b[0m"
        try:
            self._stream.write(f"{name} {visible(text)}\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            # Nobody reads the log any more; the programs go on.
            return
