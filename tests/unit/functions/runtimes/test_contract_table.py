"""docs/functions.md says of every case of the contract suite what it is held against."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
ROW = re.compile(r"^\| `(test_\w+)` \| (.+) \|$", re.MULTILINE)


def test_every_case_of_the_contract_has_its_oracle_and_no_other_is_named() -> None:
    suite = ast.parse((ROOT / "tests/integration/functions/runtimes/test_contract.py").read_text())
    cases = [node.name for node in suite.body if isinstance(node, ast.FunctionDef)]
    rows = ROW.findall((ROOT / "docs/functions.md").read_text())
    assert [name for name, _ in rows] == [name for name in cases if name.startswith("test_")]
    assert all(oracle.startswith(("RIE", "AWS")) for _, oracle in rows)
