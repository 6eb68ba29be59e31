"""Owns how an error of several lines becomes one with the cause first. Pure; knows Python's tracebacks."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

_TRACEBACK: Final = "Traceback (most recent call last):"
_FRAME: Final = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')
# Below these lies what the user did not write: the interpreter, its packages, Lambda's runtime client.
_OTHERS: Final = re.compile(r"(^<)|/(site-packages|dist-packages|awslambdaric)/|/lib/python3\.\d+/")


def cause_first(text: str) -> str:
    """Return one line: a traceback's last line, where the user's code stands, then what came before."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.rstrip().endswith(_TRACEBACK)]
    if not starts:
        return _one_line(lines)
    frames, error = _split(lines[starts[-1] + 1 :])
    if not error:
        return _one_line(lines)
    before = _one_line([*lines[: starts[0]], lines[starts[0]].rstrip().removesuffix(_TRACEBACK)])
    parts = [_one_line(error), _place(frames), f"· {before}" if before else ""]
    return " ".join(part for part in parts if part)


def _split(lines: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Split what follows a traceback's head into its indented frames and the error below them."""
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            return lines[:number], lines[number:]
    return lines, ()


def _place(frames: Sequence[str]) -> str:
    """Return the first frame of the user's code, as `(app.py:5 in handler)`."""
    for frame in frames:
        found = _FRAME.match(frame)
        if found and not _OTHERS.search(found["file"]):
            where = f"{PurePath(found['file']).name}:{found['line']}"
            return f"({where} in {found['function']})" if found["function"] else f"({where})"
    return ""


def _one_line(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())
