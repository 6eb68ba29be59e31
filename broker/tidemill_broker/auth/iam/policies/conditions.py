"""The Condition element: operators, compiled to predicates on the request's context.

Authority: IAM User Guide, "Condition operators" and "Multivalued context keys". A missing key fails an
operator, and satisfies a negated one, an …IfExists and a ForAllValues.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from operator import eq, ge, gt, le, lt
from typing import Any, Final, Literal

from tidemill_broker.auth.iam.policies.errors import PolicyError
from tidemill_broker.auth.iam.policies.patterns import Context, Pattern, Style, Template

# Whether a value of the request satisfies one value of the policy.
_Test = Callable[[str, Context], bool]
_Compare = Callable[[Any, Any], bool]

_ALL: Final = "ForAllValues:"
_ANY: Final = "ForAnyValue:"
_IF_EXISTS: Final = "IfExists"
_NULL: Final = "Null"


@dataclass(frozen=True, slots=True)
class Operand:
    """One value of the policy, compiled; `keys` are the variables it asks the request for."""

    test: _Test
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator with one key. `operands` are alternatives; `negated` asks that none of them is met."""

    key: str  # in lower case: names of keys have no case
    operands: tuple[Operand, ...]
    negated: bool
    quantifier: Literal["", "ForAllValues:", "ForAnyValue:"] = ""
    if_exists: bool = False

    @property
    def keys(self) -> frozenset[str]:
        """All keys of the request that this looks at."""
        return frozenset({self.key}).union(*(operand.keys for operand in self.operands))

    def holds(self, context: Context) -> bool:
        """Tell whether the request satisfies this."""
        values = context.get(self.key, ())
        if not values:
            return self.if_exists or self.quantifier == _ALL or (self.negated and self.quantifier != _ANY)
        results = (self._meets(value, context) for value in values)
        # Without a quantifier a key has one value (IAM: single-valued); should it have more, none may be
        # rejected by a negated operator, and one is enough for another.
        return (
            any(results) if self.quantifier == _ANY or not (self.quantifier or self.negated) else all(results)
        )

    def _meets(self, value: str, context: Context) -> bool:
        return self.negated != any(operand.test(value, context) for operand in self.operands)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """The Null operator: whether a key is there at all."""

    key: str
    absent: bool

    @property
    def keys(self) -> frozenset[str]:
        """The key of the request that this looks at."""
        return frozenset({self.key})

    def holds(self, context: Context) -> bool:
        """Tell whether the request satisfies this."""
        return self.absent != bool(context.get(self.key))


Check = Condition | Presence


def parse_conditions(element: object, *, variables: bool) -> tuple[Check, ...]:
    """Compile a Condition element: all of the result must hold. Raises PolicyError."""
    return tuple(
        _check(operator, key, _texts(value, f"the values of {operator} {key}"), variables=variables)
        for operator, keys in _members(element, "Condition").items()
        for key, value in _members(keys, f"Condition {operator}").items()
    )


def _members(element: object, what: str) -> Mapping[str, object]:
    if not isinstance(element, dict):
        raise PolicyError(f'{what} is not an object; write {{"StringEquals": {{"key": "value"}}}}')
    return element


