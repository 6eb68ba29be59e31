"""Watches functions that run in place, and says which edits the server has picked up.

Reads modification times and syntax only; the server itself reloads. Must not import or run the code.
"""

import ast
import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError
from tidemill_cli.output import say

_PERIOD_S: Final = 0.5
# The largest number of files that are looked at: beyond, edits are told without their names.
_FILES_MAX: Final = 5000
_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", ".venv", "venv", ".git"})

Stamps = dict[Path, int]


def watch_edits(there: Endpoint, names: Sequence[str], folder: Path, again: Callable[[], None]) -> None:
    """Print what was picked up at each edit, until Ctrl-C; `again` reads what a module declares."""
    stamps, revisions = _stamps(folder), [_revision(there, name) for name in names]
    say(f"Watching {folder}. Ctrl-C ends this; the functions stay registered.")
    while True:
        time.sleep(_PERIOD_S)
        now = [_revision(there, name) for name in names]
        if now == revisions:
            continue
        found = _stamps(folder)
        say(picked_up(names, folder, stamps, found))
        try:
            again()
        except UserError as error:
            say("\n".join(error.lines()))
        stamps, revisions = found, [_revision(there, name) for name in names]


def picked_up(names: Sequence[str], folder: Path, before: Stamps, after: Stamps) -> str:
    """Return what there is to say of an edit; a module that cannot be parsed is named."""
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    files = ", ".join(str(path.relative_to(folder)) for path in changed) or "an edit"
    lines = [f"{datetime.now():%H:%M:%S} {', '.join(names)}: picked up {files}"]  # noqa: DTZ005 - for people, in their time
    lines += [
        f"  {path.relative_to(folder)} cannot be imported: {fault}"
        for path in changed
        if path in after and (fault := _fault(path))
    ]
    return "\n".join(lines)


def _fault(path: Path) -> str:
    try:
        ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _revision(there: Endpoint, name: str) -> str:
    return str(there.aws("lambda").get_function_configuration(FunctionName=name)["RevisionId"])


def _stamps(folder: Path) -> Stamps:
    """Return when each Python file of the folder was last written."""
    found: Stamps = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in files:
            path = Path(parent, name)
            try:
                if path.suffix == ".py":
                    found[path] = path.stat().st_mtime_ns
            except OSError:  # gone meanwhile
                continue
            if len(found) == _FILES_MAX:
                return found
    return found
