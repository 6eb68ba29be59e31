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


def test_a_misspelt_setting_is_refused_with_the_nearest_name(shell: Shell, tmp_path: Path) -> None:
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
