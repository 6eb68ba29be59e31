"""Finds the Python interpreters of this machine: named ones, our own, PATH, pyenv's and uv's.

Each is asked for its version once. Knows nothing of functions; `PythonRuntime` asks it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ASKED_S: Final = 10.0
# pyenv's programs are scripts that find the interpreter: it is asked where it lies.
_QUESTION: Final = (
    "import sys; print('.'.join(map(str, sys.version_info[:3])), sys.executable, sys.base_prefix, sep='\\n')"
)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Interpreter:
    """One interpreter."""

    version: tuple[int, int, int]
    path: str
    prefix: str = field(default="", compare=False)  # where its library lies

    def __str__(self) -> str:
        """Return it as a sentence names it."""
        return f"{'.'.join(map(str, self.version))} ({self.path})"


def project_interpreters(folder: Path, virtual_env: str) -> list[Path]:
    """Return the interpreters of the .venv in `folder`, of those above it, and of `virtual_env` if given."""
    environments = [parent / ".venv" for parent in (folder, *folder.parents)]
    if virtual_env:
        environments.append(Path(virtual_env))
    programs = [environment / "bin" / "python" for environment in environments]
    return [program for program in programs if program.is_file()]


class Interpreters:
    """The interpreters that were found. Safe in threads; every method may block."""

    def __init__(self, named: Sequence[Path], environ: Mapping[str, str]) -> None:
        self._named = named
        self._environ = environ
        self._lock = threading.Lock()
        own = Path(sys.executable).resolve()  # not the .venv's, which holds Tidemill's own packages
        major, minor, micro = sys.version_info[:3]
        self._own = Interpreter(version=(major, minor, micro), path=str(own), prefix=sys.base_prefix)
        self._asked: dict[str, Interpreter] = {self._own.path: self._own}
        self._found: dict[tuple[int, int], Interpreter] = {}

    def find(self, minor: tuple[int, int]) -> Interpreter | None:
        """Return an interpreter of this version, the first by the order in this module's head."""
        known = self._found.get(minor)
        if known is not None and Path(known.path).is_file():
            return known
        for path in self._candidates(minor):
            found = self.ask(path)
            if found is not None and found.version[:2] == minor:
                self._found[minor] = found
                return found
        return None

    def all(self, minors: Sequence[tuple[int, int]]) -> list[Interpreter]:
        """Return what there is of these versions, lowest first."""
        return sorted(found for minor in minors if (found := self.find(minor)) is not None)

    def ask(self, path: Path) -> Interpreter | None:
        """Return the interpreter at this path; None if it does not run."""
        with self._lock:
            found = self._asked.get(str(path)) or _ask(path)
            if found is not None:  # what is missing may be installed later
                self._asked[str(path)] = found
            return found

    def _candidates(self, minor: tuple[int, int]) -> Iterator[Path]:
        yield from self._named
        if self._own.version[:2] == minor:
            yield Path(self._own.path)
        program = f"python{minor[0]}.{minor[1]}"
        home = Path(self._environ.get("HOME", "/"))
        for folder in self._environ.get("PATH", "").split(os.pathsep):
            if folder and (Path(folder) / program).is_file():
                yield Path(folder) / program
        version = f"{minor[0]}.{minor[1]}"
        pyenv = Path(self._environ.get("PYENV_ROOT") or home / ".pyenv")
        uv = Path(self._environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
        for root, folder in ((pyenv / "versions", f"{version}.*"), (uv, f"cpython-{version}.*")):
            yield from sorted(root.glob(f"{folder}/bin/{program}"), reverse=True)


def _ask(path: Path) -> Interpreter | None:
    try:
        done = subprocess.run(  # noqa: S603 - an interpreter that was found or named, no shell
            [path, "-I", "-S", "-c", _QUESTION],
            capture_output=True,
            text=True,
            timeout=_ASKED_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        version, executable, prefix = done.stdout.splitlines()
        major, minor, micro = map(int, version.split("."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(version=(major, minor, micro), path=executable, prefix=prefix)
