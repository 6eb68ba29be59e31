"""Variables as each shell reads them, and what `reset` removes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tidemill_cli.environment import spelled
from tidemill_cli.main import main

HOSTILE = 'it\'s $(touch /tmp/x) `y` \\ "z"'


def test_a_shell_reads_any_value_as_it_is() -> None:
    script = "\n".join([*spelled({"NAME": HOSTILE}, "sh"), 'printf %s "$NAME"'])
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == HOSTILE


def test_powershell_and_fish_get_quotes_of_their_own() -> None:
    assert spelled({"NAME": "it's"}, "powershell")[0] == "$env:NAME = 'it''s'"
    assert spelled({"NAME": "it's \\"}, "fish")[0] == "set -gx NAME 'it\\'s \\\\'"


def test_a_session_token_of_another_login_is_unset() -> None:
    assert spelled({}, "sh") == ["unset AWS_SESSION_TOKEN"]


@pytest.mark.parametrize("command", [["env"], ["aws", "sts", "get-caller-identity"]])
def test_without_an_up_there_is_one_sentence(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_options: "/bin/true")
    assert main(command) == 1
    assert capsys.readouterr().err == (
        "error: No `tidemill up` is ready in .tidemill: start it, "
        "or name its data directory with --data-dir.\n"
    )


def test_without_the_aws_cli_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_options: None)
    assert main(["aws", "s3", "ls"]) == 1
    assert "The AWS CLI is not installed" in capsys.readouterr().err


def make_data(folder: Path) -> None:
    for name in ("aws/state.log", "broker/topics", "auth.json", "up.lock", "mine.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_reset_removes_what_up_made_and_nothing_else(tmp_path: Path) -> None:
    make_data(tmp_path)
    assert main(["reset", "--data-dir", str(tmp_path), "--yes"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "up.lock"]


def test_reset_follows_no_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    make_data(elsewhere)
    data = tmp_path / "data"
    data.mkdir()
    (data / "up.lock").write_text("")
    (data / "aws").symlink_to(elsewhere)
    assert main(["reset", "--data-dir", str(data), "--yes"]) == 0
    assert not (data / "aws").is_symlink()
    assert (elsewhere / "auth.json").exists()


def test_reset_without_anybody_to_ask_removes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_data(tmp_path)
    assert main(["reset", "--data-dir", str(tmp_path)]) == 1
    assert "give --yes" in capsys.readouterr().err
    assert (tmp_path / "aws/state.log").exists()


def test_reset_of_another_folder_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "aws").mkdir()
    assert main(["reset", "--data-dir", str(tmp_path), "--yes"]) == 1
    assert "is no data directory of `tidemill up`" in capsys.readouterr().err
    assert (tmp_path / "aws").exists()
