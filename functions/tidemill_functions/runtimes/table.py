"""Owns the table of runtimes: which names there are, and who starts each of them.

A new runtime is one row here and one folder beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tidemill_functions.code.registry import Function, LocalCode
from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.java.runtime import NAMES as JAVA
from tidemill_functions.runtimes.java.runtime import JavaRuntime
from tidemill_functions.runtimes.node.runtime import NAMES as NODE
from tidemill_functions.runtimes.node.runtime import NodeRuntime
from tidemill_functions.runtimes.provided.runtime import NAMES as PROVIDED
from tidemill_functions.runtimes.provided.runtime import ProvidedRuntime
from tidemill_functions.runtimes.python.runtime import PythonRuntime
from tidemill_functions.runtimes.runtime import Launch, Runtime
from tidemill_functions.settings import Settings

PYTHON: Final = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
# What AWS runs and this does not, with what to do instead.
_UNBUILT: Final[Mapping[str, str]] = {
    "nodejs": "choose nodejs18.x or newer",
    "java": "choose java17 or newer, which run what was compiled for older ones",
    "dotnet": "publish it with native AOT and a bootstrap for provided.al2023",
    "ruby": "package it with a bootstrap for provided.al2023",
    "go": "build it as bootstrap for provided.al2023, as AWS asks since 2024",
}


class Runtimes:
    """The runtimes of this machine."""

    def __init__(self, settings: Settings) -> None:
        folder = settings.data_dir.resolve() / "runtimes"
        self._python = PythonRuntime(folder / "python", settings)
        self._rows: Mapping[str, Runtime] = {
            **dict.fromkeys(PYTHON, self._python),
            **dict.fromkeys(NODE, NodeRuntime(settings)),
            **dict.fromkeys(JAVA, JavaRuntime(folder / "java", settings)),
            **dict.fromkeys(PROVIDED, ProvidedRuntime()),
        }

    def check(self, name: str) -> str:
        """Return how this machine departs from a runtime, or ""; blocks. Raises InvalidFunction."""
        row = self._rows.get(name)
        if row is not None:
            return row.check(name)
        for prefix, instead in _UNBUILT.items():
            if name.startswith(prefix):
                raise InvalidFunction(f"The runtime {name} cannot be run here: {instead}.")
        raise InvalidFunction(
            f"The runtime {name} cannot be run here: choose one of {', '.join(self._rows)}."
        )

    def in_place(self, code: LocalCode, python: str, virtual_env: str) -> tuple[LocalCode, str]:
        """Return code in place with the interpreter that runs it, and its runtime's name; blocks.

        See PythonRuntime.in_place. Raises InvalidFunction.
        """
        path, name = self._python.in_place(Path(code.folder), python, virtual_env)
        return LocalCode(folder=code.folder, python=path), name

    def launch(self, function: Function, task_root: Path, opt: Path | None) -> Launch:
        """Return how to start a process of this function; blocks. Raises InvalidFunction."""
        row = self._rows.get(function.runtime)
        if row is None:
            raise InvalidFunction(f"The runtime {function.runtime} cannot be run here any more.")
        return row.launch(function, task_root, opt)
