"""Owns the ready file: JSON that appears whole, once a program answers, and says where."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill_local.private_files import write_private


def write_ready_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content``; a reader sees the old file or the new one, never half of one."""
    write_private(path, json.dumps(content) + "\n")


def read_ready_file(path: str | Path) -> dict[str, Any] | None:
    """What the program wrote; None as long as it is not ready."""
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text())
    except FileNotFoundError:
        return None
    return content
