"""The live view of one mapping: what each partition does, why it waits, and the latest retry trees."""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tidemill_cli.clients import Endpoint
from tidemill_cli.output import open_console
from tidemill_poller.reporting.tracing.tree import render_tree

_REFRESH_S = 0.5
# Process, invoke, commit: a delivery without trouble has no more.
_CLEAN_SPANS = 3
_COLUMNS = ("partition", "state", "committed", "end", "lag", "attempt", "blocked by", "for", "reason")
_RARE = frozenset({"blocked by", "reason"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a mapping."""

    status: dict[str, Any]
    deliveries: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """For scripts: the poller's own JSON."""
        return {"status": self.status, "deliveries": self.deliveries}


def look(there: Endpoint, uuid: str, trees: int) -> Look:
    """Ask the poller for the state, and for the latest deliveries, those with trouble if there are any."""
    route = f"/_tidemill/mappings/{quote(uuid, safe='')}"
    status = there.own("GET", f"{route}/status")
    deliveries = there.own("GET", f"{route}/deliveries") if trees else []
    troubled = [delivery for delivery in deliveries if len(delivery["spans"]) > _CLEAN_SPANS]
    return Look(status=status, deliveries=(troubled or deliveries)[:trees])


def watch_live(there: Endpoint, uuid: str, trees: int, *, once: bool) -> None:
    """Draw the mapping until Ctrl-C, or once."""
    console = open_console()
    if once or not console.is_terminal:
        console.print(_drawing(look(there, uuid, trees)))
        return
    with Live(_drawing(look(there, uuid, trees)), console=console, refresh_per_second=4) as live:
        while True:
            time.sleep(_REFRESH_S)
            live.update(_drawing(look(there, uuid, trees)))


def _drawing(seen: Look) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold")
    now_ms = time.time() * 1000
    rows = [_cells(partition, now_ms) for partition in seen.status["partitions"]]
    # What no partition has needs no room: terminals are narrow.
    shown = [at for at, name in enumerate(_COLUMNS) if name not in _RARE or any(row[at] for row in rows)]
    for at in shown:
        table.add_column(_COLUMNS[at], overflow="fold", no_wrap=at == 0)
    for row in rows:
        table.add_row(*(Text(row[at]) for at in shown))
    parts: list[Any] = [_headline(seen.status), *map(Text, _troubles(seen.status)), table]
    parts += [
        Text("\n" + render_tree(tree["spans"]), no_wrap=True, overflow="ignore") for tree in seen.deliveries
    ]
    return Group(*parts)


def _headline(status: dict[str, Any]) -> Text:
    """The mapping's state, and what it says of its last work."""
    return Text(f"{status.get('state')}: {status.get('result') or 'No records processed'}", style="bold")


def _troubles(status: dict[str, Any]) -> list[str]:
    """One line a poller that is not polling, or not well, with the reason as its log has it."""
    return [
        f"poller {poller['number']} {poller['state']}" + (f": {poller['reason']}" if poller["reason"] else "")
        for poller in status.get("pollers", [])
        if poller["state"] != "polling" or poller["reason"]
    ]


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
        partition.get("reason"),
    )
    return ["" if cell is None else str(cell) for cell in shown]
