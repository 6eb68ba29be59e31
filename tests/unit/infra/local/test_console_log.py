"""The one log of `up` and the command line's tables, when a part of them comes from others."""

from __future__ import annotations

import io

import pytest

from tidemill_cli.output import print_table
from tidemill_local.console_log import ConsoleLog


def test_a_terminal_is_not_controlled_by_what_is_logged() -> None:
    stream = io.StringIO()
    ConsoleLog(stream).line("broker", "client=\x1b]0;title\x07\x9b2J\r\u202e fine\t☃")
    assert stream.getvalue() == "broker    │ client=\\x1b]0;title\\x07\\x9b2J\\x0d\\u202e fine\t☃\n"


def test_a_table_shows_what_looks_like_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich would raise on the first and swallow the second."""
    print_table(("uuid", "last result"), [("[/b]", "[red]failed")], empty="none")
    assert "[/b]" in (out := capsys.readouterr().out)
    assert "[red]failed" in out
