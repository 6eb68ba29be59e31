"""What patterns are compared with: JSON values, numbers with their text, plain text, nothing at all. Pure."""

from __future__ import annotations

import json
import re
from collections import abc
from enum import Enum
from typing import Any, Final, NoReturn, Self

_PLAIN_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,17}")


class _Absent(Enum):
    MISSING = "missing"


MISSING: Final = _Absent.MISSING
"""No value at this path; JSON's null is a value, and is None."""


class PlainText(str):
    """A record's value that is not JSON; inside JSON, strings are plain `str`."""

    __slots__ = ()


class NumberText(float):
    """A number that was not written as a plain integer, with its text: a bare 3.0e2 does not match 300."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Of a JSON number's text; one that is too large for a float is an infinity with its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def parse_keeping_text(text: str | bytes) -> Any:
    """JSON with every number that is no plain integer as NumberText.

    Raises ValueError if it is not JSON or not UTF-8, and RecursionError if it is too deep.
    """
    if isinstance(text, bytes):
        text = text.decode()
    return json.loads(text, parse_float=NumberText, parse_int=_integer, parse_constant=_refuse_constant)


def is_number(value: Any) -> bool:
    """Whether it is a JSON number; Python's booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number_text(value: Any) -> str:
    """A number as it was written, where it was parsed to keep that."""
    return value.text if isinstance(value, NumberText) else str(value)


def flattened(items: list[Any]) -> abc.Iterator[Any]:
    """The items of an array, with those of arrays inside it, in order; of any depth, without recursion."""
    stack = [iter(items)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, list):
                stack.append(iter(item))
                break
            yield item
        else:
            stack.pop()


def _integer(text: str) -> int | NumberText:
    """An integer that every parser reads alike; larger ones, and -0, are told by their text."""
    return int(text) if _PLAIN_INTEGER.fullmatch(text) else NumberText(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
