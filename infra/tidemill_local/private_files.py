"""Owns files that only their user may read, and that appear whole: drafts that are renamed into place."""

import os
from pathlib import Path


def write_private(path: str | Path, text: str) -> None:
    """Write ``text`` with mode 0600; a reader sees the old file or the new one, never half of one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    # O_EXCL: never through a link that another user put there.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(target)
