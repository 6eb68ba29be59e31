"""One row of a benchmark's table, and the table; the modules beside it fill it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure beside its peer's, both from one run; each pair is (lowest, highest) over the passes."""

    what: str
    unit: str
    ours: tuple[float, float]
    peer: tuple[float, float] | None
    peer_name: str
    aim: str
    higher_is_better: bool = True
