"""The operators of a filter pattern: each turns its operand, once, into a test of one JSON scalar.

Pure. Facts: EventBridge event patterns ("Comparison operators for use in event patterns"). Lambda's own table
of operators is shorter; `EVERYWHERE` has those, `EVENTBRIDGE_ONLY` the rest.
"""

from __future__ import annotations

import ipaddress
import operator
from collections import abc
from typing import Any, Final

from tidemill_poller.errors import InvalidPattern
from tidemill_poller.filters.values import is_number, number_text

Test = abc.Callable[[Any], bool]

_COMPARISONS: Final[dict[str, abc.Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOWER_BOUNDS: Final = (">", ">=")
_UPPER_BOUNDS: Final = ("<", "<=")


def prefix(operand: Any, *, every: bool) -> Test:
    """Text that begins so; {"prefix": {"equals-ignore-case": …}} disregards case."""
    if isinstance(operand, dict):
        folded = _folded_operand("prefix", operand, every=every)
        return lambda value: isinstance(value, str) and value.lower().startswith(folded)
    text = _text("prefix", operand)
    return lambda value: isinstance(value, str) and value.startswith(text)


def suffix(operand: Any, *, every: bool) -> Test:
    """Text that ends so; {"suffix": {"equals-ignore-case": …}} disregards case."""
    if isinstance(operand, dict):
        folded = _folded_operand("suffix", operand, every=every)
        return lambda value: isinstance(value, str) and value.lower().endswith(folded)
    text = _text("suffix", operand)
    return lambda value: isinstance(value, str) and value.endswith(text)


def equals_ignore_case(operand: Any, *, every: bool) -> Test:  # noqa: ARG001 - all operators are called alike
    """The same text but for case."""
    folded = _text("equals-ignore-case", operand).lower()
    return lambda value: isinstance(value, str) and value.lower() == folded


def numeric(operand: Any, *, every: bool) -> Test:  # noqa: ARG001 - all operators are called alike
    """A number that compares so: ["=", 5], or one or two bounds as [">", 0, "<=", 5]."""
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise InvalidPattern('"numeric" needs a comparison and a number, or two of each')
    signs, bounds = operand[::2], operand[1::2]
    for sign, bound in zip(signs, bounds, strict=True):
        if not isinstance(sign, str) or sign not in _COMPARISONS or not is_number(bound):
            raise InvalidPattern('"numeric" compares with =, <, <=, > or >=, each before a number')
    if len(signs) > 1:
        if signs[0] not in _LOWER_BOUNDS or signs[1] not in _UPPER_BOUNDS:
            raise InvalidPattern('"numeric" with two comparisons needs > or >= first, then < or <=')
        if bounds[0] >= bounds[1]:
            raise InvalidPattern('"numeric" has an upper bound that is not above its lower bound')
    compares = [(_COMPARISONS[sign], bound) for sign, bound in zip(signs, bounds, strict=True)]
    return lambda value: is_number(value) and all(compare(value, bound) for compare, bound in compares)


def anything_but(operand: Any, *, every: bool) -> Test:
    """Any value but these: text or numbers, one or a list; or any that a nested operator does not match."""
    if isinstance(operand, dict):
        return _anything_but_matching(operand, every=every)
    unwanted = operand if isinstance(operand, list) else [operand]
    if unwanted and all(isinstance(one, str) for one in unwanted):
        texts = frozenset(unwanted)
        return lambda value: not isinstance(value, str) or value not in texts
    if unwanted and all(is_number(one) for one in unwanted):
        numbers = frozenset(number_text(one) for one in unwanted)
        return lambda value: not is_number(value) or number_text(value) not in numbers
    raise InvalidPattern('"anything-but" needs text or numbers, not both, not empty')


def _anything_but_matching(operand: dict[str, Any], *, every: bool) -> Test:
    name, inner = _single(operand)
    nested = _IN_ANYTHING_BUT.get(name)
    if nested is None or not every:
        raise InvalidPattern(f'"{name}" is not allowed inside "anything-but"')
    operands = inner if isinstance(inner, list) else [inner]
    if not operands:
        raise InvalidPattern(f'"{name}" inside "anything-but" must not be empty')
    tests = [nested(one, every=every) for one in operands]
    return lambda value: not any(test(value) for test in tests)


def wildcard(operand: Any, *, every: bool) -> Test:  # noqa: ARG001 - all operators are called alike
    r"""Text with * for any run of characters; \* and \\ stand for themselves."""
    head, *rest = _wildcard_parts(_text("wildcard", operand))
    if not rest:
        return lambda value: isinstance(value, str) and value == head
    *middles, tail = rest
    return lambda value: isinstance(value, str) and _fits(value, head, middles, tail)


def _wildcard_parts(text: str) -> list[str]:
    parts, escaped = [""], False
    for index, character in enumerate(text):
        if escaped and character not in "*\\":
            raise InvalidPattern(r'"wildcard" has a \ before something other than * or \ ')
        if escaped or character not in "*\\":
            parts[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        elif index and parts[-1] == "" and len(parts) > 1:
            raise InvalidPattern('"wildcard" has two * in a row')
        else:
            parts.append("")
    if escaped:
        raise InvalidPattern(r'"wildcard" ends in a \ ')
    return parts


def _fits(value: str, head: str, middles: list[str], tail: str) -> bool:
    """Whether the parts lie in the text in their order; each is taken as early as can be: no backtracking."""
    end = len(value) - len(tail)
    if end < len(head) or not value.startswith(head) or not value.endswith(tail):
        return False
    position = len(head)
    for part in middles:
        found = value.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def cidr(operand: Any, *, every: bool) -> Test:  # noqa: ARG001 - all operators are called alike
    """Text that is an IP address of this block."""
    try:
        network = ipaddress.ip_network(_text("cidr", operand), strict=False)
    except ValueError as error:
        raise InvalidPattern(f'"cidr": {error}') from None

    def test(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return test


def compile_operator(matcher: dict[str, Any], *, every: bool) -> Test:
    """The test of a one-operator object of a pattern, `exists` apart.

    Raises InvalidPattern for an unknown operator, one that is not allowed, or an operand that does not fit.
    """
    name, operand = _single(matcher)
    compiler = EVERYWHERE.get(name)
    if compiler is None and every:
        compiler = EVENTBRIDGE_ONLY.get(name)
    if compiler is None:
        raise InvalidPattern(f'"{name}" is not an operator of filter patterns')
    return compiler(operand, every=every)


def _single(matcher: dict[str, Any]) -> tuple[str, Any]:
    if len(matcher) != 1:
        raise InvalidPattern("an operator stands alone in its braces")
    return next(iter(matcher.items()))


def _text(name: str, operand: Any) -> str:
    if not isinstance(operand, str):
        raise InvalidPattern(f'"{name}" needs text')
    return operand


def _folded_operand(name: str, operand: dict[str, Any], *, every: bool) -> str:
    inner_name, inner = _single(operand)
    if inner_name != "equals-ignore-case" or not every:
        raise InvalidPattern(f'"{name}" needs text')
    return _text(inner_name, inner).lower()


EVERYWHERE: Final[dict[str, abc.Callable[..., Test]]] = {
    "anything-but": anything_but,
    "equals-ignore-case": equals_ignore_case,
    "numeric": numeric,
    "prefix": prefix,
    "suffix": suffix,
}
EVENTBRIDGE_ONLY: Final[dict[str, abc.Callable[..., Test]]] = {"cidr": cidr, "wildcard": wildcard}
_IN_ANYTHING_BUT: Final[dict[str, abc.Callable[..., Test]]] = {
    "equals-ignore-case": equals_ignore_case,
    "prefix": prefix,
    "suffix": suffix,
    "wildcard": wildcard,
}
