"""The contract that all five programs keep: ready file, signals, umask, core dumps, exit status, mistakes."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.programs import SHELLS, Shell, free_port, started

pytestmark = pytest.mark.slow

USAGE_ERROR = 2
START_ERROR = 1


# What each program leaves behind when it is killed while it writes.
DRAFTS = {
    "tidemill_broker": (
        *("ready.json.{}.tmp", "data/scram.json.{}.tmp", "data/acls.json.{}.tmp", "data/cluster.json.{}.tmp"),
        *("data/producer_ids.json.{}.tmp", "data/log/topics/orders.json.{}.tmp"),
    ),
    "tidemill_poller": ("ready.json.tmp",),
    "tidemill_functions": (
        *("ready.json.tmp", "data/functions/f.json.tmp", "data/attached/f.json.tmp"),
        "data/layers/l/1.json.tmp",
    ),
    "tidemill_local.gateway": (".ready.json.{}",),
    "tidemill_local.aws": (".ready.json.{}",),
}


@contextmanager
def unusable_port(shell: Shell) -> Iterator[int]:
    """One that somebody has; for the gateway a descriptor that is no socket."""
    if shell.port_flag == "--socket-fd":
        yield 0
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


@pytest.fixture(autouse=True)
def core_dumps_on() -> Iterator[None]:
    """What is started inherits it: a program that does not turn them off would dump."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Shell:
    return SHELLS[request.param]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_says_that_it_is_ready_keeps_to_itself_and_ends_when_told(
    shell: Shell, tmp_path: Path, number: signal.Signals
) -> None:
    ready_file = tmp_path / "ready.json"
    with free_port(shell) as port, started(shell, tmp_path, port) as process:
        wait_until(lambda: ready_file.exists() or process.poll() is not None, what="the ready file")
        assert process.poll() is None, ended(process)
        ready: dict[str, Any] = json.loads(ready_file.read_text())
        assert ready["pid"] == process.pid
        socket.create_connection(("127.0.0.1", ready["port"]), timeout=5).close()
        assert ready_file.stat().st_mode & 0o077 == 0
        assert "Umask:\t0077" in Path(f"/proc/{process.pid}/status").read_text()
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        [core] = [line.split()[4] for line in limits if line.startswith("Max core file size")]
        assert core == "0"
        os.kill(process.pid, number)
        status, said = ended(process)
    assert status == 0, said
    assert "Traceback" not in said


def test_a_misspelt_setting_is_rejected_with_the_nearest_name(shell: Shell, tmp_path: Path) -> None:
    with (
        free_port(shell) as port,
        started(shell, tmp_path, port, *shell.misspelt, **shell.misspelt_variables) as process,
    ):
        status, said = ended(process)
    assert status == USAGE_ERROR, said
    assert shell.hint in said
    assert "Traceback" not in said
    assert not (tmp_path / "ready.json").exists()


def test_a_port_that_is_taken_ends_the_start_in_one_sentence(shell: Shell, tmp_path: Path) -> None:
    with unusable_port(shell) as port, started(shell, tmp_path, port) as process:
        status, said = ended(process)
    assert status == START_ERROR, said
    assert shell.port_flag in said
    assert "Traceback" not in said
    assert not (tmp_path / "ready.json").exists()


def test_the_ready_files_folder_is_made(shell: Shell, tmp_path: Path) -> None:
    ready_file = tmp_path / "new" / "folder" / "ready.json"
    with free_port(shell) as port, started(shell, tmp_path, port, "--ready-file", str(ready_file)) as process:
        wait_until(lambda: ready_file.exists() or process.poll() is not None, what="the ready file")
        assert process.poll() is None, ended(process)


def test_a_ready_file_that_cannot_be_written_ends_the_start_in_one_sentence(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ready_file = tmp_path / "file" / "ready.json"
    with free_port(shell) as port, started(shell, tmp_path, port, "--ready-file", str(ready_file)) as process:
        status, said = ended(process)
    assert status == START_ERROR, said
    assert f"cannot write --ready-file {ready_file}: " in said
    assert "Traceback" not in said


def test_the_drafts_of_killed_writers_are_removed_at_the_start(shell: Shell, tmp_path: Path) -> None:
    """Each crash in the middle of a write would leave one more for ever, with what it holds."""
    gone, running = 2**22 + 1, os.getpid()  # one is no process, for it is beyond what the kernel gives out
    abandoned = [tmp_path / name.format(gone) for name in DRAFTS[shell.module]]
    kept = [tmp_path / name.format(running) for name in DRAFTS[shell.module] if "{}" in name]
    kept.append(tmp_path / "somebodys.json.tmp")
    for draft in (*abandoned, *kept):
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text("secret")
    ready_file = tmp_path / "ready.json"
    with free_port(shell) as port, started(shell, tmp_path, port) as process:
        wait_until(lambda: ready_file.exists() or process.poll() is not None, what="the ready file")
        assert process.poll() is None, ended(process)
    assert not [draft for draft in abandoned if draft.exists()]
    assert all(draft.exists() for draft in kept)
