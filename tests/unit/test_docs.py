"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from docs.tables.operations import FILE, with_tables
from tidemill_poller.reporting.status import PartitionState

DOCS = FILE.parent
PAGES = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"])


def test_every_setting_and_metric_stands_in_operations_as_the_code_has_it() -> None:
    assert FILE.read_text() == with_tables(FILE.read_text()), "run `make docs`"


def test_every_state_of_a_partition_is_explained() -> None:
    assert all(f"| `{state}` |" in FILE.read_text() for state in get_args(PartitionState))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_every_link_between_documents_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("program", ["poller", "broker", "functions", "infra"])
def test_every_module_stands_in_the_file_map(program: str) -> None:
    """A room that was renamed, added or taken away is noticed here."""
    file_map = (DOCS / "design.md").read_text().partition("## The file map")[2]
    own = re.search(rf"^{program}/ .*?(?=^\S)", file_map, re.DOTALL | re.MULTILINE)
    assert own is not None
    folder = DOCS.parent / program
    modules = {path.stem for path in folder.rglob("*.py") if "samples" not in path.parts} - {"__init__"}
    packages = {
        f"{path.parent.name}/" for path in folder.glob("*/*/**/__init__.py") if "samples" not in path.parts
    }

    assert sorted((modules | packages) - set(re.findall(r"\w+/?", own.group()))) == []


@pytest.mark.parametrize("page", ["contributing.md", "decisions/README.md"])
def test_every_path_that_a_page_for_contributors_names_exists(page: str) -> None:
    named = re.findall(r"`((?:poller|broker|functions|infra|tests|docs)/[\w./-]+)", (DOCS / page).read_text())

    # A number alone stands for its page, as in the code.
    assert [name for name in named if not [*DOCS.parent.glob(name), *DOCS.parent.glob(f"{name}-*.md")]] == []


def test_every_target_that_a_newcomer_is_told_to_make_exists() -> None:
    makefile = (DOCS.parent / "Makefile").read_text()
    told = set(re.findall(r"`make (\w+)", (DOCS / "contributing.md").read_text()))

    assert told
    assert [target for target in told if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
