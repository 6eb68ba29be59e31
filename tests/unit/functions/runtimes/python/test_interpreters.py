"""Interpreters are found in one order, asked once, and looked for again when they have gone."""

from __future__ import annotations

import sys
from pathlib import Path

from tidemill_functions.runtimes.python.interpreters import Interpreters, project_interpreters

OWN = sys.version_info[:2]


def program(path: Path, version: str, calls: Path) -> Path:
    """An interpreter that says it is of this version, and notes that it was asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {path.name} >> {calls}\n{version}\n")
    path.chmod(0o755)
    return path


def test_named_ones_go_first_then_path_then_pyenv_then_uv(tmp_path: Path) -> None:
    calls, says = tmp_path / "calls", 'echo 3.99.1; echo "$0"; echo /usr'
    environ = {"PATH": str(tmp_path / "path"), "HOME": str(tmp_path)}
    expected = [
        program(tmp_path / "named", says, calls),
        program(tmp_path / "path/python3.99", says, calls),
        program(tmp_path / ".pyenv/versions/3.99.1/bin/python3.99", says, calls),
        program(tmp_path / ".local/share/uv/python/cpython-3.99.1-linux/bin/python3.99", says, calls),
    ]
    for path in expected:
        found = Interpreters([tmp_path / "named"], environ).find((3, 99))
        assert found is not None
        assert found.path == str(path)
        path.unlink()
    assert Interpreters([tmp_path / "named"], environ).find((3, 99)) is None


def test_what_was_found_is_not_asked_again_nor_what_failed_before_it(tmp_path: Path) -> None:
    """A shim of pyenv for a version that is not chosen fails slowly: no start of a process may pay for it."""
    calls = tmp_path / "calls"
    shim = program(tmp_path / "path/python3.99", "exit 127", calls)
    works = program(
        tmp_path / ".pyenv/versions/3.99.0/bin/python3.99", 'echo 3.99.0; echo "$0"; echo /usr', calls
    )
    interpreters = Interpreters((), {"PATH": str(shim.parent), "HOME": str(tmp_path)})
    for _ in range(3):
        assert str(interpreters.find((3, 99))) == f"3.99.0 ({works})"
    assert calls.read_text().split() == ["python3.99", "python3.99"]


def test_one_that_has_gone_is_replaced_and_one_that_has_come_is_found(tmp_path: Path) -> None:
    calls, environ = tmp_path / "calls", {"PATH": str(tmp_path / "path"), "HOME": str(tmp_path)}
    interpreters = Interpreters((), environ)
    assert interpreters.find((3, 99)) is None
    first = program(tmp_path / "path/python3.99", 'echo 3.99.0; echo "$0"; echo /usr', calls)
    assert interpreters.find((3, 99)) is not None
    first.unlink()
    program(tmp_path / ".pyenv/versions/3.99.2/bin/python3.99", 'echo 3.99.2; echo "$0"; echo /usr', calls)
    found = interpreters.find((3, 99))
    assert found is not None
    assert found.version == (3, 99, 2)


def test_our_own_is_the_one_behind_the_virtual_environment(tmp_path: Path) -> None:
    found = Interpreters((), {"HOME": str(tmp_path)}).find(OWN)
    assert found is not None
    assert (found.version, found.path) == (sys.version_info[:3], str(Path(sys.executable).resolve()))


def test_what_is_no_interpreter_is_none(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    interpreters = Interpreters((), {})
    for path in (
        tmp_path / "nothing",
        program(tmp_path / "fails", "exit 1", calls),
        program(tmp_path / "talks", "echo hello", calls),
    ):
        assert interpreters.ask(path) is None


def test_the_nearest_venv_goes_before_those_above_and_the_callers(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    near = program(tmp_path / "project/src/.venv/bin/python", "", calls)
    far = program(tmp_path / "project/.venv/bin/python", "", calls)
    active = program(tmp_path / "active/bin/python", "", calls)
    found = project_interpreters(tmp_path / "project/src", str(tmp_path / "active"))
    assert [path for path in found if tmp_path in path.parents] == [near, far, active]
    assert active not in project_interpreters(tmp_path / "project/src", "")
