"""Files of the broker's state: whole, and their owner's alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidemill_broker.durable_files import write_durably


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_is_its_owners_alone_unless_told_otherwise(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_durably(tmp_path / "secret", b"key")
        write_durably(tmp_path / "public", b"certificate", mode=0o644)
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {"secret": 0o600, "public": 0o644}


def test_the_longest_name_can_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / ("t" * 255)
    write_durably(file, b"old")
    write_durably(file, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(file.name, b"new")]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "state"
    write_durably(file, b"old")
    (tmp_path / f"state.{os.getpid()}.tmp").mkdir()
    with pytest.raises(OSError, match="state"):
        write_durably(file, b"new")
    assert file.read_bytes() == b"old"
