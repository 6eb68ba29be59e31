"""A policy document, compiled: `parse_policy` reads the JSON object, evaluation asks the `Policy`.

Stricter than silence: an element or a spelling that IAM would reject is rejected here too, by name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tidemill_broker.auth.iam.policies.conditions import Check, parse_conditions
from tidemill_broker.auth.iam.policies.errors import PolicyError
from tidemill_broker.auth.iam.policies.patterns import Context, Pattern, Style
from tidemill_broker.auth.iam.policies.principals import Caller, Match, Principals, parse_principals

Effect = Literal["Allow", "Deny"]

_VERSIONS: Final = ("2012-10-17", "2008-10-17")
# "variables aren't recognized" in the older one, the default (IAM: Version).
_HAS_VARIABLES: Final = "2012-10-17"
_POLICY_ELEMENTS: Final = frozenset({"Version", "Id", "Statement"})
_STATEMENT_ELEMENTS: Final = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_PRINCIPAL_ELEMENTS: Final = frozenset({"Principal", "NotPrincipal"})
_ACTION: Final = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?-]+")
_SID: Final = re.compile(r"[A-Za-z0-9]{0,100}")
_SID_OF_RESOURCE_POLICY: Final = re.compile(r"[\x20-\x7e]{0,100}")
_NO_CONTEXT: Final[Context] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """Action or NotAction, Resource or NotResource: what is named, or all else."""

    named: tuple[Pattern, ...]
    inverted: bool

    def matches(self, text: str, context: Context) -> bool:
        """Tell whether this means the text."""
        return self.inverted != any(pattern.matches(text, context) for pattern in self.named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement. `label` is how reasons name it: its Sid, or its place in the policy."""

    label: str
    effect: Effect
    actions: Patterns
    resources: Patterns
    conditions: tuple[Check, ...]
    principals: Principals | None
    spares_principals: bool  # NotPrincipal: all but those named

    def applies(self, action: str, resource: str, context: Context) -> bool:
        """Tell whether this speaks about the request, whoever makes it."""
        return (
            self.names(action)
            and self.resources.matches(resource, context)
            and all(check.holds(context) for check in self.conditions)
        )

    def names(self, action: str) -> bool:
        """Tell whether this speaks about the action, on whatever resource."""
        return self.actions.matches(action, _NO_CONTEXT)

    def match(self, caller: Caller, *, bounded: bool) -> Match:
        """Tell how closely this means the caller; `bounded`: a permissions boundary limits them."""
        if self.principals is None:
            return Match.DIRECT
        if not self.spares_principals:
            return self.principals.match(caller)
        # IAM: with a boundary, NotPrincipal with Deny "will always deny … regardless of the values".
        return Match.NONE if self.principals.covers(caller) and not bounded else Match.DIRECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A compiled policy. `keys`: the condition keys and variables (lower case) that its decisions hang on."""

    statements: tuple[Statement, ...]
    keys: frozenset[str]


def parse_policy(document: Mapping[str, Any], *, resource_based: bool = False) -> Policy:
    """Compile a document as JSON gives it. Raises PolicyError, which names the statement and the fix."""
    if not isinstance(document, Mapping):
        raise PolicyError('the policy is not an object; write {"Version": "2012-10-17", "Statement": […]}')
    _reject_unknown(document, _POLICY_ELEMENTS, "the policy")
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise PolicyError(f'the policy\'s Version is {version!r}; write "2012-10-17"')
    reader = _Reader(resource_based=resource_based, variables=version == _HAS_VARIABLES)
    statements = tuple(reader.read(at, element) for at, element in enumerate(_statements(document), 1))
    return Policy(statements=statements, keys=frozenset(reader.keys))


def _reject_unknown(element: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    if unknown := sorted(str(name) for name in element.keys() - known):
        raise PolicyError(
            f"{what} has the unknown element {unknown[0]!r}; {what} holds {', '.join(sorted(known))}"
        )


def _statements(document: Mapping[str, Any]) -> list[Any]:
    statements = document.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    if not listed or statements is None:
        raise PolicyError("the policy has no Statement; write at least one")
    return listed


class _Reader:
    """Reads the statements of one policy and gathers what they depend on."""

    def __init__(self, *, resource_based: bool, variables: bool) -> None:
        self._resource_based = resource_based
        self._variables = variables
        self._sids: set[str] = set()
        self.keys: set[str] = set()

    def read(self, at: int, element: object) -> Statement:
        """Read the statement at a place, counted from 1."""
        sid = element.get("Sid") if isinstance(element, dict) else None
        where = f"statement {at} (Sid {sid!r})" if sid else f"statement {at}"
        try:
            return self._read(element, label=f'"{sid}"' if sid else str(at))
        except PolicyError as fault:
            raise PolicyError(f"{where}: {fault}") from None

    def _read(self, element: object, *, label: str) -> Statement:
        if not isinstance(element, dict):
            raise PolicyError('it is not an object; write {"Effect": …, "Action": …, "Resource": …}')
        _reject_unknown(element, self._elements(element), "the statement")
        self._check_sid(element.get("Sid", ""))
        effect = element.get("Effect")
        if effect not in ("Allow", "Deny"):
            raise PolicyError(f"its Effect is {effect!r}; write Allow or Deny")
        conditions = parse_conditions(element.get("Condition", {}), variables=self._variables)
        self.keys.update(*(check.keys for check in conditions))
        return Statement(
            label=label,
            effect=effect,
            actions=self._patterns(element, "Action", self._action),
            resources=self._patterns(element, "Resource", self._resource),
            conditions=conditions,
            principals=self._principals(element),
            spares_principals="NotPrincipal" in element,
        )

    def _elements(self, element: Mapping[str, Any]) -> frozenset[str]:
        if not self._resource_based and element.keys() & _PRINCIPAL_ELEMENTS:
            raise PolicyError(
                "an identity-based policy names no principal; leave Principal and NotPrincipal out"
            )
        return _STATEMENT_ELEMENTS | (_PRINCIPAL_ELEMENTS if self._resource_based else frozenset())

    def _check_sid(self, sid: object) -> None:
        allowed = _SID_OF_RESOURCE_POLICY if self._resource_based else _SID
        if not isinstance(sid, str) or not allowed.fullmatch(sid):
            raise PolicyError("its Sid is not made of letters and digits (100 at most); write such a one")
        if sid in self._sids:
            raise PolicyError("its Sid is another statement's too; give each its own")
        if sid:
            self._sids.add(sid)

    def _principals(self, element: Mapping[str, Any]) -> Principals | None:
        if not self._resource_based:
            return None
        if element.get("Effect") == "Allow" and "NotPrincipal" in element:
            raise PolicyError(
                "NotPrincipal with Allow is not supported by IAM; name who is allowed in Principal"
            )
        return parse_principals(_one_of(element, "Principal"))

    def _patterns(self, element: Mapping[str, Any], name: str, read: Callable[[str], Pattern]) -> Patterns:
        values = _one_of(element, name)
        texts: list[Any] = values if isinstance(values, list) else [values]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise PolicyError(f"its {name} is neither a text nor a list of texts; name at least one")
        named = tuple(read(text) for text in texts)
        self.keys.update(*(pattern.keys for pattern in named))
        return Patterns(named=named, inverted=f"Not{name}" in element)

    def _action(self, text: str) -> Pattern:
        if not _ACTION.fullmatch(text):
            raise PolicyError(
                f"its action {text!r} is not service:Name; write one such as kafka-cluster:ReadData"
            )
        return Pattern(text, Style.TEXT, variables=False, ignore_case=True)

    def _resource(self, text: str) -> Pattern:
        if text != "*" and not text.startswith("arn:"):
            raise PolicyError(f'its resource {text!r} is no ARN; write "*" or an ARN such as arn:aws:kafka:…')
        return Pattern(text, Style.RESOURCE, variables=self._variables)


def _one_of(element: Mapping[str, Any], name: str) -> object:
    """Give the value of the element or of its opposite; exactly one of them must be there."""
    present = [each for each in (name, f"Not{name}") if each in element]
    if len(present) != 1:
        raise PolicyError(f"it needs one of {name} and Not{name}, and has {len(present)}; write exactly one")
    return element[present[0]]
