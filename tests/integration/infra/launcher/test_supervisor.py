"""One program under supervision: the embedded AWS, a real process, killed and started again."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tidemill_local.programs import Command
from tidemill_local.supervisor import Supervisor


@dataclass
class Lines:
    """A log that a test can read."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def line(self, program: str, text: str) -> None:
        self.lines.append((program, text))


@dataclass
class Life:
    """One supervised program: what it said when ready, and its log."""

    supervisor: Supervisor
    facts: list[Mapping[str, Any]]
    log: Lines


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Life]]:
    lives: list[Life] = []
    async with asyncio.TaskGroup() as group:

        def begin(*arguments: str) -> Life:
            facts: list[Mapping[str, Any]] = []
            log = Lines()
            ready_file = tmp_path / "run" / "aws.json"

            def command() -> Command:
                port = str(facts[-1]["port"]) if facts else "0"
                usual = ["--account-id", "123456789012", "--ready-file", str(ready_file), "--port", port]
                return Command(arguments=["aws", *usual, *arguments], environ=dict(os.environ))

            supervisor = Supervisor(
                "aws", command=command, ready_file=ready_file, on_ready=facts.append, log=log
            )
            group.create_task(supervisor.run())
            lives.append(Life(supervisor, facts, log))
            return lives[-1]

        yield begin
        for life in lives:
            await life.supervisor.stop(5)


async def _until(holds: Callable[[], bool], deadline_s: float = 30.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_a_program_that_is_killed_comes_back_on_its_port(start: Callable[..., Life]) -> None:
    """Kill -9 is followed by a line that says so, a new process, and the same port."""
    life = start()
    assert await life.supervisor.ready() is None
    os.kill(life.facts[0]["pid"], signal.SIGKILL)
    await _until(lambda: len(life.facts) == 2)
    assert ("tidemill", "aws was killed by SIGKILL; starting it again in 0.25 s") in life.log.lines
    assert life.facts[0]["port"] == life.facts[1]["port"]
    assert life.facts[0]["pid"] != life.facts[1]["pid"]


async def test_a_first_start_that_fails_is_told_and_not_repeated(start: Callable[..., Life]) -> None:
    """A program that cannot start says why in the log, and is not tried again for ever."""
    life = start("--no-such-flag")
    assert await life.supervisor.ready() == (
        "aws ended with status 2 before it was ready; its log above says why."
    )
    assert any("--no-such-flag" in text for program, text in life.log.lines if program == "aws")


async def test_a_stop_while_starting_leaves_nothing(start: Callable[..., Life]) -> None:
    life = start()
    await life.supervisor.stop(5)
    assert await life.supervisor.ready() == "aws was stopped before it was ready."


async def test_a_stop_ends_the_process(start: Callable[..., Life]) -> None:
    life = start()
    await life.supervisor.ready()
    await life.supervisor.stop(5)
    await _until(lambda: not _alive(life.facts[0]["pid"]))
