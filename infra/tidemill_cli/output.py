"""Owns how results are shown: JSON for scripts, tables and sentences for people.

Names, records and errors are other people's text: whatever people read passes `visible`, so that it cannot
move a terminal's cursor or set its title.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import IO, Any, Final, Protocol, TextIO, runtime_checkable

from tidemill_local.console_log import visible

__all__ = [
    "Spelled",
    "UsageError",
    "open_console",
    "print_facts",
    "print_json",
    "print_table",
    "say",
    "visible",
    "without_metadata",
]

_PIPED_WIDTH: Final = 240


@runtime_checkable
class UsageError(Protocol):
    """A mistake on the command line, as Click raises it; Typer brings a Click of its own."""

    exit_code: int

    def show(self, file: IO[str]) -> None:
        """Write the usage and what is wrong."""


class Spelled:
    """A text stream whose reader sees control characters spelled out, ends of lines apart."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, spelled out."""
        self._stream.write("\n".join(map(visible, text.split("\n"))))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, spelled out."""
        for line in lines:
            self.write(line)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output; times as ISO 8601."""
    print(json.dumps(value, indent=2, default=_plain))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table, or the sentence for an empty one."""
    listed = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
    if not listed:
        print(empty)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        # The first column names the thing: it is what people copy.
        table.add_column(column, overflow="fold", no_wrap=position == 0)
    for row in listed:
        # As Text: what looks like Rich's markup in an error or a name is just that.
        table.add_row(*map(Text, row))
    open_console().print(table)


def open_console() -> Any:
    """Return a Rich console; without a terminal, lines are not folded at 80."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one per line, without absent values."""
    shown = [(name, value) for name, value in facts if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = json.dumps(value, default=_plain) if isinstance(value, dict | list) else value
        print(f"{name:<{width}}  {visible(str(text))}")


def say(sentence: str) -> None:
    """Print a sentence for people, beside the result: on standard error."""
    print("\n".join(map(visible, sentence.split("\n"))), file=sys.stderr)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)


def without_metadata(reply: dict[str, Any]) -> dict[str, Any]:
    """Return a boto3 reply without what boto3 adds."""
    return {name: value for name, value in reply.items() if name != "ResponseMetadata"}
