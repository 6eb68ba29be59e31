"""The file of the embedded AWS's state: whole frames, in order, whatever ended the writer."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_local.aws.kept.journal import MAGIC, Journal


def written(file: Path, *payloads: bytes) -> Journal:
    journal = Journal(file)
    assert list(journal.read()) == []
    for payload in payloads:
        journal.append(payload)
    return journal


def read(file: Path) -> list[bytes]:
    return list(Journal(file).read())


@given(
    payloads=st.lists(st.binary(max_size=50), max_size=6), cut=st.integers(0, 400), byte=st.integers(0, 255)
)
def test_any_end_and_any_byte_leave_the_frames_before_it(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], cut: int, byte: int
) -> None:
    file = tmp_path_factory.mktemp("journal") / "state.log"
    written(file, *payloads)
    data = bytearray(file.read_bytes())
    place = min(cut, len(data) - 1)
    ends = [len(MAGIC)]
    for payload in payloads:
        ends.append(ends[-1] + 8 + len(payload))
    whole = payloads[: sum(end <= place for end in ends[1:])] if place >= len(MAGIC) else []
    file.write_bytes(data[:place])
    assert read(file) == whole
    unharmed = data[place] == byte
    data[place] = byte
    file.write_bytes(data)
    assert read(file) == (payloads if unharmed else whole)


def test_what_is_appended_after_a_damaged_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "state.log"
    written(file, b"one", b"two")
    file.write_bytes(file.read_bytes()[:-1])
    journal = Journal(file)
    assert list(journal.read()) == [b"one"]
    journal.append(b"three")
    assert read(file) == [b"one", b"three"]


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes half of a frame."""
    file = tmp_path / "state.log"
    journal = written(file, b"one")
    write = os.write

    def half(fd: int, data: Any) -> int:
        if len(data) > 4:
            return write(fd, bytes(data[:4]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        journal.append(b"four")
    monkeypatch.undo()
    journal.append(b"three")
    assert read(file) == [b"one", b"three"]


def test_a_rewritten_file_has_what_was_rewritten_and_what_was_appended_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "state.log"
    journal = written(file, b"old", b"old")
    journal.begin_rewriting()
    journal.rewrite(b"now")
    journal.append(b"meanwhile")
    assert read_copy(file) == [b"old", b"old", b"meanwhile"]
    assert journal.end_rewriting()
    journal.append(b"after")
    assert read(file) == [b"now", b"meanwhile", b"after"]


def read_copy(file: Path) -> list[bytes]:
    """What a start would read after a kill at this moment; reading removes an unfinished second file."""
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    return read(copy)
