"""FilterCriteria: which records of a topic a mapping wants, compiled once and applied to every record.

Pure. Facts: AWS Lambda Developer Guide, invocation-eventfiltering and kafka-filtering. Filters are or-ed and
see a record's `value` only. Called by the lane for every record, by the control API to check patterns.

See docs/decisions/0501.
"""

from __future__ import annotations

from collections import abc
from typing import Any, Final, Literal

import orjson

from tidemill_poller.errors import UnfilterableField
from tidemill_poller.filters.pattern import (
    Clause,
    any_of,
    compile_value_pattern,
    needs_number_text,
    parse_pattern,
)
from tidemill_poller.filters.values import MISSING, PlainText, parse_keeping_text

_JSON_OPENERS: Final = (b"{", b"[")
_JSON_SPACE: Final = b" \t\r\n"


class Filter:
    """Compiled filter patterns; immutable, so one serves all lanes of a mapping."""

    __slots__ = ("_clause", "_parse")

    def __init__(self, clause: Clause, *, keep_number_text: bool) -> None:
        self._clause = clause
        self._parse = parse_keeping_text if keep_number_text else orjson.loads

    def matches(self, value: bytes | None) -> bool:
        """Whether the record is for the function; a tombstone's value is None. Never raises."""
        return self._clause(decode(value, self._parse))


def compile_filters(
    patterns: abc.Sequence[str], *, operators: Literal["lambda", "eventbridge"] = "eventbridge"
) -> Filter | None:
    """The filter of a mapping, or None when it has no patterns and every record passes.

    `operators` is for the control API, which decides what may be stored; what was stored always compiles.

    Raises InvalidPattern for the first malformed pattern, and UnfilterableField if no pattern is malformed
    and one names a field other than `value`.
    """
    if not patterns:
        return None
    parsed = [parse_pattern(pattern) for pattern in patterns]
    clauses: list[Clause] = []
    unfilterable: list[UnfilterableField] = []
    for pattern in parsed:
        try:
            clauses.append(compile_value_pattern(pattern, every_operator=operators == "eventbridge"))
        except UnfilterableField as error:
            unfilterable.append(error)  # a malformed pattern after this one comes first
    if unfilterable:
        raise unfilterable[0]
    return Filter(any_of(clauses), keep_number_text=any(needs_number_text(pattern) for pattern in parsed))


def decode(value: bytes | None, parse: abc.Callable[[bytes], Any]) -> Any:
    """A record's value as filters see it; the one place for AWS's rules of decoding.

    JSON objects and arrays come back as dict and list, any other UTF-8 text as PlainText, a tombstone as None
    and bytes that are not UTF-8 as MISSING. JSON scalars count as text: AWS leaves them undefined.
    A pattern that asks for the other kind (JSON for text, text for JSON) or that meets undecodable bytes is
    ignored, so the record passes: so says AWS's table for Kafka, unlike its rule for SQS and Kinesis.
    """
    if value is None:
        return None
    if value.lstrip(_JSON_SPACE).startswith(_JSON_OPENERS):
        try:
            return parse(value)
        except (ValueError, RecursionError):
            pass  # not JSON after all
    try:
        return PlainText(value.decode())
    except UnicodeDecodeError:
        return MISSING
