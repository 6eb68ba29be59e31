"""The live view of one mapping: what each partition does, why it waits, and the latest retry trees."""

import re
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tidemill_cli.cause import cause_first
from tidemill_cli.clients import Endpoint
from tidemill_cli.output import open_console, visible
from tidemill_poller.reporting.tracing.tree import render_tree

_REFRESH_S: Final = 0.5
# Process, invoke, commit: a delivery without trouble has no more.
_CLEAN_SPANS: Final = 3
_COLUMNS: Final = ("partition", "state", "committed", "end", "lag", "attempt", "blocked by", "for")
_RARE: Final = frozenset({"blocked by"})
# The bars in front of a line of a tree, and how they go on below it.
_BARS: Final = re.compile(r"(?:│  |   )*(?:[├└]─ )?")
_GO_ON: Final = str.maketrans({"├": "│", "└": " ", "─": " "})


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a mapping."""

    status: dict[str, Any]
    deliveries: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return the poller's own JSON, for scripts."""
        return {"status": self.status, "deliveries": self.deliveries}


def look(there: Endpoint, uuid: str, trees: int) -> Look:
    """Request the state and the latest deliveries, those with trouble if there are any."""
    route = f"/_tidemill/mappings/{quote(uuid, safe='')}"
    status = there.own("GET", f"{route}/status")
    deliveries = there.own("GET", f"{route}/deliveries") if trees else []
    troubled = [delivery for delivery in deliveries if len(delivery["spans"]) > _CLEAN_SPANS]
    return Look(status=status, deliveries=(troubled or deliveries)[:trees])


def watch_live(there: Endpoint, uuid: str, trees: int, *, function: str, once: bool) -> None:
    """Draw the mapping until Ctrl-C, or once."""
    console = open_console()
    if once or not console.is_terminal:
        console.print(drawing(look(there, uuid, trees), console.width, function))
        return
    first = drawing(look(there, uuid, trees), console.width, function)
    with Live(first, console=console, refresh_per_second=4) as live:
        while True:
            time.sleep(_REFRESH_S)
            live.update(drawing(look(there, uuid, trees), console.width, function))


def drawing(seen: Look, width: int, function: str = "") -> Group:
    """Return what the terminal shows of one look, at most `width` columns wide."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    now_ms = time.time() * 1000
    rows = [_cells(partition, now_ms) for partition in seen.status["partitions"]]
    # A column that no partition needs is left out: terminals are narrow.
    shown = [at for at, name in enumerate(_COLUMNS) if name not in _RARE or any(row[at] for row in rows)]
    for at in shown:
        table.add_column(_COLUMNS[at], overflow="fold", no_wrap=at == 0)
    for row in rows:
        table.add_row(*(Text(row[at]) for at in shown))
    parts: list[Any] = [_headline(seen.status), *map(_cut, _troubles(seen.status)), table]
    reasons = list(_reasons(seen.status["partitions"]))
    parts += map(_cut, reasons)
    if reasons and function:
        parts.append(_cut(f"The whole of an error: tidemill function logs {function}"))
    for tree in seen.deliveries:
        parts += [Text(""), *(Text(line) for line in _tree_lines(tree["spans"], width))]
    return Group(*parts)


def _cut(line: str) -> Text:
    """Return a line that the terminal's width cuts; its beginning says the most."""
    return Text(line, no_wrap=True, overflow="ellipsis")


def _headline(status: dict[str, Any]) -> Text:
    """Return the mapping's state, and the result of its last work."""
    result = visible(cause_first(status.get("result") or "No records processed"))
    return Text(f"{status.get('state')}: {result}", style="bold")


def _troubles(status: dict[str, Any]) -> Iterator[str]:
    """Yield the last notice, and a line with the reason for each poller in trouble."""
    if status.get("notice"):
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((status.get("notice_ms") or 0) / 1000))
        yield f"{at} {visible(status['notice'])}"
    for poller in status.get("pollers", []):
        if poller["state"] != "polling" or poller["reason"]:
            reason = f": {visible(cause_first(poller['reason']))}" if poller["reason"] else ""
            yield f"poller {poller['number']} {poller['state']}{reason}"


def _reasons(partitions: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line for each partition that waits, below the table: there it has the whole width."""
    for partition in partitions:
        if partition.get("reason"):
            name = f"{partition['topic']}-{partition['partition']}"
            yield visible(f"{name}: {cause_first(partition['reason'])}")


def _cells(partition: dict[str, Any], now_ms: float) -> list[str]:
    since_ms = partition.get("since_ms") or now_ms
    shown = (
        f"{partition['topic']}-{partition['partition']}",
        partition["state"],
        partition.get("committed"),
        partition.get("end"),
        partition.get("lag"),
        partition.get("attempt"),
        partition.get("blocked_by"),
        f"{max(0, now_ms - since_ms) / 1000:.0f} s",
    )
    return ["" if cell is None else visible(str(cell)) for cell in shown]


def tree_text(spans: list[dict[str, Any]]) -> str:
    """Return a delivery's tree with the cause of each error first and control characters spelled out."""
    plain = [{**span, "status_message": cause_first(span.get("status_message") or "")} for span in spans]
    return "\n".join(map(visible, render_tree(plain).split("\n")))


def _tree_lines(spans: list[dict[str, Any]], width: int) -> Iterator[str]:
    """Yield the lines of a tree; one that is too long goes on below itself, beside the tree's bars."""
    for line in tree_text(spans).split("\n"):
        bars = _BARS.match(line)
        below = (bars[0].translate(_GO_ON) if bars else "") + "  "
        yield from textwrap.wrap(line, width, subsequent_indent=below, break_on_hyphens=False) or [line]
