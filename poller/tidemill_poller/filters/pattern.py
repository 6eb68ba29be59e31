"""From a pattern's text to a test of a decoded record value.

Pure. A pattern is a tree: objects and-ed over their fields, arrays or-ed over their entries, `$or` over its
objects. Each node becomes a closure once, so that a record costs calls and look-ups only.

An object in a pattern against an array in a record asks for one element that fits it as a whole, as
EventBridge's matcher keeps fields of one element together. A field that holds an object or an empty array has
no leaf, and for `exists` only leaves are there.
"""

from __future__ import annotations

from collections import abc
from typing import Any, Final

from tidemill_poller.errors import InvalidPattern, UnfilterableField
from tidemill_poller.filters.operators import compile_operator
from tidemill_poller.filters.values import (
    MISSING,
    NumberText,
    PlainText,
    flattened,
    is_number,
    number_text,
    parse_keeping_text,
)

Clause = abc.Callable[[Any], bool]

DEPTH_MAX: Final = 50
"""Levels of a pattern; EventBridge documents no limit, Python's stack has one."""

_EITHER: Final = "$or"
_EITHER_MIN: Final = 2


def parse_pattern(text: str) -> dict[str, Any]:
    """The pattern as JSON, its numbers with their text.

    Raises InvalidPattern if it is not JSON, or not an object with something in it.
    """
    try:
        pattern = parse_keeping_text(text)
    except (ValueError, RecursionError) as error:
        raise InvalidPattern(f"not JSON: {error}") from None
    if not isinstance(pattern, dict):
        raise InvalidPattern("a pattern is a JSON object")
    return pattern


def needs_number_text(node: Any) -> bool:
    """Whether records must keep the text of their numbers for this (compiled, so not too deep) pattern.

    A plain integer is known by its value alone, so the fast parser does; a bare 300.0 is not.
    """
    if isinstance(node, dict):
        # numeric compares values, whatever their text.
        return any(needs_number_text(inner) for name, inner in node.items() if name != "numeric")
    if isinstance(node, list):
        return any(needs_number_text(inner) for inner in node)
    return isinstance(node, NumberText)


def compile_value_pattern(pattern: dict[str, Any], *, every_operator: bool) -> Clause:
    """The whole pattern as a test of one decoded value (see `filters.decode`).

    Raises InvalidPattern if the pattern is malformed, and UnfilterableField if it names a field that Kafka
    mappings cannot filter by.
    """
    compiler = _Compiler(every_operator=every_operator)
    clause = compiler.record(pattern, 0)
    if compiler.foreign:
        name = compiler.foreign[0]
        raise UnfilterableField(
            f"Kafka records are filtered by 'value' only: '{name}' cannot be in a filter pattern."
        )
    return clause


class _Compiler:
    def __init__(self, *, every_operator: bool) -> None:
        self._every = every_operator
        self.foreign: list[str] = []  # fields beside `value`; compiled too, since malformed ones are invalid

    def record(self, pattern: dict[str, Any], depth: int) -> Clause:
        """The top level, whose one field is `value`."""
        self._check(pattern, depth)
        clauses: list[Clause] = []
        for name, inner in pattern.items():
            if name == _EITHER:
                clauses.append(any_of([self.record(one, depth + 1) for one in _alternatives(inner)]))
                continue
            if name != "value":
                self.foreign.append(name)
            if isinstance(inner, dict):
                clauses.append(_of_json(self.fields(inner, depth + 1)))
            else:
                clauses.append(_of_text(self.leaf(inner), null_passes=None in inner))
        return _all_of(clauses)

    def fields(self, pattern: dict[str, Any], depth: int) -> Clause:
        """An object of the pattern as a test of an object, an array or nothing."""
        self._check(pattern, depth)
        fields: list[tuple[str, Clause]] = []
        clauses: list[Clause] = []
        for name, inner in pattern.items():
            if name == _EITHER:
                clauses.append(any_of([self.fields(one, depth + 1) for one in _alternatives(inner)]))
            elif isinstance(inner, dict):
                fields.append((name, self.fields(inner, depth + 1)))
            else:
                fields.append((name, self.leaf(inner)))
        return _object(fields, clauses)

    def leaf(self, entries: Any) -> Clause:
        """An array of the pattern as a test of a scalar, an array of them, or nothing."""
        if not isinstance(entries, list) or not entries:
            raise InvalidPattern("a field needs an array with at least one value or operator")
        absent_passes = False
        present_passes = False
        tests: list[Clause] = []
        literals: list[Any] = []
        for entry in entries:
            if not isinstance(entry, dict):
                literals.append(entry)
            elif (exists := _exists(entry)) is None:
                tests.append(compile_operator(entry, every=self._every))
            else:
                absent_passes |= not exists
                present_passes |= exists
        if literals:
            tests.insert(0, _equals(literals))
        if present_passes:
            tests = [_always]
        return _leaf(any_of(tests), absent_passes=absent_passes)

    def _check(self, pattern: Any, depth: int) -> None:
        if not pattern:
            raise InvalidPattern("an object in a pattern must not be empty")
        if depth > DEPTH_MAX:
            raise InvalidPattern(f"a pattern must not be deeper than {DEPTH_MAX} levels")


