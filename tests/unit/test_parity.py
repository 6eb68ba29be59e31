"""docs/parity.md names tests that exist, and every refusal of what is not built."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARITY = (ROOT / "docs/parity.md").read_text()
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
SHORT = {"C/": "integration/poller/control_api/"}


def named_tests() -> list[tuple[str, str]]:
    found = []
    for file, name in NAMED.findall(PARITY):
        for short, long in SHORT.items():
            if file.startswith(short):
                file = long + file.removeprefix(short)  # noqa: PLW2901  # the same file by its full name
        found.append((file, name))
    return sorted(set(found))


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_a_named_test_is_there(file: str, name: str) -> None:
    assert name in functions_of(ROOT / "tests" / file)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "poller/tidemill_poller/mapping").glob("*.py")), ids=lambda file: file.stem
)
def test_what_is_refused_as_not_built_is_listed(file: Path) -> None:
    refused = re.findall(r'not_built\("([^"]+)"\)', file.read_text())
    assert [what for what in refused if what not in PARITY] == []
