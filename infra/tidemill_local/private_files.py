"""Owns files that only their user may read, and that appear whole: drafts that are renamed into place."""

import os
import re
from pathlib import Path
from typing import Final

_DRAFT: Final = re.compile(r"\.(?P<file>.+)\.(?P<writer>\d+)", re.DOTALL)


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


def remove_drafts(directory: Path, of: str = "") -> None:
    """Remove what writers left behind that were killed; ``of``: only of the file of that name."""
    for path in directory.iterdir() if directory.is_dir() else ():
        draft = _DRAFT.fullmatch(path.name)
        if draft is None or (of and draft["file"] != of):
            continue
        if path.is_file() and not _is_another_running(int(draft["writer"])):
            path.unlink(missing_ok=True)


def _is_another_running(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
