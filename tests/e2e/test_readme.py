"""The README's tours, cut out of it and run as they stand against a fresh `tidemill up`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.up import Up, clean_environ, running_up

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("readme")) as running:
        yield running


def block(heading: str, language: str) -> str:
    """The first code block of that language below a heading."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no {language} block below {heading!r}"
    return found.group(1)


def run(up: Up, command: list[str], folder: Path) -> str:
    environ = clean_environ(
        AWS_ENDPOINT_URL=up.ready["endpoint_url"], PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}"
    )
    ran = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_the_boto3_tour_ends_with_the_failure_record(up: Up, tmp_path: Path) -> None:
    script = tmp_path / "tour.py"
    script.write_text(block("A tour with boto3", "python"))

    assert '"condition": "RetryAttemptsExhausted"' in run(up, [sys.executable, str(script)], tmp_path)


def test_the_aws_cli_tour_and_the_terminal_tour_work_as_printed(up: Up, tmp_path: Path) -> None:
    cli = run(up, ["bash", "-euc", block("The same with the AWS CLI", "sh")], tmp_path)
    terminal = run(up, ["bash", "-euc", block("From your terminal", "sh")], tmp_path)

    assert "RetryAttemptsExhausted" in cli
    assert "parcels" in terminal
