"""Owns `export --as cli`: the AWS CLI's command that creates a mapping, quoted for a POSIX shell. Pure.

Every version of the AWS CLI takes structures as JSON and lists of names as words.
"""

import json
import shlex
from collections.abc import Iterator
from typing import Any

from botocore import xform_name

from tidemill_cli.portable.request import Request
from tidemill_cli.portable.times import iso_time


def aws_command(request: Request) -> str:
    """Return `aws lambda create-event-source-mapping …`, an option to a line."""
    return " \\\n    ".join(["aws lambda create-event-source-mapping", *_options(request)])


def _options(request: Request) -> Iterator[str]:
    for member, value in request.items():
        name = xform_name(member, "-")
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        else:
            yield f"--{name} {_argument(value)}"


def _argument(value: Any) -> str:
    if isinstance(value, list) and all(_is_word(item) for item in value):
        return shlex.join(value)
    if isinstance(value, list | dict):
        return shlex.quote(json.dumps(value))
    return shlex.quote(iso_time(value))


def _is_word(item: object) -> bool:
    """Whether the AWS CLI takes this as a word of a list: no option, no JSON, no file to read."""
    return isinstance(item, str) and item.replace("-", "").isalnum() and not item.startswith("-")
