"""Notices that the Python files of a folder have changed.

Knows nothing of functions. Called by the registry.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# A handler's folder may be the root of a whole project: what cannot be its own code is not looked at.
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
_FILES_MAX: Final = 5_000


def fingerprint(folder: Path) -> int:
    """Return a number that changes when a .py file below the folder is edited, added or removed.

    Looks at names, sizes and modification times of up to 5,000 files, not into hidden folders, caches and
    virtual environments. 0 for a folder without any.
    """
    found: list[tuple[str, int, int]] = []
    folders = [os.fspath(folder)]
    while folders and len(found) < _FILES_MAX:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        about = entry.stat()
                        found.append((entry.path, about.st_mtime_ns, about.st_size))
                    elif (
                        not entry.name.startswith(".")
                        and entry.name not in _SKIPPED
                        and entry.is_dir(follow_symlinks=False)
                    ):
                        folders.append(entry.path)
        except OSError:
            continue  # removed while we looked: the next look finds what is there then
    return hash(tuple(sorted(found))) if found else 0
