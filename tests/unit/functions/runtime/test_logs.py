"""A function's log keeps its end, within its bounds, and tells its followers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tidemill_functions.runtime.logs import FunctionLog


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_tail_is_the_last_lines_of_both_files(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path / "f.log", file_bytes_max=20)
    for number in range(10):
        log.write(b"line %d\n" % number)
    assert log.tail(3) == b"line 7\nline 8\nline 9\n"
    assert log.tail(0) == b""
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40
    log.close()


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    first = FunctionLog(tmp_path / "f.log", file_bytes_max=1000)
    first.write(b"before\n")
    first.close()
    first.write(b"lost: the log is closed\n")
    again = FunctionLog(tmp_path / "f.log", file_bytes_max=1000)
    again.write(b"after\n")
    assert again.tail(10) == b"before\nafter\n"
    again.close()


async def test_followers_get_what_comes_over_a_roll_and_until_it_is_removed(tmp_path: Path) -> None:
    log = FunctionLog(tmp_path / "f.log", file_bytes_max=10)
    log.write(b"old\n")
    heard: list[list[bytes]] = [[], []]

    async def follow(mine: list[bytes]) -> None:
        async for text in log.follow():
            mine.append(text)  # noqa: PERF401 - each piece must be seen as it comes

    async def has(text: bytes) -> None:
        while not all(text in b"".join(mine) for mine in heard):  # noqa: ASYNC110 - turns are the clock here
            await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for mine in heard:
            tasks.create_task(follow(mine))
        await asyncio.sleep(0)
        for text in (b"one\n", b"two two\n", b"three\n"):
            log.write(text)
            await has(text)
        log.remove()
    assert [b"".join(mine) for mine in heard] == [b"one\ntwo two\nthree\n"] * 2
    assert names_in(tmp_path) == []
