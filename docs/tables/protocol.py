"""The table of APIs in docs/protocol.md; `make docs` writes it."""

from __future__ import annotations

from pathlib import Path

from tidemill_broker.apis import APIS

FILE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
BEGIN = "<!-- matrix: written by make docs -->"
END = "<!-- end of matrix -->"


def matrix() -> str:
    rows = ["| Key | API | Answered | Advertised | Handler |", "|---:|---|---|---|---|"]
    for api in APIS.values():
        low = api.min_version if api.advertised_min_version is None else api.advertised_min_version
        answered, advertised = span(api.min_version, api.max_version), span(low, api.max_version)
        module = api.handle.__module__.replace(".", "/") + ".py"
        told = "" if answered == advertised else advertised
        rows.append(f"| {api.key} | {api.name} | {answered} | {told} | `{module}` |")
    return "\n".join(rows)


def span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def with_tables(text: str) -> str:
    """The page with the present table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{matrix()}\n{END}{after}"
