"""Starts `bootstrap`, an executable that speaks the Runtime API: Go, Rust, or whatever was compiled.

The program must be for this machine: Amazon Linux and its libraries are not here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidemill_functions.code.registry import Function
from tidemill_functions.errors import InvalidFunction
from tidemill_functions.runtimes.runtime import Launch

NAMES: Final = ("provided.al2", "provided.al2023")
_SHEBANG_BYTES_MAX: Final = 256  # the kernel's


class ProvidedRuntime:
    """The rows of NAMES."""

    def check(self, _name: str) -> str:
        """Return nothing: every machine can start a program."""
        return ""

    def launch(self, function: Function, task_root: Path, opt: Path | None) -> Launch:
        """Return the bootstrap's start. Raises InvalidFunction in Lambda's words if there is none."""
        for folder in (task_root, *([opt] if opt else [])):
            bootstrap = folder / "bootstrap"
            if bootstrap.is_file() and os.access(bootstrap, os.X_OK):
                needs = _interpreter(bootstrap)
                return Launch(command=(str(bootstrap),), version=function.runtime, needs=needs)
        raise InvalidFunction("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")


def _interpreter(bootstrap: Path) -> Sequence[Path]:
    """Return where the program lies that runs a script, with its library; nothing for a binary."""
    with bootstrap.open("rb") as file:
        line = file.readline(_SHEBANG_BYTES_MAX)
    words = line.removeprefix(b"#!").split()
    if not line.startswith(b"#!") or not words:
        return ()
    program = Path(os.fsdecode(words[0])).resolve()
    root = program.parent.parent  # of bin/python and lib/python3.13
    return (program, root) if root.is_dir() and root.stat().st_mode & 0o001 else (program,)
