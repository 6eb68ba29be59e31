"""The five programs, each started alone as a process: how, and how a setting of it is misspelt."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.up import clean_environ


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
