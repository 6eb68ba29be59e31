"""Gives a process a file system of its own: read-only, its own /tmp, and nothing that is not its to see.

Owns the system calls (namespaces, mounts) and the choice of what is covered. `enter` changes the thread that
calls it for good, so a process is started by a thread that ends after it: no code runs between fork and exec,
and the namespace lives as long as its processes. Linux 5.12 and CAP_SYS_ADMIN. Must not know functions.

See docs/decisions/0406.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWIPC: Final = 0x08000000
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_ATTR_RDONLY: Final = 1
_ATTR_NOSUID: Final = 2
_TMP: Final = Path("/tmp")  # noqa: S108 - Lambda's own, and a mount of its own here
# Files of 512 MB that have a page each are 131,072; Lambda's disk has about as many inodes.
_INODES_PER_MB: Final = 256
_COVER_OPTIONS: Final = "mode=0755,size=1m,nr_inodes=10k"
_SHARED_MEMORY_OPTIONS: Final = "mode=1777,size=64m,nr_inodes=10k"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a process sees of the file system."""

    uid: int  # owns /tmp
    needs: Sequence[Path]  # visible, even below what is covered
    hidden: Sequence[Path]  # covered, even where their modes would let others in
    tmp_mb: int


class _Attributes(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def enter(view: View) -> None:
    """Move the calling thread, and what it starts, into this view. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC), "unshare")
    os.umask(0o022)  # Lambda's; unshare has made it this thread's own
    _mount(libc, "none", Path("/"), "", _MS_REC | _MS_PRIVATE)
    shown = [step for step in planned(view) if not step.is_cover]
    opened = {step.path: os.open(step.path, os.O_PATH | os.O_CLOEXEC) for step in shown}
    try:
        for step in planned(view):
            if not step.is_cover:
                source = f"/proc/self/fd/{opened[step.path]}"
                _make_target(step.path, is_folder=Path(source).is_dir())
                _mount(libc, source, step.path, "", _MS_BIND)
            elif step.path == _TMP:
                options = f"mode=0700,uid={view.uid},gid={view.uid},size={view.tmp_mb}m"
                _mount(libc, "tmpfs", _TMP, f"{options},nr_inodes={view.tmp_mb * _INODES_PER_MB}")
            else:
                _mount(libc, "tmpfs", step.path, _COVER_OPTIONS)
        _mount(libc, "tmpfs", Path("/dev/shm"), _SHARED_MEMORY_OPTIONS)  # noqa: S108 - a mount of its own
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    _set_attributes(libc, Path("/"), _AT_RECURSIVE, set=_ATTR_RDONLY | _ATTR_NOSUID)
    for writable in (_TMP, Path("/dev/shm")):  # noqa: S108 - the same
        _set_attributes(libc, writable, 0, clear=_ATTR_RDONLY)


def blocked_ancestor(path: Path) -> Path | None:
    """Return the outermost folder above `path` that others may not enter; None if they reach `path`."""
    for ancestor in reversed(path.parents):
        if not ancestor.stat().st_mode & 0o001:
            return ancestor
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """One mount: an empty folder over what is there, or what was there shown again."""

    path: Path
    is_cover: bool


def planned(view: View) -> Sequence[Step]:
    """Return the mounts, outer ones first.

    Covered are /tmp, what is hidden, and what keeps others from what is needed; that is shown again below.
    """
    blocked = [found for need in view.needs if (found := blocked_ancestor(need)) is not None]
    covers = {_TMP, *view.hidden, *blocked}
    steps: list[Step] = []
    for path in sorted({*covers, *view.needs}, key=lambda one: len(one.parts)):
        is_cover = path in covers
        above = next((step for step in reversed(steps) if path.is_relative_to(step.path)), None)
        if is_cover is not (above is not None and above.is_cover):
            steps.append(Step(path, is_cover))
    return steps


def _make_target(path: Path, *, is_folder: bool) -> None:
    """Make what a mount needs to stand on, in a covered folder."""
    if is_folder:
        path.mkdir(parents=True, exist_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _mount(libc: ctypes.CDLL, source: str, target: Path, options: str, flags: int | None = None) -> None:
    kind = source if source == "tmpfs" else ""
    if flags is None:
        flags = _MS_NOSUID | _MS_NODEV
    _check(
        libc.mount(
            source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
        ),
        f"mount {target}",
    )


def _set_attributes(libc: ctypes.CDLL, target: Path, flags: int, *, set: int = 0, clear: int = 0) -> None:  # noqa: A002 - the kernel's name
    attributes = _Attributes(set, clear, 0, 0)
    size = ctypes.sizeof(attributes)
    _check(
        libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            _AT_FDCWD,
            os.fsencode(target),
            ctypes.c_uint(flags),
            ctypes.byref(attributes),
            ctypes.c_size_t(size),
        ),
        f"mount_setattr {target}",
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