def _texts(value: object, what: str) -> list[str]:
    """Read a value or a list; JSON's booleans and numbers are as good as their texts (IAM's grammar)."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise PolicyError(f"{what} are an empty list; name at least one")
    return [_text(each, what) for each in values]


def _text(value: object, what: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise PolicyError(f"{what} are neither texts, numbers nor booleans; write a text or a list of texts")


def _check(name: str, key: str, values: list[str], *, variables: bool) -> Check:
    key = key.lower()
    if name == _NULL:
        return _presence(key, values)
    quantifier = next((prefix for prefix in (_ALL, _ANY) if name.startswith(prefix)), "")
    base = name.removeprefix(quantifier).removesuffix(_IF_EXISTS)
    if base not in _OPERATORS:
        near = get_close_matches(base, _OPERATORS, n=1) or ["StringEquals"]
        raise PolicyError(
            f"condition operator {name!r} is not one that is known here; did you mean {near[0]}?"
        )
    negated, compile_operand = _OPERATORS[base]
    return Condition(
        key=key,
        operands=tuple(compile_operand(value, variables) for value in values),
        negated=negated,
        quantifier=quantifier,  # type: ignore[arg-type]  # one of the three by the line that finds it
        if_exists=name.endswith(_IF_EXISTS),
    )


def _presence(key: str, values: list[str]) -> Presence:
    if len(values) != 1 or values[0].lower() not in ("true", "false"):
        raise PolicyError(f"Null {key} is {values}; write true (the key is absent) or false (it is present)")
    return Presence(key=key, absent=values[0].lower() == "true")


def _equals(value: str, variables: bool) -> Operand:  # noqa: FBT001 - one signature for all compilers
    template = Template(value, variables=variables)
    return Operand(lambda got, context: got == template.render(context), template.keys)


def _equals_ignoring_case(value: str, variables: bool) -> Operand:  # noqa: FBT001 - as above
    template = Template(value, variables=variables)

    def test(got: str, context: Context) -> bool:
        wanted = template.render(context)
        return wanted is not None and got.lower() == wanted.lower()

    return Operand(test, template.keys)


def _like(value: str, variables: bool) -> Operand:  # noqa: FBT001 - as above
    pattern = Pattern(value, Style.TEXT, variables=variables)
    return Operand(pattern.matches, pattern.keys)


def _arn_like(value: str, variables: bool) -> Operand:  # noqa: FBT001 - as above
    """ArnEquals and ArnLike are the same (IAM User Guide)."""
    pattern = Pattern(value, Style.ARN, variables=variables)
    return Operand(pattern.matches, pattern.keys)


def _bool(value: str, variables: bool) -> Operand:  # noqa: ARG001, FBT001 - as above; IAM has no variables here
    wanted = value.lower()
    if wanted not in ("true", "false"):
        raise PolicyError(f"Bool compares with {value!r}; write true or false")
    return Operand(lambda got, _: got.lower() == wanted)


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not number.is_finite():
        raise ValueError(text)
    return number


def _instant(text: str) -> float:
    """Read a date as seconds since the epoch: a number of them, or ISO 8601 (without a zone: UTC)."""
    try:
        return float(_number(text))
    except ValueError:
        read = datetime.fromisoformat(text)
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _ordered(read: Callable[[str], Any], expected: str, compare: _Compare) -> Callable[[str, bool], Operand]:
    def compile_operand(value: str, _variables: bool) -> Operand:  # noqa: FBT001 - as above
        try:
            wanted = read(value)
        except (ValueError, OverflowError):
            raise PolicyError(f"{value!r} is compared with a {expected}") from None
        return Operand(lambda got, _: _compared(read, got, wanted, compare))

    return compile_operand


def _compared(read: Callable[[str], Any], got: str, wanted: object, compare: _Compare) -> bool:
    try:
        return compare(read(got), wanted)
    except (ValueError, OverflowError):
        return False  # the request's value is of another kind


def _address(value: str, variables: bool) -> Operand:  # noqa: ARG001, FBT001 - as above
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise PolicyError(f"{value!r} is no address range; write CIDR such as 203.0.113.0/24") from None

    def test(got: str, _: Context) -> bool:
        try:
            return ip_address(got) in network
        except ValueError:
            return False

    return Operand(test)


def _numeric(compare: _Compare) -> Callable[[str, bool], Operand]:
    return _ordered(_number, "number; write one", compare)


def _date(compare: _Compare) -> Callable[[str, bool], Operand]:
    return _ordered(
        _instant, "date; write ISO 8601 such as 2030-01-31T00:00:00Z, or seconds since 1970", compare
    )


# Name -> whether it is negated, and what compiles one of its values. BinaryEquals is left out: a Kafka
# request has no binary key.
_OPERATORS: Final[Mapping[str, tuple[bool, Callable[[str, bool], Operand]]]] = {
    "StringEquals": (False, _equals),
    "StringNotEquals": (True, _equals),
    "StringEqualsIgnoreCase": (False, _equals_ignoring_case),
    "StringNotEqualsIgnoreCase": (True, _equals_ignoring_case),
    "StringLike": (False, _like),
    "StringNotLike": (True, _like),
    "ArnEquals": (False, _arn_like),
    "ArnLike": (False, _arn_like),
    "ArnNotEquals": (True, _arn_like),
    "ArnNotLike": (True, _arn_like),
    "Bool": (False, _bool),
    "NumericEquals": (False, _numeric(eq)),
    "NumericNotEquals": (True, _numeric(eq)),
    "NumericLessThan": (False, _numeric(lt)),
    "NumericLessThanEquals": (False, _numeric(le)),
    "NumericGreaterThan": (False, _numeric(gt)),
    "NumericGreaterThanEquals": (False, _numeric(ge)),
    "DateEquals": (False, _date(eq)),
    "DateNotEquals": (True, _date(eq)),
    "DateLessThan": (False, _date(lt)),
    "DateLessThanEquals": (False, _date(le)),
    "DateGreaterThan": (False, _date(gt)),
    "DateGreaterThanEquals": (False, _date(ge)),
    "IpAddress": (False, _address),
    "NotIpAddress": (True, _address),
}
