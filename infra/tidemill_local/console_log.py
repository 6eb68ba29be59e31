"""Owns the one log of `up`: each line with the name of its program, in the program's colour on a terminal."""

import os
import sys
from typing import Protocol, TextIO

_COLOURS = {"broker": 36, "poller": 35, "functions": 32, "aws": 33, "gateway": 34, "tidemill": 1}
_NAME_WIDTH = 9
# A terminal obeys control characters, and a line can quote a client: its client id, an error's text.
_CONTROLS = (*range(9), *range(10, 32), *range(127, 160))
# These reorder or break a line: Unicode's bidirectional controls (UAX #9), line and paragraph separators.
_REORDERING = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {code: f"\\x{code:02x}" for code in _CONTROLS} | {code: f"\\u{code:04x}" for code in _REORDERING}


def visible(text: str) -> str:
    """Return the text with control characters, tabs apart, and bidirectional controls spelled out."""
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
            # The reader of the log is gone; the programs go on.
            return
