"""A disk that takes nothing at the start: every program says so in one sentence that names the file."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.up import ANY_KAFKA_PORTS, TIDEMILL, clean_environ

PROGRAMS: dict[str, Sequence[str]] = {
    "broker": (sys.executable, "-m", "tidemill_broker", "--port", "0", "--control-port", "0"),
    "poller": (sys.executable, "-m", "tidemill_poller", "--port", "0"),
    "functions": (sys.executable, "-m", "tidemill_functions", "--port", "0"),
    "up": (TIDEMILL, "up", "--port", "0", *ANY_KAFKA_PORTS),
}

pytestmark = pytest.mark.slow


def run(program: str, data_dir: Path, ready_file: Path, *, file_bytes_max: int | None) -> str:
    """What a program says that cannot start."""

    def limit() -> None:
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    done = subprocess.run(
        [*PROGRAMS[program], "--data-dir", str(data_dir), "--ready-file", str(ready_file)],
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limit,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_full_disk_at_the_start_is_one_sentence_that_names_the_file(program: str, tmp_path: Path) -> None:
    said = run(program, tmp_path / "data", tmp_path / "ready.json", file_bytes_max=0)
    assert str(tmp_path) in said
    assert "File too large" in said or "disk" in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_ready_file_that_cannot_be_written_any_more_is_one_sentence(program: str, tmp_path: Path) -> None:
    """It was fine when it was checked: a disk fills up meanwhile. A folder in its place fails as late."""
    (ready_file := tmp_path / "ready.json").mkdir()
    (ready_file / "occupied").touch()
    said = run(program, tmp_path / "data", ready_file, file_bytes_max=None)
    assert f"cannot write --ready-file {ready_file}: " in said
    assert "give one in another folder" in said
