"""Decisions are found: from the index, and from the code that they explain."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs/decisions"
PAGES = {page.name[:4]: page for page in DECISIONS.glob("[0-9]*.md")}
ROW = re.compile(
    r"^\| \[(\d{4})\]\(([^)]+)\) \| (.+?) \| ((?:holds|superseded by \d{4}).*?) \| .+ \|$", re.MULTILINE
)
CITED = re.compile(r"\bdecisions?[/ ](\d{4})\b")


def sources() -> list[Path]:
    folders = ("poller", "broker", "functions", "infra", "tests/harness")
    return [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".pyi", ".rs") and "target" not in path.parts
    ]


def citations() -> dict[str, list[str]]:
    """Decision -> the source files that cite it."""
    found: dict[str, list[str]] = {}
    for path in sources():
        for number in CITED.findall(path.read_text()):
            found.setdefault(number, []).append(str(path.relative_to(ROOT)))
    return found


def test_the_index_has_one_row_for_each_page_with_its_title() -> None:
    rows = ROW.findall((DECISIONS / "README.md").read_text())
    titles = {number: page.read_text().partition("\n")[0] for number, page in PAGES.items()}

    assert [number for number, *_ in rows] == sorted(PAGES)
    assert {number: f"# {number}: {title}" for number, _, title, _ in rows} == titles
    assert {number: PAGES[number].name for number in PAGES} == {number: name for number, name, *_ in rows}


@pytest.mark.parametrize("number", sorted(PAGES))
def test_every_decision_is_cited_from_the_code_that_it_explains(number: str) -> None:
    assert number in citations(), f"cite docs/decisions/{number} in the module that it explains"


def test_every_cited_decision_exists() -> None:
    assert {number: files for number, files in citations().items() if number not in PAGES} == {}
