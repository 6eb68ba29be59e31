"""Writes documents so that a crash leaves the old one or the new one, never a part.

Knows folders, nothing of what the documents say. Called by the registry, attached.py and the event store.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson


def remove_drafts(folder: Path) -> None:
    """Remove what a server left in the folder that was killed while it wrote."""
    for draft in folder.glob("*.tmp"):
        draft.unlink()


def write_document(path: Path, content: Any) -> None:
    """Replace the document at `path`; it is on the disk when this returns."""
    write_bytes(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path`; it is on the disk when this returns."""
    draft = path.with_name(f"{path.name}.tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def remove_document(path: Path) -> None:
    """Remove the document if it is there; it is off the disk when this returns."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or removal in this folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
