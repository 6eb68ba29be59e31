"""Decides by which `node` a Node.js function runs.

AWS's client for Node.js needs a compiler to install; bootstrap.mjs beside this file has its contract.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Final

from tidemill_functions.code.registry import Function
from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.runtime import Launch
from tidemill_functions.settings import Settings

NAMES: Final = ("nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x")
_OLDEST: Final = 18
_ASKED_S: Final = 10.0
_BOOTSTRAP: Final = Path(__file__).with_name("bootstrap.mjs")


class NodeRuntime:
    """The rows of NAMES: one `node` runs them all, and says so where it is of another version."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._found: tuple[str, str] | None = None

    def check(self, name: str) -> str:
        """Return which Node.js runs it if it is another. Raises InvalidFunction if there is none."""
        _, version = self._node(name)
        major = re.sub(r"\D", "", name)
        return (
            "" if version.partition(".")[0] == major else f"{name} is run by Node.js {version}, the one found"
        )

    def launch(self, function: Function, task_root: Path, opt: Path | None) -> Launch:
        """Return our client's start. Raises InvalidFunction if `node` has gone."""
        path, version = self._node(function.runtime)
        major = version.partition(".")[0]
        layers = [f"{opt}/nodejs/node{major}/node_modules", f"{opt}/nodejs/node_modules"] if opt else []
        own = [str(self._settings.node_modules.resolve())] if self._settings.node_modules else []
        return Launch(
            command=(path, str(_BOOTSTRAP), function.handler),
            version=f"nodejs:{version}",
            variables={"NODE_PATH": os.pathsep.join([*layers, *own, str(task_root)])},
            needs=(Path(path), _BOOTSTRAP.parent, *map(Path, own)),
        )

    def _node(self, name: str) -> tuple[str, str]:
        with self._lock:
            if self._found is None:
                self._found = _find(self._settings.node)
        if self._found is None:
            raise InvalidFunction(
                f"The runtime {name} needs Node.js {_OLDEST} or newer: install it, or name its program in "
                "TIDEMILL_FUNCTIONS_NODE."
            )
        return self._found


def _find(named: Path | None) -> tuple[str, str] | None:
    """Return the program and its version."""
    path = str(named) if named is not None else shutil.which("node", path=os.environ.get("PATH"))
    if path is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a program that was found or named, no shell
            [path, "--version"], capture_output=True, text=True, timeout=_ASKED_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = done.stdout.strip().removeprefix("v")
    major = version.partition(".")[0]
    return (path, version) if major.isdigit() and int(major) >= _OLDEST else None
