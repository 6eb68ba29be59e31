"""What docs/conventions.md says of code, as far as a machine can tell."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS: Final = ("poller", "broker", "functions", "infra")
FILES = {
    str(path.relative_to(ROOT)): path
    for folder in (*PROGRAMS, "tests", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not {"target", "build"} & set(path.parts)
}
PRODUCT = [name for name in FILES if name.split("/")[0] in PROGRAMS]
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
REASONED = re.compile(
    r"# noqa: [A-Z0-9]+(?:, ?[A-Z0-9]+)* - \S|# type: ignore\[[a-z-]+(?:, ?[a-z-]+)*\]  # \S"
)
SUPPRESSION = re.compile(r"# noqa|# type: ignore")
# The words of the table "not" in docs/conventions.md that mean nothing else.
BANNED = re.compile(
    r"(?<![a-z])(?:strangers?|entrance|judge[sd]?|keeper|surroundings|intake|heed(?:s|ed)?|mend(?:s|ed)?"
    r"|handed[-_ ]out)(?![a-z])",
    re.IGNORECASE,
)

AUDIT_LOG = "broker/tidemill_broker/auth/audit.py"
# These speak of the rules themselves.
THIS_FILE: Final = "tests/unit/test_conventions.py"
IMPORTS_TEST: Final = "tests/unit/test_imports.py"
# aiokafka's own logger, tuned where the command line uses it.
TUNED: Final = "infra/tidemill_cli/kafka.py"
# One command with an option for each flag of `up`.
SIZES_YET: Final[tuple[str, ...]] = ("infra/tidemill_cli/run.py",)


@cache
def text(name: str) -> str:
    return FILES[name].read_text()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name))


def type_checking(name: str) -> Iterator[str]:
    for number, line in enumerate(text(name).splitlines(), 1):
        if "TYPE_CHECKING" in line:
            yield f"line {number}: a circle is a fault of the layout"


def loggers(name: str) -> Iterator[str]:
    """A program's `__main__` has no other name of its own; loggers of libraries are tuned, not kept."""
    if "getLogger(" not in text(name):
        return
    for node in tree(name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("logging.getLogger("):
            kept = ast.unparse(node)
            if kept != "logger = logging.getLogger(__name__)" and not name.endswith("__main__.py"):
                yield f"line {node.lineno}: {kept}"


def code_in_init(name: str) -> Iterator[str]:
    if not name.endswith("__init__.py"):
        return
    for node in tree(name).body:
        names_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (names_all or docstring or isinstance(node, ast.Import | ast.ImportFrom)):
            yield f"line {node.lineno}: {type(node).__name__}"


def suppressions(name: str) -> Iterator[str]:
    if not SUPPRESSION.search(text(name)):
        return
    with FILES[name].open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            suppresses = token.type == tokenize.COMMENT and SUPPRESSION.search(token.string)
            if suppresses and not REASONED.search(token.string):
                yield f"line {token.start[0]}: {token.string}"


def sizes(name: str) -> Iterator[str]:
    lines = len(text(name).splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"{lines} lines"
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{node.name} has {length} lines"


def words(name: str) -> Iterator[str]:
    """Identifiers, comments, texts: whatever a reader reads."""
    for number, line in enumerate(text(name).splitlines(), 1):
        yield from (f"line {number}: {found}" for found in BANNED.findall(line))


Rule = Callable[[str], Iterator[str]]
# The files that a rule is for, and those among them that are excepted.
RULES: dict[Rule, tuple[Iterable[str], tuple[str, ...]]] = {
    type_checking: (FILES, (THIS_FILE, IMPORTS_TEST)),
    loggers: (PRODUCT, (AUDIT_LOG, TUNED)),
    code_in_init: (PRODUCT, ()),
    suppressions: (FILES, (THIS_FILE,)),
    sizes: (PRODUCT, SIZES_YET),
    words: (FILES, (THIS_FILE,)),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_code_follows_the_conventions(rule: Rule) -> None:
    names, excepted = RULES[rule]
    found = {name: list(rule(name)) for name in names if name not in excepted}

    assert {name: faults for name, faults in found.items() if faults} == {}
