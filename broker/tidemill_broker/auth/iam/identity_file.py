"""A file of access keys as bytes: read only where others cannot write it, written whole or not at all.

Knows the file's safety and its outermost shape; `identities` knows what an identity is. The broker reads,
`tidemill broker identity` writes.
"""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tidemill_broker.durable_files import write_durably
from tidemill_broker.errors import BrokerError

FILE_NAME: Final = "identities.json"  # in the data directory, unless tidemill.identity.files says else
VERSION: Final = 1
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
# Group members may read, as container platforms mount secrets; they may not write, and others may nothing.
_TOO_OPEN: Final = stat.S_IWGRP | stat.S_IRWXO
_ROOT: Final = 0


class IdentityFileError(BrokerError, ValueError):
    """A file of access keys that cannot be used; the text names the place and the fix, and no secret."""


def read_document(file: Path) -> dict[str, Any] | None:
    """Read the outermost object; None: there is no such file. Raises IdentityFileError."""
    try:
        text = _read_private(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityFileError(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        text = None
    document = None if text is None else _parsed(text)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise IdentityFileError(
            f'must be one JSON object in UTF-8 with "version": {VERSION} and a list "identities"'
        )
    return document


def write_document(file: Path, document: dict[str, Any]) -> None:
    """Replace the file; it is 0600."""
    write_durably(file, (json.dumps(document, indent=2) + "\n").encode())


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other commands from changing the file between our reading and our writing."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # the kernel lets go when we close it, or die
        yield
    finally:
        os.close(directory)


def _read_private(file: Path) -> str:
    # A pipe in the file's place must not hold the broker.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - Path opens no descriptor
        _check_private(file, os.fstat(descriptor))
        content = stream.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise IdentityFileError(f"must not be larger than {FILE_BYTES_MAX} bytes; remove identities")
    return content.decode()


def _check_private(file: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise IdentityFileError("must be a regular file")
    if status.st_uid not in (os.geteuid(), _ROOT):
        raise IdentityFileError("belongs to another user, who could let anybody in; own it, or copy it")
    if status.st_mode & _TOO_OPEN:
        raise IdentityFileError(f"holds secrets and is open to other users; chmod 600 {file}")


def _parsed(text: str) -> Any:
    """Parse strictly; None: not JSON. The decoder's error holds the whole text, so it does not leave here."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Reject a repeated key: two readers could each take another of them."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found
