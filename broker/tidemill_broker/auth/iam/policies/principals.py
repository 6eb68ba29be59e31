"""The caller, and whether (and how closely) a resource-based policy's Principal or NotPrincipal means it.

Authority: IAM User Guide, "Principal", "NotPrincipal" and "How AWS enforcement code logic evaluates".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, Literal

from tidemill_broker.auth.iam.policies.errors import PolicyError

Kind = Literal["root", "user", "role", "session", "federated"]

_ARN: Final = re.compile(
    r"(?P<arn>arn:(?P<partition>[a-z-]+):(?P<service>iam|sts)::(?P<account>\d{12}):"
    r"(?P<type>root|user|role|assumed-role|federated-user)(?:/(?P<path>[\x21-\x7e]+))?)"
)
_ACCOUNT_ID: Final = re.compile(r"\d{12}")
_KINDS: Final[dict[tuple[str, str], Kind]] = {
    ("iam", "root"): "root",
    ("iam", "user"): "user",
    ("iam", "role"): "role",
    ("sts", "assumed-role"): "session",
    ("sts", "federated-user"): "federated",
}
_FIX: Final = 'write "*", an account id, or the ARN of an account root, user, role or session'


class Match(IntEnum):
    """How closely a principal is named: what is granted depends on it."""

    NONE = 0
    ACCOUNT = 1  # the account is: it may hand the right on by identity policies, and has given it nobody yet
    ROLE = 2  # the session's role is: boundary and session policy still limit what is granted
    DIRECT = 3  # the user, the session itself, or everybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A principal, by its ARN. `name` is the user's, the role's or the federated user's, without its path."""

    arn: str
    kind: Kind
    partition: str
    account: str
    name: str


@lru_cache(maxsize=1024)
def parse_caller(arn: str) -> Caller | None:
    """Read the ARN that STS gives a principal; None: it is none that could call."""
    read = _ARN.fullmatch(arn)
    kind = _KINDS.get((read["service"], read["type"])) if read else None
    if read is None or kind is None or (kind == "root") != (read["path"] is None):
        return None
    parts = (read["path"] or "root").split("/")
    if kind == "session" and len(parts) != len(("role", "session")):
        return None
    name = parts[0] if kind == "session" else parts[-1]
    return Caller(arn=arn, kind=kind, partition=read["partition"], account=read["account"], name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """The AWS principals of one statement; services and federated identities never call Kafka.

    `role_names` holds (account, name) of each role: a session's ARN does not tell its role's path.
    """

    everybody: bool
    accounts: frozenset[str]
    arns: frozenset[str]
    role_names: frozenset[tuple[str, str]]

    def match(self, caller: Caller) -> Match:
        """Tell how closely this names the caller."""
        if self.everybody or caller.arn in self.arns:
            return Match.ROLE if caller.kind == "role" and not self.everybody else Match.DIRECT
        if self._names_role_of(caller):
            return Match.ROLE
        if caller.account in self.accounts:
            return Match.DIRECT if caller.kind == "root" else Match.ACCOUNT
        return Match.NONE

    def covers(self, caller: Caller) -> bool:
        """Tell whether the caller and their account are both listed, as NotPrincipal needs to spare them.

        AWS may look at the account first, then the role, then the session; it asks for "the ARN of the role
        and the ARN of the account that contains that role" (NotPrincipal), so a session alone is not enough.
        """
        listed = caller.arn in self.arns or caller.kind == "root"
        if caller.kind == "session":
            listed = self._names_role_of(caller)
        return self.everybody or (listed and caller.account in self.accounts)

    def _names_role_of(self, caller: Caller) -> bool:
        return caller.kind == "session" and (caller.account, caller.name) in self.role_names


def parse_principals(element: object) -> Principals:
    """Read a Principal or NotPrincipal element. Raises PolicyError."""
    if element == "*":
        return _principals(["*"])
    if not isinstance(element, dict) or not element:
        raise PolicyError(f'its principal is neither "*" nor an object such as {{"AWS": …}}; {_FIX}')
    if unknown := element.keys() - {"AWS", "Service", "Federated", "CanonicalUser"}:
        raise PolicyError(f"it has principals of unknown type {min(unknown)!r}; use AWS")
    for name, values in element.items():
        _texts(name, values)
    return _principals(_texts("AWS", element["AWS"]) if "AWS" in element else [])


def _texts(name: str, values: object) -> list[str]:
    texts: list[Any] = values if isinstance(values, list) else [values]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise PolicyError(f"its {name} principals are neither a text nor a list of texts; {_FIX}")
    return texts


def _principals(texts: Iterable[str]) -> Principals:
    named = [_caller(text) for text in texts if text != "*"]
    return Principals(
        everybody="*" in texts,
        accounts=frozenset(each.account for each in named if each.kind == "root"),
        arns=frozenset(each.arn for each in named),
        role_names=frozenset((each.account, each.name) for each in named if each.kind == "role"),
    )


def _caller(text: str) -> Caller:
    arn = f"arn:aws:iam::{text}:root" if _ACCOUNT_ID.fullmatch(text) else text
    caller = parse_caller(arn)
    if caller is None or set(text) & set("*?"):
        # IAM, "Principal": a wildcard cannot match part of a principal's name or ARN.
        raise PolicyError(f"its principal {text!r} names no principal; {_FIX}")
    return caller
