"""The table of Lambda's operations in docs/functions.md; `make docs` writes it."""

from __future__ import annotations

from pathlib import Path

from tidemill_functions.api.operations import MAPPINGS, NOT_BUILT, SERVED

FILE = Path(__file__).resolve().parents[2] / "docs" / "functions.md"
BEGIN = "<!-- operations: written by make docs -->"
END = "<!-- end of operations -->"


def operations() -> str:
    """One row for each way in which operations are answered."""
    built = [name for room, names in SERVED.items() if room != "absent" for name in names]
    rows = (
        ("built", built),
        ("built, by the poller", MAPPINGS),
        ("answered as none: an empty list, or AWS's not-found", SERVED["absent"]),
        ("501 with its name", NOT_BUILT),
    )
    listed = [f"| {how} | {', '.join(sorted(names))} |" for how, names in rows]
    return "\n".join(["| answer | operations |", "|---|---|", *listed])


def with_tables(text: str) -> str:
    """The page with the present table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert ended, f"docs/functions.md needs {BEGIN} and {END}, in this order"
    return f"{before}{BEGIN}\n{operations()}\n{END}{after}"