def _alternatives(inner: Any) -> list[dict[str, Any]]:
    if (
        not isinstance(inner, list)
        or len(inner) < _EITHER_MIN
        or not all(isinstance(one, dict) for one in inner)
    ):
        raise InvalidPattern(f'"{_EITHER}" needs an array of two or more objects')
    return inner


def _exists(matcher: dict[str, Any]) -> bool | None:
    """The operand of `exists`; None when the matcher is another one."""
    if "exists" not in matcher or len(matcher) != 1:
        return None
    if not isinstance(matcher["exists"], bool):
        raise InvalidPattern('"exists" is true or false')
    return matcher["exists"]


def _of_json(clause: Clause) -> Clause:
    """A JSON pattern: text and undecodable bytes pass unseen, a tombstone has no fields."""

    def test(value: Any) -> bool:
        if isinstance(value, PlainText) or value is MISSING:
            return True
        return clause(MISSING if value is None else value)

    return test


def _of_text(clause: Clause, *, null_passes: bool) -> Clause:
    """A plain-text pattern: JSON and undecodable bytes pass unseen; a tombstone is null, and is not there."""

    def test(value: Any) -> bool:
        if value is None:
            return null_passes or clause(MISSING)
        return clause(value) if isinstance(value, PlainText) else True

    return test


def _object(fields: list[tuple[str, Clause]], clauses: list[Clause]) -> Clause:
    def one(value: Any) -> bool:
        is_object = isinstance(value, dict)
        for name, clause in fields:
            if not clause(value.get(name, MISSING) if is_object else MISSING):
                return False
        return all(clause(value) for clause in clauses)

    def test(value: Any) -> bool:
        if isinstance(value, list):
            objects = [item for item in flattened(value) if isinstance(item, dict)]
            return any(one(item) for item in objects) if objects else one(MISSING)
        return one(value)

    return test


def _leaf(test: Clause, *, absent_passes: bool) -> Clause:
    def leaf(value: Any) -> bool:
        if isinstance(value, list):
            found = [item for item in flattened(value) if not isinstance(item, dict)]
            return any(test(item) for item in found) if found else absent_passes
        if value is MISSING or isinstance(value, dict):
            return absent_passes
        return test(value)

    return leaf


def _equals(literals: list[Any]) -> Clause:
    """The bare values of an array: strings and numbers by their text, true, false and null by themselves."""
    if any(isinstance(one, list) for one in literals):
        raise InvalidPattern("an array in a pattern must not hold another")
    texts = frozenset(one for one in literals if isinstance(one, str))
    numbers = frozenset(number_text(one) for one in literals if is_number(one))
    singletons = [one for one in literals if one is None or isinstance(one, bool)]

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return value in texts
        if value is None or isinstance(value, bool):
            return any(value is one for one in singletons)
        return number_text(value) in numbers

    return test


def _all_of(clauses: list[Clause]) -> Clause:
    return clauses[0] if len(clauses) == 1 else lambda value: all(clause(value) for clause in clauses)


def any_of(clauses: list[Clause]) -> Clause:
    """Of none, a test that nothing passes."""
    return clauses[0] if len(clauses) == 1 else lambda value: any(clause(value) for clause in clauses)


def _always(_value: Any) -> bool:
    return True
