"""What docs/conventions.md says of product code, as far as a machine can tell.

What does not conform yet is listed by its file and leaves the list with the next change; nothing is added.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    str(path.relative_to(ROOT)): path
    for program in ("poller", "broker", "functions", "infra")
    for path in sorted((ROOT / program).rglob("*.py"))
    if not {"target", "build"} & set(path.parts)
}
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
# An older spelling, with a second # in place of the dash, stands in many files still.
REASONED = re.compile(
    r"# noqa: [A-Z0-9]+(?:, ?[A-Z0-9]+)*(?: - |  # )\S|# type: ignore\[[a-z-]+(?:, ?[a-z-]+)*\]  # \S"
)
SUPPRESSION = re.compile(r"# noqa|# type: ignore")
# The words of the table "not" in docs/conventions.md that mean nothing else.
BANNED = re.compile(
    r"(?<![a-z])(?:strangers?|entrance|judge[sd]?|keeper|surroundings|intake|heed(?:s|ed)?|mend(?:s|ed)?"
    r"|handed[-_ ]out)(?![a-z])",
    re.IGNORECASE,
)

AUDIT_LOG = "broker/tidemill_broker/auth/audit.py"
# Shrinking lists: what does not conform yet.
TYPE_CHECKING_YET: Final[tuple[str, ...]] = (
    "broker/tidemill_broker/auth/assembly.py",
    "broker/tidemill_broker/groups/service.py",
    "broker/tidemill_broker/log/flusher.py",
    "broker/tidemill_broker/log/topics.py",
    "broker/tidemill_broker/server/connection.py",
    "broker/tidemill_broker/server/server.py",
    "broker/tidemill_broker/server/tls_acceptor.py",
)
LOGGERS_YET: Final[tuple[str, ...]] = (
    "broker/tidemill_broker/auth/iam/identities.py",
    "functions/tidemill_functions/code/registry.py",
    "functions/tidemill_functions/runtime/event_queue.py",
    "functions/tidemill_functions/runtime/logs.py",
    "functions/tidemill_functions/runtime/pool.py",
)
CODE_IN_INIT_YET: Final[tuple[str, ...]] = ("broker/tidemill_broker/protocol/__init__.py",)
SUPPRESSIONS_YET: Final[tuple[str, ...]] = (
    "broker/tidemill_broker/auth/assembly.py",
    "broker/tidemill_broker/server/tls_acceptor.py",
)
SIZES_YET: Final[tuple[str, ...]] = ()
WORDS_YET: Final[tuple[str, ...]] = (
    "broker/tidemill_broker/__main__.py",
    "broker/tidemill_broker/apis/group_offsets.py",
    "broker/tidemill_broker/apis/sasl.py",
    "broker/tidemill_broker/apis/scram_credentials.py",
    "broker/tidemill_broker/auth/assembly.py",
    "broker/tidemill_broker/auth/authorizers.py",
    "broker/tidemill_broker/auth/iam/authorizer.py",
    "broker/tidemill_broker/auth/iam/identity_file.py",
    "broker/tidemill_broker/auth/iam/msk_iam.py",
    "broker/tidemill_broker/auth/iam/oauthbearer.py",
    "broker/tidemill_broker/auth/iam/policies/__init__.py",
    "broker/tidemill_broker/auth/iam/policies/conditions.py",
    "broker/tidemill_broker/auth/iam/policies/errors.py",
    "broker/tidemill_broker/auth/iam/policies/policy.py",
    "broker/tidemill_broker/auth/iam/policies/principals.py",
    "broker/tidemill_broker/auth/scram/secrets_manager.py",
    "broker/tidemill_broker/auth/scram/users.py",
    "broker/tidemill_broker/auth/session.py",
    "broker/tidemill_broker/auth/tls/contexts.py",
    "broker/tidemill_broker/auth/tls/issuing.py",
    "broker/tidemill_broker/commands/identity.py",
    "broker/tidemill_broker/coordinators/generation.py",
    "broker/tidemill_broker/coordinators/group.py",
    "broker/tidemill_broker/log/configs.py",
    "broker/tidemill_broker/log/errors.py",
    "broker/tidemill_broker/log/partition.py",
    "broker/tidemill_broker/log/topics.py",
    "broker/tidemill_broker/protocol/reader.py",
    "broker/tidemill_broker/server/connection.py",
    "broker/tidemill_broker/server/server.py",
    "broker/tidemill_broker/server/tls_acceptor.py",
    "broker/tidemill_broker/server/unauthenticated.py",
    "functions/tidemill_functions/__main__.py",
    "functions/tidemill_functions/code/archive.py",
    "functions/tidemill_functions/errors.py",
    "infra/tidemill_awsapi/validation.py",
)


def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text())


def type_checking(name: str) -> Iterator[str]:
    for number, line in enumerate(FILES[name].read_text().splitlines(), 1):
        if "TYPE_CHECKING" in line:
            yield f"line {number}: a circle is a fault of the layout"


def loggers(name: str) -> Iterator[str]:
    """A program's `__main__` has no other name of its own; loggers of libraries are tuned, not kept."""
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
    with FILES[name].open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            suppresses = token.type == tokenize.COMMENT and SUPPRESSION.search(token.string)
            if suppresses and not REASONED.search(token.string):
                yield f"line {token.start[0]}: {token.string}"


def sizes(name: str) -> Iterator[str]:
    lines = len(FILES[name].read_text().splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"{lines} lines"
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{node.name} has {length} lines"


def words(name: str) -> Iterator[str]:
    """Identifiers, comments, texts: whatever a reader reads."""
    for number, line in enumerate(FILES[name].read_text().splitlines(), 1):
        yield from (f"line {number}: {found}" for found in BANNED.findall(line))


Rule = Callable[[str], Iterator[str]]
RULES: dict[Rule, tuple[str, ...]] = {
    type_checking: TYPE_CHECKING_YET,
    loggers: (AUDIT_LOG, *LOGGERS_YET),
    code_in_init: CODE_IN_INIT_YET,
    suppressions: SUPPRESSIONS_YET,
    sizes: SIZES_YET,
    words: WORDS_YET,
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_product_code_follows_the_conventions(rule: Rule) -> None:
    found = {name: list(rule(name)) for name in FILES if name not in RULES[rule]}

    assert {name: faults for name, faults in found.items() if faults} == {}
