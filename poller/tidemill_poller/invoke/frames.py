"""Finds the first frame of the user's own code in the stack of an error document. Pure.

Knows the stacks of Lambda's runtimes for Python, Node.js and Java, as they stand in `stackTrace` or `trace`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

_FRAMES: Final = (
    re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>\S+))?'),
    re.compile(
        r"\s*at (?:async )?(?:(?P<function>[^(]+?) \()?(?:file://)?(?P<file>[^():]+):(?P<line>\d+):\d+\)?"
    ),
    re.compile(r"\s*(?:at )?(?P<function>[\w.$<>]+)\((?P<file>[\w$]+\.(?:java|kt|scala)):(?P<line>\d+)\)"),
)
# What the user did not write: interpreters, packages, and the clients of the Runtime API.
_OTHERS: Final = re.compile(
    r"^<|^node:|/(site-packages|dist-packages|awslambdaric|node_modules)/|/lib/python3\.\d+/"
    r"|/runtimes/node/bootstrap\.mjs$"
)
_OTHER_CLASSES: Final = re.compile(r"^(java|javax|jdk|sun|lambdainternal|com\.amazonaws)\.")


def first_frame(stack: Iterable[object]) -> str:
    """Return the first frame of the user's code, as `(app.py:5 in handler)`; "" if there is none."""
    for entry in stack:
        found = next((match for frame in _FRAMES if (match := frame.match(str(entry)))), None)
        if found is None or _OTHERS.search(found["file"]) or _OTHER_CLASSES.match(found["function"] or ""):
            continue
        where = f"{PurePosixPath(found['file']).name}:{found['line']}"
        return f"({where} in {found['function']})" if found["function"] else f"({where})"
    return ""
