"""`make bench`: every benchmark beside its peer, printed, and written to docs/performance.md.

Measured figures go between two markers of that page; the prose around them is written by hand.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.report import HEADINGS, Row, cells, markdown
from tidemill_broker import _core

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: {} -->", "<!-- end: {} -->"
AREAS = ("broker", "security", "poller", "functions")


def machine() -> str:
    """What the figures were taken on; never a host's name."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory_gib:.0f} GiB, Linux, Python {platform.python_version()}"
    )


def show(area: str, rows: list[Row]) -> None:
    """Print the area's table."""
    table = Table(*HEADINGS, title=f"{area} on {machine()}")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=200).print(table)


def write(area: str, rows: list[Row]) -> None:
    """Put the area's table between its markers in docs/performance.md."""
    begin, end = BEGIN.format(area), END.format(area)
    page = PAGE.read_text()
    head, rest = page.split(begin, 1)
    _, tail = rest.split(end, 1)
    taken = f"Measured on {datetime.now(UTC):%Y-%m-%d} with `make bench`: {machine()}."
    PAGE.write_text(f"{head}{begin}\n{taken}\n\n{markdown(rows)}\n{end}{tail}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the areas asked for (all by default)."""
    arguments = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    # argparse checks an empty list of areas against the choices too.
    arguments.add_argument("areas", nargs="*", choices=[*AREAS, []], help="all of them by default")
    arguments.add_argument("--quick", action="store_true", help="a smoke run: seconds, nothing is written")
    options = arguments.parse_args(argv)
    if _core.BUILD_PROFILE != "release":
        sys.exit("The native core is a debug build: run `make install` for the release build, then measure.")
    for area in options.areas or AREAS:
        rows: list[Row] = importlib.import_module(f"tests.benchmarks.{area}").run(quick=options.quick)
        show(area, rows)
        if not options.quick:
            write(area, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
