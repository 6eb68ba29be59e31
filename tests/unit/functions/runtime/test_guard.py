"""What the guard is told of dies with the server, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tidemill_functions.runtime.guard import Guard


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three processes, each the leader of its group."""
    started = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(3)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_the_end_of_the_pipe_ends_the_groups_that_are_listed(
    sleepers: list[subprocess.Popen[bytes]],
) -> None:
    listed, forgotten, unknown = sleepers
    guard = Guard()
    guard.watch(listed.pid)
    guard.watch(forgotten.pid)
    guard.forget(forgotten.pid)
    guard.close()
    assert listed.wait(timeout=30) == -signal.SIGKILL
    assert forgotten.poll() is None
    assert unknown.poll() is None


def test_a_guard_that_was_killed_is_replaced_and_told_everything(
    sleepers: list[subprocess.Popen[bytes]],
) -> None:
    first, second, _ = sleepers
    guard = Guard()
    guard.watch(first.pid)
    assert guard._process is not None
    os.kill(guard._process.pid, signal.SIGKILL)
    guard._process.wait()
    guard.watch(second.pid)
    guard.close()
    assert {first.wait(timeout=30), second.wait(timeout=30)} == {-signal.SIGKILL}
