"""The contract that all five programs keep: ready file, signals, umask, core dumps, exit status, mistakes."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.up import clean_environ

pytestmark = pytest.mark.slow

USAGE_ERROR = 2
START_ERROR = 1


@dataclass(frozen=True, kw_only=True)
class Shell:
    """How one program is started, how a setting of it is misspelt, and what it then says."""

    module: str
    arguments: tuple[str, ...]
    port_flag: str = "--port"
    misspelt: tuple[str, ...] = ()
    misspelt_variables: Mapping[str, str] = field(default_factory=dict)
    hint: str
    has_data_dir: bool = True


UPSTREAMS = tuple(
    part for name in ("functions", "poller", "broker", "aws") for part in (f"--{name}", "http://127.0.0.1:1")
)
SHELLS = {
    "broker": Shell(
        module="tidemill_broker",
        arguments=("--control-port", "0"),
        misspelt=("--set", "num.partition=6"),
        hint="did you mean num.partitions",
    ),
    "poller": Shell(
        module="tidemill_poller",
        arguments=(),
        misspelt_variables={"TIDEMILL_POLLER_DRAIN_TIMEOUTS_S": "1"},
        hint="did you mean TIDEMILL_POLLER_DRAIN_TIMEOUT_S?",
    ),
    "functions": Shell(
        module="tidemill_functions",
        arguments=(),
        misspelt_variables={"TIDEMILL_FUNCTIONS_DRAIN_TIMEOUTS_S": "1"},
        hint="did you mean TIDEMILL_FUNCTIONS_DRAIN_TIMEOUT_S?",
    ),
    "gateway": Shell(
        module="tidemill_local.gateway",
        arguments=UPSTREAMS,
        port_flag="--socket-fd",
        misspelt=("--brokers", "http://127.0.0.1:1"),
        hint="did you mean --broker?",
        has_data_dir=False,
    ),
    "aws": Shell(
        module="tidemill_local.aws",
        arguments=("--account-id", "123456789012"),
        misspelt=("--prot", "1"),
        hint="did you mean --port?",
        has_data_dir=False,
    ),
}


@contextmanager
def started(
    shell: Shell, folder: Path, port: int, *more: str, **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """The program, killed at the end if it still runs."""
    process = _start(shell, folder, port, *more, **environ)
    try:
        yield process
    finally:
        process.kill()


def _start(shell: Shell, folder: Path, port: int, *more: str, **environ: str) -> subprocess.Popen[str]:
    data_dir = ("--data-dir", str(folder / "data")) if shell.has_data_dir else ()
    ready_file = ("--ready-file", str(folder / "ready.json"))
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", shell.module, shell.port_flag, str(port)),
            *(*shell.arguments, *data_dir, *ready_file, *more),
        ],
        env=clean_environ(**environ),
        # What a shell's user often has: nothing may depend on it.
        umask=0o022,
        pass_fds=(port,) if shell.port_flag == "--socket-fd" and port > 2 else (),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def free_port(shell: Shell) -> Iterator[int]:
    """Any free one: 0, or for the gateway an open listening socket, which it is given."""
    if shell.port_flag == "--port":
        yield 0
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.fileno()


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
