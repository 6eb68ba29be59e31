"""What docs/security.md claims has tests: every test that it names exists, and every claim names one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/security.md").read_text()
FILE = re.compile(r"`((?:tests|broker/rust)/[\w./]+|test_\w+\.py)`")
NAME = re.compile(r"`(test_\w+)`")
SAME = ("the same",)


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each `##` section, code blocks left out."""
    found: dict[str, list[str]] = {}
    title, is_code = "", False
    for line in text.splitlines():
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code and line.startswith("## "):
            title = line[3:]
        elif not is_code and title:
            found.setdefault(title, []).append(line)
    return found


def files(named: str) -> list[Path]:
    """The files that a document's name stands for; a name without a folder is that of any test."""
    if "/" not in named:
        return sorted((ROOT / "tests").rglob(named))
    path = ROOT / named
    return [path] if path.is_file() else sorted(path.rglob("*.py")) if path.is_dir() else []


@cache
def functions_of(file: Path) -> frozenset[str]:
    if file.suffix != ".py":
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def missing(line: str) -> list[str]:
    """The files and tests that a line names and nobody wrote."""
    named = {name: files(name) for name in FILE.findall(line)}
    known = {test for found in named.values() for file in found for test in functions_of(file)}
    return [name for name, found in named.items() if not found] + [
        name for name in NAME.findall(line) if name not in known
    ]


def rows(section: str) -> list[str]:
    """The rows of the tables whose last column says what shows it."""
    lines = sections(TEXT)[section]
    return [line for line in lines if line.startswith("|") and not re.match(r"\|( what | bound |---)", line)]


def units(text: str) -> list[str]:
    """The rows of tables, and the paragraphs."""
    paragraphs = text.split("\n\n")
    return [unit for one in paragraphs for unit in (one.splitlines() if one.startswith("|") else [one])]


@pytest.mark.parametrize("unit", [unit for unit in units(TEXT) if FILE.search(unit)])
def test_every_test_that_the_page_names_is_there(unit: str) -> None:
    assert missing(unit) == []


@pytest.mark.parametrize("row", rows("What holds"))
def test_every_row_of_what_holds_names_what_shows_it(row: str) -> None:
    last = row.rstrip(" |").rpartition("| ")[2]
    assert FILE.search(last) or last.startswith(SAME), f"this claim names no test: {row}"


@pytest.mark.parametrize("section", sections(TEXT))
def test_every_section_ends_with_the_names_of_its_tests(section: str) -> None:
    paragraphs = "\n".join(sections(TEXT)[section]).strip().split("\n\n")
    last = paragraphs[-1]
    assert FILE.search(last), f"the section {section} ends with no test: {last}"


@pytest.mark.parametrize(
    "line", ["`tests/unit/test_nothing.py`", "`test_nothing_at_all.py`", "`tests/nowhere`"]
)
def test_a_test_that_nobody_wrote_is_found(line: str) -> None:
    assert len(missing(line)) == 1
    assert missing("`tests/unit/test_security.py` (`test_nobody_wrote`)") == ["test_nobody_wrote"]
