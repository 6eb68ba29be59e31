"""Owns the constraints of a model (required, length, range, pattern, enum) and AWS's sentences about them.

Every check is built once from the input shape. Called by the server after parsing; pure.
Texts: "1 validation error detected: Value '0' at 'batchSize' failed to satisfy constraint: Member must …",
several joined by "; " (AWS's Coral framework; seen in published recordings of real replies).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Any, str, list[str]], None]
_NOT_NULL = "Member must not be null"
# Java's \p{…} classes that the models use, as close as Python's re comes inside a character class.
_JAVA_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}
# AWS prints an enum's values in an order of its own; these were seen, the others follow the model.
_SEEN_ENUM_ORDERS = {"EventSourcePosition": ("LATEST", "AT_TIMESTAMP", "TRIM_HORIZON")}


class InputValidator:
    """Checks the parsed input of one operation against its model."""

    def __init__(self, input_shape: Any) -> None:
        self._check = _structure(input_shape, {}) if input_shape is not None else None

    def violations(self, params: Mapping[str, Any]) -> list[str]:
        """AWS's sentence about each broken constraint; empty when all hold."""
        found: list[str] = []
        if self._check:
            self._check(params, "", found)
        return found


def describe_violations(violations: Sequence[str]) -> str:
    """AWS's one message about several broken constraints."""
    count = len(violations)
    return f"{count} validation error{'s' if count > 1 else ''} detected: " + "; ".join(violations)


def _check(shape: Any, known: dict[str, Check]) -> Check | None:
    """The check of one value, or None where the model has no constraint."""
    if shape.name in known:
        return known[shape.name]
    match shape.type_name:
        case "structure":
            return _structure(shape, known)
        case "list":
            return _list(shape, known)
        case "map":
            return _map(shape, known)
        case _:
            return _scalar(shape)


def _structure(shape: Any, known: dict[str, Check]) -> Check:
    required = [(member, _camel(member)) for member in shape.required_members]
    checks: list[tuple[str, str, Check]] = []

    def check(value: Any, path: str, found: list[str]) -> None:
        for member, name in required:
            if member not in value:
                found.append(_sentence("null", path + name, _NOT_NULL))
        for member, name, check_member in checks:
            if member in value:
                check_member(value[member], path + name, found)

    def enter(value: Any, path: str, found: list[str]) -> None:
        check(value, f"{path}." if path else "", found)

    known[shape.name] = enter
    for member, member_shape in shape.members.items():
        if member_check := _check(member_shape, known):
            checks.append((member, _camel(member), member_check))
    return enter


def _list(shape: Any, known: dict[str, Check]) -> Check:
    own = _constraints(shape)
    nested: list[Check] = []

    def check(value: Any, path: str, found: list[str]) -> None:
        own(value, path, found)
        for check_item in nested:
            for position, item in enumerate(value, 1):
                if item is None:
                    found.append(_sentence("null", f"{path}.{position}.member", _NOT_NULL))
                else:
                    check_item(item, f"{path}.{position}.member", found)

    if (rules := _scalar_rules(shape.member)) is not None:
        # A list of scalars is validated as a whole: "Member must satisfy constraint: [Member must …, …]".
        return _all_of(own, _items_check(shape, "Member must satisfy constraint", rules, list))
    known[shape.name] = check
    if check_member := _check(shape.member, known):
        nested.append(check_member)
    return check


def _map(shape: Any, known: dict[str, Check]) -> Check:
    keys, values = _scalar_rules(shape.key), _scalar_rules(shape.value)
    checks = [_constraints(shape)]
    if keys is not None:
        checks.append(_items_check(shape, "Map keys must satisfy constraint", keys, dict.keys))
    if values is not None:
        checks.append(_items_check(shape, "Map value must satisfy constraint", values, dict.values))
        return _all_of(*checks)
    nested: list[Check] = []

    def check(value: Any, path: str, found: list[str]) -> None:
        _all_of(*checks)(value, path, found)
        for check_item in nested:
            for key, item in value.items():
                if item is not None:
                    check_item(item, f"{path}.{key}.member", found)

    known[shape.name] = check
    if check_value := _check(shape.value, known):
        nested.append(check_value)
    return check


