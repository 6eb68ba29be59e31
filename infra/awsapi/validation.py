"""Owns the constraints of a model (required, length, range, pattern, enum) and AWS's sentences about them.

Every check is built once from the input shape. Called by the server after parsing; pure.
Texts: "1 validation error detected: Value '0' at 'batchSize' failed to satisfy constraint: Member must …", several
joined by "; " (AWS's Coral framework; seen in published recordings of real replies).
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
    """The check of one value, or None where the model asks for nothing."""
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
    own = _constraints(shape, _shown(shape))
    items: list[Check | None] = []
    # A list of scalars is judged as a whole: "Member must satisfy constraint: [Member must …, …]".
    item_rules = _scalar_rules(shape.member)

    def check(value: Any, path: str, found: list[str]) -> None:
        own(value, path, found)
        if items[0] is not None and item_rules is None:
            for position, item in enumerate(value, 1):
                if item is None:
                    found.append(_sentence("null", f"{path}.{position}.member", _NOT_NULL))
                else:
                    items[0](item, f"{path}.{position}.member", found)
        elif item_rules is not None and not all(item is not None and item_rules.hold(item) for item in value):
            found.append(
                _sentence(_java(value), path, f"Member must satisfy constraint: {item_rules.listed()}")
            )

    known[shape.name] = check
    items.append(_check(shape.member, known))
    return check


def _map(shape: Any, known: dict[str, Check]) -> Check:
    own = _constraints(shape, _shown(shape))
    keys, values = _scalar_rules(shape.key), _scalar_rules(shape.value)
    nested: list[Check | None] = []

    def check(value: Any, path: str, found: list[str]) -> None:
        own(value, path, found)
        if keys is not None and not all(keys.hold(key) for key in value):
            found.append(_sentence(_java(value), path, f"Map keys must satisfy constraint: {keys.listed()}"))
        if values is not None and not all(item is not None and values.hold(item) for item in value.values()):
            found.append(
                _sentence(_java(value), path, f"Map value must satisfy constraint: {values.listed()}")
            )
        if nested[0] is not None and values is None:
            for key, item in value.items():
                if item is not None:
                    nested[0](item, f"{path}.{key}.member", found)

    known[shape.name] = check
    nested.append(_check(shape.value, known))
    return check


def _scalar(shape: Any) -> Check | None:
    return _constraints(shape, _shown(shape)) if _Rules(shape).rules else None


def _constraints(shape: Any, show: Callable[[Any], str]) -> Check:
    rules = _Rules(shape).rules

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
