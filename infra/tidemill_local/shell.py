"""Owns the shell of the launcher's own programs, the gateway and the embedded AWS: the contract of all five.

Files are for one user, no core dumps; a mistake on the command line ends with status 2 and names the nearest
flag, a start that fails with status 1. Ready file and signals are each program's own.
"""

import argparse
import os
import re
import resource
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

_START_ERROR: Final = 1


def keep_private() -> None:
    """Write files for this user alone, and never dump memory: it holds records, code and secrets."""
    os.umask(0o077)
    # What is started from here inherits it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exit with status 2 and the nearest flag where one is not known."""
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        near = get_close_matches(flag, re.findall(r"--[a-z-]+", parser.format_usage()), n=1)
        parser.error(f"{flag}: no such flag" + (f"; did you mean {near[0]}?" if near else ""))
    return arguments


def failed(sentence: str) -> int:
    """Say on standard error why the program cannot start, and return its exit status."""
    print(sentence, file=sys.stderr)  # noqa: T201 - the command line's own answer
    return _START_ERROR
