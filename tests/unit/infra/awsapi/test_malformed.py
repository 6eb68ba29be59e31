"""A flood of requests that fail is a few lines, with the number of those that were not told."""

from __future__ import annotations

import logging

from tidemill_awsapi.malformed import LINES_MAX, WINDOW_S, LimitedLines


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def line(text: str = "request failed path=%s", *args: object) -> logging.LogRecord:
    return logging.LogRecord("aiohttp.server", logging.ERROR, __file__, 1, text, args or ("/%s",), None)


def test_a_flood_is_a_few_lines_in_each_window() -> None:
    clock = Clock()
    limited = LimitedLines(clock)
    assert sum(limited.filter(line()) for _ in range(1_000)) == LINES_MAX
    clock.now_s += WINDOW_S
    assert sum(limited.filter(line()) for _ in range(1_000)) == LINES_MAX


def test_the_next_line_says_how_many_were_not_told_and_keeps_its_words() -> None:
    clock = Clock()
    limited = LimitedLines(clock)
    for _ in range(LINES_MAX + 7):
        limited.filter(line())
    clock.now_s += WINDOW_S
    told = line("request failed path=%s", "/100%s")
    assert limited.filter(told)
    assert told.getMessage() == "request failed path=/100%s untold=7"
    assert limited.filter(untroubled := line())
    assert untroubled.getMessage() == "request failed path=/%s"
