"""What a process with a file system of its own sees of the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_functions.runtime.mounts import View, blocked_ancestor, planned

TMP = Path("/tmp")


def view(*, needs: list[Path], hidden: list[Path]) -> View:
    return View(uid=1, needs=needs, hidden=hidden, tmp_mb=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of another place than /tmp, as far as others may enter it."""
    (tmp_path / "data" / "code").mkdir(parents=True)
    return tmp_path


def test_what_is_needed_is_shown_below_what_is_hidden(folder: Path) -> None:
    data = folder / "data"
    steps = planned(view(needs=[data / "code"], hidden=[data]))
    assert [(step.path, step.is_cover) for step in steps][-1] == (data / "code", False)
    assert all(step.is_cover for step in steps[:-1])


def test_what_is_hidden_is_covered_below_what_is_needed(folder: Path) -> None:
    """An interpreter beside the data folder does not show it."""
    data = folder / "data"
    steps = planned(view(needs=[folder, data / "code"], hidden=[data]))
    assert [(step.path, step.is_cover) for step in steps][-3:] == [
        (folder, False),
        (data, True),
        (data / "code", False),
    ]


def test_what_everybody_may_enter_is_left_as_it_is() -> None:
    assert [step.path for step in planned(view(needs=[Path("/usr/bin")], hidden=[]))] == [TMP]


def test_the_outermost_folder_that_keeps_others_out_is_found(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o001 == 0:
            outer = path
    found = blocked_ancestor(tmp_path / "a" / "b" / "c")
    assert found == outer
