"""A zip is unpacked whole and inside its folder, or refused with a sentence and without a trace."""

from __future__ import annotations

import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_functions.code.archive import unpack
from tidemill_functions.errors import InvalidArchive

BROKEN = "Could not unzip uploaded file. Please check your file, then try to upload again."


def zip_with(name: str, content: bytes = b"x", *, mode: int = 0, flags: int = 0) -> bytes:
    """A zip with a good entry and one that is written as asked."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.py", "x = 1")
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, content)
    zipped = bytearray(buffer.getvalue())
    if flags:
        directory = zipped.rfind(b"PK\x01\x02")
        struct.pack_into("<H", zipped, directory + 8, flags)
    return bytes(zipped)


def lying_about_its_size() -> bytes:
    """The directory says that the bomb has one byte."""
    zipped = bytearray(zip_with("bomb", b"\0" * 1_000_000))
    directory = zipped.rfind(b"PK\x01\x02")
    struct.pack_into("<I", zipped, directory + 24, 1)
    return bytes(zipped)


def corrupt() -> bytes:
    zipped = bytearray(zip_with("app.py", bytes(range(256)) * 40))
    middle = zipped.find(b"app.py") + 60
    zipped[middle] ^= 0xFF
    return bytes(zipped)


def empty() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    return buffer.getvalue()


def file_and_folder() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "file")
        archive.writestr("a/b", "below it")
    return buffer.getvalue()


def unknown_compression() -> bytes:
    zipped = bytearray(zip_with("app.py"))
    struct.pack_into("<H", zipped, zipped.rfind(b"PK\x01\x02") + 10, 77)
    return bytes(zipped)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: b"", BROKEN),
        (lambda: b"this is no zip", BROKEN),
        (lambda: zip_with("app.py")[:-30], BROKEN),
        (corrupt, BROKEN),
        (unknown_compression, BROKEN),
        (file_and_folder, BROKEN),
        (lying_about_its_size, BROKEN),
        (lambda: zip_with("n" * 300 + ".py"), BROKEN),
        (empty, "Uploaded file must be a non-empty zip"),
        (lambda: zip_with("../out.py"), "outside of the function's folder"),
        (lambda: zip_with("a/../../out.py"), "outside of the function's folder"),
        (lambda: zip_with("/etc/cron.d/x"), "absolute name"),
        (lambda: zip_with("C:/x.py"), "absolute name"),
        (lambda: zip_with("..\\out.py"), "no portable name"),
        (lambda: zip_with("link", b"/etc/passwd", mode=stat.S_IFLNK | 0o777), "symbolic link"),
        (lambda: zip_with("pipe", mode=stat.S_IFIFO | 0o644), "neither a file nor a folder"),
        (lambda: zip_with("secret.py", mode=stat.S_IFREG | 0o044), "not readable"),
        (lambda: zip_with("app.py", flags=1), "encrypted"),
        (lambda: zip_with("bomb", b"\0" * 2_000_000), "Unzipped size must be smaller than 1000000 bytes"),
    ],
)
def test_a_bad_zip_is_rejected_and_leaves_nothing(
    tmp_path: Path, make: Callable[[], bytes], told: str
) -> None:
    with pytest.raises(InvalidArchive) as raised:
        unpack(make(), tmp_path / "code", unzipped_bytes_max=1_000_000)
    assert told in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a/" * 2000 + "app.py"], "more than 100 folders deep"),
        ([f"{entry}/" + "a/" * 90 + "app.py" for entry in range(1200)], "at most 100000 can be unpacked"),
    ],
    ids=["deep", "wide"],
)
def test_folders_that_no_entry_names_are_bounded_too(tmp_path: Path, names: list[str], told: str) -> None:
    """Two thousand folders in a row were an error of the server, for pathlib and shutil recurse."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x = 1")
    with pytest.raises(InvalidArchive, match=told):
        unpack(buffer.getvalue(), tmp_path / "code")
    assert list(tmp_path.iterdir()) == []


def test_a_zip_is_unpacked_with_its_folders_and_executables(tmp_path: Path) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.mkdir("package")
        archive.writestr("package/module.py", "x = 1")
        program = zipfile.ZipInfo("bin/program")
        program.external_attr = (stat.S_IFREG | 0o755) << 16
        archive.writestr(program, "#!/bin/sh")
    unpack(buffer.getvalue(), tmp_path / "code")
    assert (tmp_path / "code/package/module.py").read_text() == "x = 1"
    assert stat.S_IMODE((tmp_path / "code/bin/program").stat().st_mode) == stat.S_IRWXU


@given(
    damage=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), cut=st.integers(0, 400)
)
@settings(max_examples=100, deadline=None)
def test_whatever_the_bytes_are_nothing_else_is_raised(damage: list[tuple[int, int]], cut: int) -> None:
    zipped = bytearray(zip_with("package/app.py", b"def handler(): pass" * 10))
    for place, value in damage:
        zipped[place % len(zipped)] = value
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            unpack(bytes(zipped[cut // 2 :] if cut % 2 else zipped), root / "code")
        except InvalidArchive:
            assert list(root.iterdir()) == []
        else:
            assert [path.name for path in root.iterdir()] == ["code"]
