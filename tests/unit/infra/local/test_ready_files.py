"""The files that programs write where a user says: whole, and never through somebody's link."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import tidemill_functions.__main__ as functions
import tidemill_poller.__main__ as poller
from tidemill_broker.durable_files import write_durably
from tidemill_local.errors import ReadyFileUnwritable
from tidemill_local.private_files import remove_drafts
from tidemill_local.ready import prepare_ready_file, write_ready_file

Write = Callable[[Path, Mapping[str, Any]], None]


def _broker_write(file: Path, content: Mapping[str, Any]) -> None:
    write_durably(file, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("write", "draft"),
    [
        (_broker_write, f"ready.json.{os.getpid()}.tmp"),
        (functions._write_ready, "ready.json.tmp"),
        (poller._write_json, "ready.json.tmp"),
        (write_ready_file, f".ready.json.{os.getpid()}"),
    ],
    ids=["broker", "functions", "poller", "up"],
)
def test_a_link_in_the_drafts_place_is_not_followed(tmp_path: Path, write: Write, draft: str) -> None:
    """In a folder that others write to, a link could name any file of the user's."""
    (victim := tmp_path / "victim").write_text("precious")
    (tmp_path / draft).symlink_to(victim)
    write(tmp_path / "ready.json", {"pid": 1})
    assert victim.read_text() == "precious"
    assert json.loads((tmp_path / "ready.json").read_text()) == {"pid": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ready.json", "victim"]


def test_the_drafts_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    """`up` does so in its data directory when it starts: in auth.json's drafts are passwords."""
    gone = 2**22 + 1  # beyond what the kernel gives out
    kept = {"auth.json", ".hidden", f".auth.json.{os.getppid()}", f"auth.json.{gone}", f".folder.{gone}"}
    for name in kept | {f".auth.json.{gone}", f".auth.json.{os.getpid()}"}:
        (tmp_path / name).mkdir() if "folder" in name else (tmp_path / name).touch()
    remove_drafts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_ready_file_in_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReadyFileUnwritable, match=r"^cannot write --ready-file .*; give one in"):
        prepare_ready_file(tmp_path / "file" / "ready.json")
