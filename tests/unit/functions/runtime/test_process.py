"""One process: it gets three descriptors, and its end is told once, in Lambda's words."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.processes import is_alive, wait_until
from tidemill_functions.runtime.guard import Guard
from tidemill_functions.runtime.process import HandlerProcess, exit_reason


class Ends:
    """Keeps the codes that it hears."""

    def __init__(self) -> None:
        self.codes: asyncio.Queue[int] = asyncio.Queue()

    def exited(self, code: int) -> None:
        self.codes.put_nowait(code)


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    made = Guard()
    yield made
    made.close()


async def run(guard: Guard, tmp_path: Path, program: str) -> tuple[int, str]:
    ends, output = Ends(), tmp_path / "output"
    process = HandlerProcess(ends, guard)
    with output.open("wb") as file:
        command = (sys.executable, "-I", "-S", "-c", program)
        await process.start(command, folder=tmp_path, variables={}, output=file.fileno())
        code = await asyncio.wait_for(ends.codes.get(), 30)
    process.close()
    assert ends.codes.empty()
    return code, output.read_text()


async def test_an_exit_status_and_all_output_are_kept(guard: Guard, tmp_path: Path) -> None:
    assert await run(guard, tmp_path, "import sys; print('hello'); sys.exit(7)") == (7, "hello\n")


async def test_what_a_process_started_ends_with_it(guard: Guard, tmp_path: Path) -> None:
    program = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    _, child = await run(guard, tmp_path, program)
    wait_until(lambda: not is_alive(int(child)))


async def test_a_process_has_three_descriptors_whatever_the_server_was_given(
    guard: Guard, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - the standard library's form
    program = (
        "import os\nfor fd in range(3, 256):\n    try: os.fstat(fd); print(fd)\n    except OSError: pass"
    )
    assert await run(guard, tmp_path, program) == (0, "")
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "Runtime exited without providing a reason"),
        (3, "Runtime exited with error: exit status 3"),
        (-9, "Runtime exited with error: signal: killed"),
        (-15, "Runtime exited with error: signal: terminated"),
        (-signal.SIGRTMIN - 1, "Runtime exited with error: signal: real-time signal 1"),
    ],
)
def test_ends_are_told_in_lambdas_words(code: int, text: str) -> None:
    assert exit_reason(code) == text


async def test_a_process_may_open_as_many_files_as_on_lambda(guard: Guard, tmp_path: Path) -> None:
    """Not as many as the server, which raises its own limit for its clients' connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    program = (
        "import resource, time\n"  # 7 is RLIMIT_NOFILE
        "end_s = time.monotonic() + 10\n"
        "while (limit := resource.getrlimit(7)[0]) > 1024 and time.monotonic() < end_s:\n"
        "    pass\n"
        "print(limit)"
    )
    assert await run(guard, tmp_path, program) == (0, "1024\n")
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
