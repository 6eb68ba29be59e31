"""No module imports in a circle: what one file needs of another is never needed back, not even by a type."""

from __future__ import annotations

import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]


def imports(*packages: str) -> dict[str, set[str]]:
    """Each module's imports within the packages, those below `if TYPE_CHECKING` included."""
    graph = grimp.build_graph(packages[0], *packages[1:], cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, in order; none where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_package_of_the_tree_has_an_import_circle() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert circle(imports(*settings["tool"]["importlinter"]["root_packages"])) == []


@pytest.fixture
def circular(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package whose module needs a type of the package that it lies in."""
    folder = tmp_path / "circular"
    folder.mkdir()
    (folder / "__init__.py").write_text("from circular.part import Part\n\nclass Whole: ...\n")
    (folder / "part.py").write_text(
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from circular import Whole\n\n"
        "class Part: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "circular"


def test_a_circle_that_only_a_type_closes_is_found(circular: str) -> None:
    assert circle(imports(circular)) in (
        ["circular", "circular.part", "circular"],
        ["circular.part", "circular", "circular.part"],
    )
