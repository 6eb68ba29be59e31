"""Defines what the table of runtimes holds: how a function's process is started.

Knows functions as they are stored, nothing of running processes.

See docs/decisions/0404.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tidemill_functions.code.registry import Function


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One way to start a process: a command, its variables beside Lambda's, and what it runs."""

    command: tuple[str, ...]
    version: str  # as INIT_START names it, such as python:3.13.0
    variables: Mapping[str, str] = field(default_factory=dict)
    # What it reads beside task root and layers; a process with a user of its own sees it wherever it lies.
    needs: Sequence[Path] = ()


class Runtime(Protocol):
    """One row of the table. Both methods block: they look at the disk and may start programs."""

    def check(self, name: str) -> str:
        """Return how this machine departs from the runtime of this name, or "" if it does not.

        Raises InvalidFunction with one sentence that names the fix if it cannot run here.
        """

    def launch(self, function: Function, task_root: Path, opt: Path | None) -> Launch:
        """Return how to start a process of this function, its layers in `opt`. Raises InvalidFunction."""
