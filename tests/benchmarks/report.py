"""One row of a benchmark's table, and the table as text; the modules beside it measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure beside its peer's, both from one run; each pair is (lowest, highest) over the passes.

    `aim` is the aim in words. `aim_ratio` is ours/peer by the middles of the ranges: at least that, or at
    most where lower is better. `aim_value` is the same for an aim without a peer.
    """

    what: str
    unit: str
    ours: tuple[float, float]
    peer: tuple[float, float] | None = None
    peer_name: str = ""
    aim: str = ""
    aim_ratio: float | None = None
    aim_value: float | None = None
    higher_is_better: bool = True

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's, by the middles of the two ranges."""
        if self.peer is None or not any(self.peer):
            return None
        return sum(self.ours) / sum(self.peer)

    @property
    def verdict(self) -> str:
        """`holds`, `falls short`, or nothing where no aim is set."""
        for figure, aim in ((self.ratio, self.aim_ratio), (sum(self.ours) / 2, self.aim_value)):
            if figure is not None and aim is not None:
                return "holds" if (figure >= aim) == self.higher_is_better or figure == aim else "falls short"
        return ""


def _figure(value: float) -> str:
    if value == 0:
        return "0"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def _range(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return ""
    low, high = (_figure(value) for value in pair)
    return low if low == high else f"{low} to {high}"


HEADINGS = ("what", "unit", "Tidemill", "peer", "ratio", "aim", "")


def cells(row: Row) -> tuple[str, ...]:
    """The row as the table's cells, in the order of `HEADINGS`."""
    peer = f"{_range(row.peer)} ({row.peer_name})" if row.peer else ""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return (row.what, row.unit, _range(row.ours), peer, ratio, row.aim, row.verdict)


def markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