def _items_check(shape: Any, opening: str, rules: "_Rules", items: Callable[[Any], Any]) -> Check:
    """Check all scalars of a list, or all keys or values of a map, in one sentence."""
    show = _shown(shape)
    text = f"{opening}: {rules.listed()}"

    def check(value: Any, path: str, found: list[str]) -> None:
        if not all(item is not None and rules.hold(item) for item in items(value)):
            found.append(_sentence(show(value), path, text))

    return check


def _all_of(*checks: Check) -> Check:
    def check(value: Any, path: str, found: list[str]) -> None:
        for one in checks:
            one(value, path, found)

    return check


def _scalar(shape: Any) -> Check | None:
    return _constraints(shape) if _Rules(shape).rules else None


def _constraints(shape: Any) -> Check:
    rules, show = _Rules(shape).rules, _shown(shape)

    def check(value: Any, path: str, found: list[str]) -> None:
        for text, holds in rules:
            if not holds(value):
                found.append(_sentence(show(value), path, text))

    return check


class _Rules:
    """The constraints of one shape: pairs of AWS's text and the test."""

    def __init__(self, shape: Any) -> None:
        self.rules: list[tuple[str, Callable[[Any], bool]]] = []
        traits = shape.metadata
        if enum := traits.get("enum"):
            self._add_enum(_SEEN_ENUM_ORDERS.get(shape.name, tuple(enum)))
        if shape.type_name in ("integer", "long", "double", "float"):
            self._add_range(traits)
        elif shape.type_name in ("string", "list", "map", "blob"):
            self._add_length(traits)
        if pattern := traits.get("pattern"):
            self._add_pattern(pattern)

    def hold(self, value: Any) -> bool:
        return all(holds(value) for _, holds in self.rules)

    def listed(self) -> str:
        """The texts as AWS lists them about the items of a list."""
        return "[" + ", ".join([*(text for text, _ in self.rules), _NOT_NULL]) + "]"

    def _add_enum(self, values: Sequence[str]) -> None:
        allowed = frozenset(values)
        self.rules.append(
            (f"Member must satisfy enum value set: [{', '.join(values)}]", lambda value: value in allowed)
        )

    def _add_range(self, traits: Mapping[str, Any]) -> None:
        if (least := traits.get("min")) is not None:
            text = f"Member must have value greater than or equal to {least}"
            self.rules.append((text, lambda value: bool(value >= least)))
        if (most := traits.get("max")) is not None:
            text = f"Member must have value less than or equal to {most}"
            self.rules.append((text, lambda value: bool(value <= most)))

    def _add_length(self, traits: Mapping[str, Any]) -> None:
        if (most := traits.get("max")) is not None:
            text = f"Member must have length less than or equal to {most}"
            self.rules.append((text, lambda value: len(value) <= most))
        if least := traits.get("min"):
            text = f"Member must have length greater than or equal to {least}"
            self.rules.append((text, lambda value: len(value) >= least))

    def _add_pattern(self, pattern: str) -> None:
        compiled = _compile(pattern)
        text = f"Member must satisfy regular expression pattern: {pattern}"
        self.rules.append((text, lambda value: compiled.fullmatch(value) is not None))


def _scalar_rules(shape: Any) -> _Rules | None:
    if shape.type_name in ("structure", "list", "map"):
        return None
    return _Rules(shape)


def _compile(pattern: str) -> re.Pattern[str]:
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def _camel(member: str) -> str:
    return member[0].lower() + member[1:]


def _sentence(shown: str, path: str, constraint: str) -> str:
    value = shown if shown == "null" else f"'{shown}'"
    return f"Value {value} at '{path}' failed to satisfy constraint: {constraint}"


def _shown(shape: Any) -> Callable[[Any], str]:
    """How an error shows a value; a secret is never shown."""
    return (lambda _: "***") if shape.metadata.get("sensitive") else _java


def _java(value: Any) -> str:
    """A value as Java prints it, for that is what AWS's sentences quote."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case bytes():
            return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
        case list():
            return "[" + ", ".join(map(_java, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key}={_java(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)
