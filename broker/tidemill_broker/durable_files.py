"""Small files that are replaced as a whole: a reader, or a crash, finds the old content or the new.

Knows nothing of what is in them. Everything of the broker that keeps state in a file writes it here.
"""

import os
import re
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
# A file's name may have 255 bytes, and a topic's file nearly has them.
_NAME_CHARACTERS: Final = 200
_DRAFT: Final = re.compile(r"(?P<file>.+)\.(?P<writer>\d+)\.tmp", re.DOTALL)


def write_durably(file: Path, content: bytes, *, mode: int = PRIVATE) -> None:
    """Replace the file, and return once that survives a power failure. Raises OSError, changing nothing."""
    draft = file.with_name(f"{file.name[:_NAME_CHARACTERS]}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    # O_EXCL: never through a link that somebody put there. The mode holds from the first byte on.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)  # whatever the umask
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    draft.replace(file)
    sync_directory(file.parent)


def remove_drafts(directory: Path, of: str = "") -> None:
    """Remove what writers left behind that were killed; ``of``: only of the file of that name."""
    for path in directory.iterdir() if directory.is_dir() else ():
        draft = _DRAFT.fullmatch(path.name)
        if draft is None or (of and draft["file"] != of[:_NAME_CHARACTERS]):
            continue
        if not _is_another_running(int(draft["writer"])):
            path.unlink(missing_ok=True)


def _is_another_running(pid: int) -> bool:
    """Whether it may still write: `tidemill broker identity` does, beside a broker."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def sync_directory(directory: Path) -> None:
    """Return once the names in a directory, new and removed, would survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(file: Path, text: str) -> None:
    """Write a file that nobody reads until it is whole."""
    with file.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
