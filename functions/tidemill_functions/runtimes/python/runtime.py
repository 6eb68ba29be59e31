"""Decides by which interpreter a Python function runs, and with which packages in sight.

A function of a zip runs under the version that its Runtime names, with the packages that AWS's runtime
brings. Code that runs in place runs in its project's own virtual environment where there is one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidemill_functions.code.registry import LOCAL_RUNTIME, Function, LocalCode
from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.python.interpreters import Interpreter, Interpreters, project_interpreters
from tidemill_functions.runtimes.python.packages import make_packages, make_trigger, package_folders
from tidemill_functions.runtimes.runtime import Launch
from tidemill_functions.settings import Settings

VERSIONS: Final[Sequence[tuple[int, int]]] = ((3, 10), (3, 11), (3, 12), (3, 13), (3, 14))
_HERE: Final = Path(__file__).parent


class PythonRuntime:
    """The rows python3.10 to python3.14."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._packages = folder / "packages"
        self._trigger = folder / "trigger"
        self._settings = settings
        self._interpreters = Interpreters(settings.pythons, os.environ)
        self._lock = threading.Lock()
        self._is_made = False

    def check(self, name: str) -> str:
        """Return the interpreter in its place if there is no such Python. Raises InvalidFunction."""
        asked, found = _minor(name), self._interpreter(name)
        return "" if found.version[:2] == asked else f"{name} is run by Python {found}, the nearest found"

    def launch(self, function: Function, _task_root: Path, opt: Path | None) -> Launch:
        """Return awslambdaric's start. Raises InvalidFunction if its interpreter has gone."""
        self._make()
        packages = [self._packages, _HERE / "fallback"]
        needs = [_HERE, self._packages, *package_folders(self._packages)]
        # Without a site-packages folder: what is installed beside the interpreter is not on Lambda either.
        interpreter, options = self._interpreter(function.runtime), ["-S", "-s"]
        if isinstance(function.code, LocalCode):
            packages.append(self._trigger)
            if function.code.python:
                interpreter, options = self._project_interpreter(function.code), []
            # Python takes cached bytecode for current when size and second agree: an edit could be missed.
            options.append("-B")
        minor = f"python{interpreter.version[0]}.{interpreter.version[1]}"
        layers = [f"{opt}/python/lib/{minor}/site-packages", f"{opt}/python"] if opt else []
        paths = (os.pathsep.join(map(str, packages)), os.pathsep.join(layers))
        return Launch(
            command=(interpreter.path, *options, str(_HERE / "launch.py"), *paths, function.handler),
            version=f"python:{'.'.join(map(str, interpreter.version))}",
            variables={"PYTHONPATH": str(self._packages)},
            needs=[*needs, Path(interpreter.path), Path(interpreter.prefix)],
        )

    def in_place(self, folder: Path, python: str, virtual_env: str) -> tuple[str, str]:
        """Return the interpreter for code in `folder` and its runtime's name; blocks.

        That is the one named; else of a .venv beside the code or above it; else of `virtual_env`; else "",
        which stands for a Python of our own version without the packages of any project. Raises
        InvalidFunction if the one named does not run.
        """
        if python:
            found = self._interpreters.ask(Path(python))
            if found is None or found.version[:2] not in VERSIONS:
                raise InvalidFunction(
                    f"{python} is no Python that runs functions: name one from 3.10 to 3.14."
                )
            return python, _name(found)
        for program in project_interpreters(folder, virtual_env):
            found = self._interpreters.ask(program)
            if found is not None and found.version[:2] in VERSIONS:
                return str(program), _name(found)
        return "", LOCAL_RUNTIME

    def _make(self) -> None:
        """Make the folders of packages, at the first start of a process."""
        with self._lock:
            if not self._is_made:
                make_packages(self._packages)
                make_trigger(self._trigger)
                self._is_made = True

    def _project_interpreter(self, code: LocalCode) -> Interpreter:
        found = self._interpreters.ask(Path(code.python))
        if found is None:
            raise InvalidFunction(f"{code.python} is no Python that runs: register the function again.")
        return found

    def _interpreter(self, name: str) -> Interpreter:
        asked = _minor(name)
        found = self._interpreters.find(asked)
        if found is not None:
            return found
        there = self._interpreters.all(VERSIONS)
        if self._settings.nearest_python and there:
            return min(there, key=lambda one: (abs(one.version[1] - asked[1]), -one.version[1]))
        version = f"{asked[0]}.{asked[1]}"
        raise InvalidFunction(
            f"The runtime {name} needs a Python {version}, and this machine has "
            f"{', '.join(map(str, there)) or 'none'}: install it (uv python install {version}), "
            "name one in TIDEMILL_FUNCTIONS_PYTHONS, or allow the nearest by "
            "TIDEMILL_FUNCTIONS_NEAREST_PYTHON=true."
        )


def _name(interpreter: Interpreter) -> str:
    return f"python{interpreter.version[0]}.{interpreter.version[1]}"


def _minor(name: str) -> tuple[int, int]:
    major, minor = name.removeprefix("python").split(".")
    return int(major), int(minor)
