"""The tables of settings and metrics in docs/operations.md; `make docs` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings

import tidemill_broker.settings
import tidemill_functions.settings
import tidemill_poller.settings
from tidemill_poller.reporting.metrics import COUNTERS, GAUGES

FILE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def _default(value: Any) -> str:
    return "" if value in (None, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def environment_settings(settings: type[BaseSettings], prefix: str) -> str:
    """One row for each setting that the environment may set."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        if field.description is None:  # host, port, data_dir: flags, told in the text
            continue
        alias = field.validation_alias
        spelled = f"{prefix}{name.upper()}"
        if alias is not None:
            spelled = alias if isinstance(alias, str) else " / ".join(map(str, getattr(alias, "choices", ())))
        default = "CPU count, at least 2" if name == "max_cold_starts" else _default(field.default)
        rows.append(f"| `{spelled}` | {default} | {field.description} |")
    return "\n".join(rows)


def broker_settings() -> str:
    """One row for each of Kafka's names that `--set` takes."""
    rows = ["| name | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{row.name}` | {_default(row.default)} | {row.doc} |"
        for row in sorted(tidemill_broker.settings.KAFKA_SETTINGS.values(), key=lambda row: row.name)
    ]
    return "\n".join(rows)


def metrics() -> str:
    """One row for each metric of the poller."""
    rows = ["| metric | kind | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | counter | {meaning} |" for name, meaning in COUNTERS.items()]
    rows += [f"| `{name}` | gauge | {meaning} |" for name, meaning in GAUGES.items()]
    return "\n".join(rows)


TABLES = {
    "poller settings": lambda: environment_settings(tidemill_poller.settings.Settings, "TIDEMILL_POLLER_"),
    "functions settings": lambda: environment_settings(
        tidemill_functions.settings.Settings, "TIDEMILL_FUNCTIONS_"
    ),
    "broker settings": broker_settings,
    "metrics": metrics,
}


def with_tables(text: str) -> str:
    """The page with the present tables between their marks."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        assert ended, f"docs/operations.md needs {begin} and {end}, in this order"
        text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text
