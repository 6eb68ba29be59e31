"""Unpacks a function's zip, or refuses it whole: nothing outside the folder, nothing left after a refusal.

Knows zips and folders, nothing of functions. Called by the registry, in a thread: it may work for seconds.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final

from tidemill_functions.errors import InvalidArchive

# Lambda's quota for a deployment package, unzipped.
UNZIPPED_BYTES_MAX: Final = 262_144_000
# Lambda has no such quotas; without them a small zip could cost minutes and all inodes, or resist removal.
ENTRIES_MAX: Final = 100_000
DEPTH_MAX: Final = 100
_CHUNK_BYTES: Final = 256 * 1024
_ENCRYPTED: Final = 0x1
# What zipfile and its decompressors raise for a broken zip; OSError: names that cannot be files together.
_BREAKAGES: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    ValueError,
)
_OUR_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS)
_BROKEN: Final = "Could not unzip uploaded file. Please check your file, then try to upload again."


def unpack(zipped: bytes, folder: Path, *, unzipped_bytes_max: int = UNZIPPED_BYTES_MAX) -> None:
    """Unpack the zip into `folder`, which must not exist yet.

    Raises InvalidArchive with AWS's sentence for a broken zip, or one that names the entry and the fix.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(BytesIO(zipped)) as archive:
            _unpack_entries(archive, folder, unzipped_bytes_max)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _BREAKAGES) and getattr(error, "errno", None) not in _OUR_DISK:
            raise InvalidArchive(_BROKEN) from error
        raise


def make_read_only(folder: Path) -> None:
    """Take the right to write from everything below and let every user read it, as Lambda's task root."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent, name)
            path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
        Path(parent).chmod(0o555)


def remove_tree(folder: Path) -> None:
    """Remove a folder, read-only or not; what cannot be removed stays."""
    for parent, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _unpack_entries(archive: zipfile.ZipFile, folder: Path, unzipped_bytes_max: int) -> None:
    entries = archive.infolist()
    if not entries:
        raise InvalidArchive("Uploaded file must be a non-empty zip")
    if len(entries) > ENTRIES_MAX:
        raise _too_many(len(entries))
    for entry in entries:
        _check(entry)
    _check_folders(entries)
    # The sizes in the directory may lie: this refuses the honest ones early, `_write` the others in time.
    if sum(entry.file_size for entry in entries) > unzipped_bytes_max:
        raise _too_large(unzipped_bytes_max)
    left = unzipped_bytes_max
    for entry in entries:
        target = folder.joinpath(*PurePosixPath(entry.filename).parts)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            left -= _write(archive, entry, target, left)
            if left < 0:
                raise _too_large(unzipped_bytes_max)


def _check(entry: zipfile.ZipInfo) -> None:
    """Refuse an entry that must not or cannot be written as a plain file or folder below the root."""
    name = entry.filename
    # zipfile cuts a name at its first NUL and turns the system's own separator into a slash.
    if "\\" in name or "\0" in entry.orig_filename:
        raise InvalidArchive(f"The zip's entry {name!r} has no portable name: use / between folders.")
    path = PurePosixPath(name)
    if path.is_absolute() or (len(name) > 1 and name[1] == ":"):
        raise InvalidArchive(f"The zip's entry {name!r} has an absolute name: zip it by a relative one.")
    if ".." in path.parts or not path.parts:
        raise InvalidArchive(f"The zip's entry {name!r} would be written outside of the function's folder.")
    if len(path.parts) > DEPTH_MAX:
        raise InvalidArchive(f"The zip's entry {name[:80]!r} is more than {DEPTH_MAX} folders deep.")
    if entry.flag_bits & _ENCRYPTED:
        raise InvalidArchive(f"The zip's entry {name!r} is encrypted: zip it without a password.")
    mode = entry.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise InvalidArchive(f"The zip's entry {name!r} is a symbolic link: zip the file that it points to.")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidArchive(f"The zip's entry {name!r} is neither a file nor a folder: leave it out.")
    if mode and not mode & stat.S_IRUSR:
        raise InvalidArchive(f"The zip's entry {name!r} is not readable: chmod u+r it and zip again.")


def _check_folders(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse entries that need too many folders, named by an entry of their own or not."""
    folders: set[PurePosixPath] = set()
    for entry in entries:
        for folder in PurePosixPath(entry.filename).parents:
            if folder in folders:
                break  # and so are those above it
            folders.add(folder)
        if len(folders) > ENTRIES_MAX:
            raise _too_many(len(entries) + len(folders))


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, bytes_max: int) -> int:
    """Write one file and return its size; stops once above `bytes_max`."""
    written = 0
    with archive.open(entry) as source, target.open("wb") as file:
        while written <= bytes_max and (chunk := source.read(_CHUNK_BYTES)):
            file.write(chunk)
            written += len(chunk)
    if entry.external_attr >> 16 & stat.S_IXUSR:
        target.chmod(0o700)
    return written


def _too_large(unzipped_bytes_max: int) -> InvalidArchive:
    return InvalidArchive(f"Unzipped size must be smaller than {unzipped_bytes_max} bytes")


def _too_many(entries: int) -> InvalidArchive:
    return InvalidArchive(f"The zip has {entries} entries: at most {ENTRIES_MAX} can be unpacked.")
