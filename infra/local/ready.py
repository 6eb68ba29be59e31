"""Owns the ready file: JSON that appears whole, once a program answers, and says where."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_ready_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content``; a reader sees the old file or the new one, never half of one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with draft.open("x") as file:  # never through a link that somebody put there
        file.write(json.dumps(content) + "\n")
    draft.replace(target)


def read_ready_file(path: str | Path) -> dict[str, Any] | None:
    """What the program wrote; None as long as it is not ready."""
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text())
    except FileNotFoundError:
        return None
    return content
