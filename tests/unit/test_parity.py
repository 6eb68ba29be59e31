"""Every test that the documentation names exists, and every refusal of what is not built is listed.

A claim is `file::name` below tests/; a document may shorten the file's beginning: "`C` is `integration/…`".
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
POLLER = sorted((ROOT / "poller/tidemill_poller").rglob("*.py"))
CLAIM = re.compile(r"`([^`\s]+)::(test_\w+)`")
SHORT = re.compile(r"`([A-Z])` is `([\w/.]+)`")
NOT_BUILT = re.compile(r'not_built\("([^"]+)"\)')


def claims(text: str) -> list[tuple[str, str]]:
    """(file, test) of every claim, the file by its full name below tests/."""
    shorts = dict(SHORT.findall(text))
    found = set()
    for file, name in CLAIM.findall(text):
        first, slash, rest = file.partition("/")
        found.add((shorts.get(first, first) + slash + rest, name))
    return sorted(found)


@cache
def functions_of(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def missing(text: str) -> list[str]:
    """The claims of a document for which there is no test."""
    return [
        f"{file}::{name}"
        for file, name in claims(text)
        if not (ROOT / "tests" / file).is_file() or name not in functions_of(ROOT / "tests" / file)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT / "docs")))
def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    assert missing(document.read_text()) == []


@pytest.mark.parametrize("document", ["parity.md", "functions.md"])
def test_every_claim_of_a_document_is_read(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    assert len(re.findall(r"::test_", text)) == len(CLAIM.findall(text))


@pytest.mark.parametrize("document", ["parity.md", "functions.md"])
def test_the_documents_of_what_is_as_on_aws_make_claims(document: str) -> None:
    assert len(claims((ROOT / "docs" / document).read_text())) > 5


@pytest.mark.parametrize(
    "claim",
    [
        "`unit/test_parity.py::test_nobody_wrote`",
        "`unit/poller/test_nowhere.py::test_a`",
        "Below, `A` is `unit/test_parity.py`: `A::test_nobody_wrote`",
        "Below, `I` is `unit`: `I/test_parity.py::test_nobody_wrote`",
        "`X::test_a`",
    ],
)
def test_a_claim_without_a_test_is_found(claim: str) -> None:
    assert len(missing(claim)) == 1


def test_what_is_rejected_as_not_built_is_listed() -> None:
    refused = [what for file in POLLER for what in NOT_BUILT.findall(file.read_text())]
    assert len(refused) > 5
    parity = (ROOT / "docs/parity.md").read_text()
    assert [what for what in refused if what not in parity] == []
