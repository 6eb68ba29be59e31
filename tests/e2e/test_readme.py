"""The README's code blocks, each pasted as a whole into a fresh shell against a fresh `tidemill up`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.up import Up, clean_environ, running_up

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DEFAULT_ENDPOINT = "http://127.0.0.1:4580"
# The blocks in their order: what each is for.
BLOCKS: list[str] = re.findall(
    r"^```\w+\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
)
DEMO, START, SHELL, TERMINAL, BOTO3, AWS_CLI, START_IAM, IAM = BLOCKS


def paste(up: Up, block: str, folder: Path) -> str:
    """What a new shell in the user's folder prints: first the README's own set-up, then the block."""
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(BIN.parent)
    assert DEFAULT_ENDPOINT in SHELL
    set_up = SHELL.replace(DEFAULT_ENDPOINT, up.ready["endpoint_url"])
    ran = subprocess.run(
        ["bash", "-e"],
        input=set_up + block,
        cwd=folder,
        env=clean_environ(COLUMNS="80"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def started_by(block: str) -> list[str]:
    """The arguments of `tidemill up` in a block."""
    program, up, *arguments = shlex.split(block.splitlines()[-1], comments=True)
    assert (program, up) == (".venv/bin/tidemill", "up")
    return arguments


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("readme") / ".tidemill", *started_by(START)) as running:
        yield running


def test_the_make_targets_exist() -> None:
    for line in (*DEMO.splitlines(), START.splitlines()[0]):
        make, target = shlex.split(line, comments=True)
        subprocess.run([make, "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


def test_the_terminal_tour_shows_the_failure_record_the_log_and_the_tree(up: Up, tmp_path: Path) -> None:
    said = paste(up, TERMINAL, tmp_path)

    _, record, rest = re.split(r"^(\{.*\})$", said, flags=re.MULTILINE)
    assert '"condition":"RetryAttemptsExhausted"' in record
    assert "[ERROR] AssertionError: cannot digest this" in rest
    assert "1 failure record sent" in " ".join(rest.split())
    assert "dropped" not in rest
    assert re.search(r"^uuid +function +topic +state +last result", rest, re.MULTILINE)


def test_the_boto3_tour_ends_with_the_failure_record(up: Up, tmp_path: Path) -> None:
    assert '"condition": "RetryAttemptsExhausted"' in paste(up, BOTO3, tmp_path)


def test_the_aws_cli_tour_ends_with_the_failure_record(up: Up, tmp_path: Path) -> None:
    assert "RetryAttemptsExhausted" in paste(up, AWS_CLI, tmp_path)


def test_the_iam_tour_ends_with_a_denied_write(tmp_path: Path) -> None:
    arguments = started_by(START_IAM)
    assert arguments == ["--auth", "iam"]
    with running_up(tmp_path / ".tidemill", *arguments) as up:
        assert paste(up, IAM, tmp_path) == "denied: [Error 29] TopicAuthorizationFailedError: payments\n"


def test_the_iam_tour_imports_nothing_that_make_install_does_not_install() -> None:
    """The tests' own environment has more: what a block imports must be a dependency of the wheel."""
    declared = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[0]
    standard = sys.stdlib_module_names
    for block in (BOTO3, IAM):
        lines = re.findall(r"^(?:from|import) (.+?)(?: import .*)?$", block, re.MULTILINE)
        names = {name.strip().partition(".")[0] for line in lines for name in line.split(",")}
        for name in names - standard:
            assert re.search(rf'"{name.replace("_", "[-_]")}', declared.replace("-python", "")), name
