"""Owns how an error of several lines becomes one with the cause first.

Pure; knows Python's tracebacks and Lambda's error documents.
"""

from collections.abc import Sequence
from typing import Any, Final

from tidemill_poller.invoke.frames import first_frame

_TRACEBACK: Final = "Traceback (most recent call last):"


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
    parts = [_one_line(error), first_frame(frames), f"· {before}" if before else ""]
    return " ".join(part for part in parts if part)


def _split(lines: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Split what follows a traceback's head into its indented frames and the error below them."""
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            return lines[:number], lines[number:]
    return lines, ()


def error_sentence(document: Any) -> str:
    """Return what an error document of Lambda's says, with the first frame of the user's code."""
    if not isinstance(document, dict):
        return ""
    stack = document.get("stackTrace") or document.get("trace") or []
    said = ": ".join(str(document[name]) for name in ("errorType", "errorMessage") if document.get(name))
    return " ".join(filter(None, (_one_line(said.splitlines()), first_frame(stack))))


def _one_line(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())
