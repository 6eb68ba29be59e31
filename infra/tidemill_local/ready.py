"""Owns the ready file: JSON that appears whole, once a program answers, and says where."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill_local.errors import ReadyFileUnwritable
from tidemill_local.private_files import remove_drafts, write_private


def prepare_ready_file(path: str | Path) -> None:
    """Make its folder before anything starts, and remove what earlier writers left there.

    Raises ReadyFileUnwritable.
    """
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ReadyFileUnwritable(
            f"cannot write --ready-file {file}: {error.strerror}; give one in another folder"
        ) from None
    remove_drafts(file.parent, file.name)


def write_ready_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``content``; a reader sees the old file or the new one, never half of one.

    Raises ReadyFileUnwritable.
    """
    try:
        write_private(path, json.dumps(content) + "\n")
    except OSError as error:
        raise ReadyFileUnwritable(
            f"cannot write --ready-file {path}: {error.strerror}; free space there,"
            " or give one in another folder"
        ) from None


def read_ready_file(path: str | Path) -> dict[str, Any] | None:
    """What the program wrote; None as long as it is not ready."""
    try:
        content: dict[str, Any] = json.loads(Path(path).read_text())
    except FileNotFoundError:
        return None
    return content
