"""Which processes are an environment's, and what they hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.harness.processes import wait_until
from tidemill_functions.runtime.census import Census, Root, processes, proportional_bytes

STARTS = (
    "import subprocess; a = subprocess.Popen(['sleep', '600']);"
    " b = subprocess.Popen(['sleep', '600'], start_new_session=True);"
    " print(a.pid, b.pid, flush=True); a.wait()"
)


@pytest.fixture
def family() -> Iterator[tuple[int, list[int]]]:
    """A process, and the two that it started: one in its session and one in another."""
    parent = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", STARTS], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    children = [int(word) for word in parent.stdout.readline().split()]
    yield parent.pid, children
    for pid in children:
        os.kill(pid, 9)
    parent.communicate()


def test_a_group_is_what_descends_from_its_root_in_whatever_session(family: tuple[int, list[int]]) -> None:
    pid, children = family
    root = Root(pid, None, 1 << 40)
    group = Census().look([root])[root]
    assert sorted(group.pids) == sorted([pid, *children])
    assert group.others_bytes == sum(processes()[child].resident_bytes for child in children)


def test_a_process_that_starts_later_is_found_by_the_next_look() -> None:
    census, root = Census(), Root(os.getpid(), None, 1 << 40)
    census.look([root])
    with subprocess.Popen(["sleep", "600"]) as later:
        try:
            assert later.pid in census.look([root])[root].pids
        finally:
            later.kill()


def test_shared_memory_counts_once_above_the_limit(family: tuple[int, list[int]]) -> None:
    pid, children = family
    root = Root(pid, None, 0)
    # The three share the library's pages.
    assert Census().look([root])[root].others_bytes < sum(processes()[c].resident_bytes for c in children)
    assert proportional_bytes([pid]) > 0


def test_a_process_that_has_ended_belongs_to_nobody() -> None:
    ended = subprocess.Popen(["true"])
    wait_until(lambda: ended.pid not in processes())
    ended.wait()
    root = Root(ended.pid, None, 1 << 40)
    assert Census().look([root])[root].pids == []
