"""Kafka's ACLs and what they say: the StandardAuthorizer's rules, over an index that follows every change.

Pure: no file, no clock, no session. `store` keeps the ACLs, `authorizer` asks for decisions, `apis.acls` for
lists. Authority: StandardAuthorizerData, ResourcePatternFilter and Authorizer.authorizeByResourceType of
Apache Kafka 4.3.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import Final

from tidemill_broker.auth.authorizer import Operation, ResourceType

ANY_NAME: Final = "*"  # a LITERAL of this name covers every resource of its type
ANY_HOST: Final = "*"
ANYBODY: Final = "User:*"  # whatever the type of who asks


class PatternType(IntEnum):
    """Codes of org.apache.kafka.common.resource.PatternType; ANY and MATCH are for filters only."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Permission(IntEnum):
    """Codes of org.apache.kafka.common.acl.AclPermissionType; ANY is for filters only."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


# What else an ALLOW of an operation allows, seen from what is asked. A DENY implies nothing.
_IMPLIED_BY: Final = {
    Operation.DESCRIBE: frozenset((Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER)),
    Operation.DESCRIBE_CONFIGS: frozenset((Operation.ALTER_CONFIGS,)),
}
_NOTHING: Final[frozenset[Operation]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acl:
    """One rule (Kafka: AclBinding); two that are equal are one. `principal` is `Type:name`."""

    resource_type: ResourceType
    pattern_type: PatternType
    name: str
    principal: str
    host: str
    operation: Operation
    permission: Permission

    def __str__(self) -> str:
        return (
            f"{self.permission.name} {self.operation.name} to {self.principal} from {self.host}"
            f" on {self.pattern_type.name} {self.resource_type.name} {self.name!r}"
        )

    def speaks_of(self, host: str, operation: Operation) -> bool:
        """Whether the rule is about this host and operation."""
        return self.host in (ANY_HOST, host) and (
            self.operation in (operation, Operation.ALL)
            or (
                self.permission is Permission.ALLOW and self.operation in _IMPLIED_BY.get(operation, _NOTHING)
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AclFilter:
    """Which ACLs are meant (Kafka: AclBindingFilter): None and ANY match everything.

    Pattern type MATCH means all that would cover a resource of that name, prefixes and `*` included.
    """

    resource_type: ResourceType = ResourceType.ANY
    pattern_type: PatternType = PatternType.ANY
    name: str | None = None
    principal: str | None = None
    host: str | None = None
    operation: Operation = Operation.ANY
    permission: Permission = Permission.ANY

    def matches(self, acl: Acl) -> bool:
        """Whether it means this ACL."""
        return (
            self.resource_type in (ResourceType.ANY, acl.resource_type)
            and self.pattern_type in (PatternType.ANY, PatternType.MATCH, acl.pattern_type)
            and (self.name is None or self._names(self.name, acl))
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
        )

    def _names(self, name: str, acl: Acl) -> bool:
        return _covers(acl, name) if self.pattern_type is PatternType.MATCH else acl.name == name


def _covers(acl: Acl, name: str) -> bool:
    if acl.pattern_type is PatternType.PREFIXED:
        return name.startswith(acl.name)
    return acl.name in (name, ANY_NAME)


class _Patterns:
    """ACLs by their pattern; finds those that cover a name without a look at the others."""

    __slots__ = ("_lengths", "_literal", "_prefixed")

    def __init__(self) -> None:
        self._literal: dict[str, dict[Acl, None]] = {}
        self._prefixed: dict[str, dict[Acl, None]] = {}
        self._lengths: dict[int, int] = {}  # of prefixes, and how many distinct ones have it

    def __iter__(self) -> Iterator[Acl]:
        return chain.from_iterable(chain(self._literal.values(), self._prefixed.values()))

    def __bool__(self) -> bool:
        return bool(self._literal or self._prefixed)

    def add(self, acl: Acl) -> None:
        names = self._names(acl)
        if acl.name not in names:
            names[acl.name] = {}
            self._count(acl, 1)
        names[acl.name][acl] = None

    def remove(self, acl: Acl) -> None:
        names = self._names(acl)
        del names[acl.name][acl]
        if not names[acl.name]:
            del names[acl.name]
            self._count(acl, -1)

    def covering(self, name: str) -> Iterator[Acl]:
        """Find each ACL that covers a resource of that name."""
        yield from self._literal.get(name, ())
        if name != ANY_NAME:
            yield from self._literal.get(ANY_NAME, ())
        for length in self._lengths:
            if length <= len(name):
                yield from self._prefixed.get(name[:length], ())

    def named(self, name: str) -> Iterator[Acl]:
        """Find each ACL whose pattern is spelled so."""
        return chain(self._literal.get(name, ()), self._prefixed.get(name, ()))

    def _names(self, acl: Acl) -> dict[str, dict[Acl, None]]:
        return self._prefixed if acl.pattern_type is PatternType.PREFIXED else self._literal

    def _count(self, acl: Acl, change: int) -> None:
        if acl.pattern_type is not PatternType.PREFIXED:
            return
        length = len(acl.name)
        count = self._lengths.get(length, 0) + change
        if count:
            self._lengths[length] = count
        else:
            del self._lengths[length]


class AclRules:
    """All ACLs, indexed by type of resource and by principal; thousands cost a decision no more than one."""

    def __init__(self, acls: Iterable[Acl] = ()) -> None:
        self._all: dict[Acl, None] = {}
        self._of_type: dict[ResourceType, _Patterns] = {}
        self._of_principal: dict[tuple[ResourceType, str], _Patterns] = {}
        for acl in acls:
            self.add(acl)

    def __iter__(self) -> Iterator[Acl]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, acl: Acl) -> bool:
        return acl in self._all

    def add(self, acl: Acl) -> None:
        """Add a rule; one that is there already changes nothing."""
        if acl in self._all:
            return
        self._all[acl] = None
        self._of_type.setdefault(acl.resource_type, _Patterns()).add(acl)
        self._of_principal.setdefault((acl.resource_type, acl.principal), _Patterns()).add(acl)

    def remove(self, acl: Acl) -> None:
        """Take a rule away; it must be there."""
        del self._all[acl]
        self._of_type[acl.resource_type].remove(acl)
        key = (acl.resource_type, acl.principal)
        self._of_principal[key].remove(acl)
        if not self._of_principal[key]:
            del self._of_principal[key]

    def decisive(
        self, principal: str, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Acl | None:
        """Find the rule that decides: any DENY, else any ALLOW; None where no rule speaks of this."""
        allowing = None
        for patterns in self._patterns_of(principal, resource_type):
            for acl in patterns.covering(name):
                if not acl.speaks_of(host, operation):
                    continue
                if acl.permission is Permission.DENY:
                    return acl
                allowing = allowing or acl
        return allowing

    def knows(self, resource_type: ResourceType, name: str) -> bool:
        """Whether there is any ACL for this resource, whoever and whatever it speaks of."""
        patterns = self._of_type.get(resource_type)
        return patterns is not None and next(patterns.covering(name), None) is not None

    def allow_some(
        self, principal: str, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Whether some ALLOW of this type is not wholly under a DENY (KIP-679: authorizeByResourceType).

        As in Kafka no operation implies another here, and an ALLOW of everything outweighs every DENY but
        one of everything.
        """
        denied, allowed = _Names(), _Names()
        for acl in chain.from_iterable(self._patterns_of(principal, resource_type)):
            if acl.host in (ANY_HOST, host) and acl.operation in (operation, Operation.ALL):
                (denied if acl.permission is Permission.DENY else allowed).add(acl)
        if ANY_NAME in denied.literal:
            return False
        return (
            ANY_NAME in allowed.literal
            or any(name not in denied.literal and not denied.has_prefix_of(name) for name in allowed.literal)
            or any(not denied.has_prefix_of(name) for name in allowed.prefixed)
        )

    def find(self, wanted: AclFilter) -> Iterator[Acl]:
        """Find what a filter means."""
        return (acl for acl in self.candidates(wanted) if wanted.matches(acl))

    def candidates(self, wanted: AclFilter) -> Iterator[Acl]:
        """Find what a filter may mean: all that it takes to look at, few where it names a resource."""
        types = ResourceType if wanted.resource_type is ResourceType.ANY else (wanted.resource_type,)
        for each in types:
            patterns = (
                self._of_type.get(each)
                if wanted.principal is None
                else self._of_principal.get((each, wanted.principal))
            )
            if patterns is None:
                continue
            if wanted.name is None:
                yield from patterns
            elif wanted.pattern_type is PatternType.MATCH:
                yield from patterns.covering(wanted.name)
            else:
                yield from patterns.named(wanted.name)

    def _patterns_of(self, principal: str, resource_type: ResourceType) -> Iterator[_Patterns]:
        for who in dict.fromkeys((principal, ANYBODY)):
            patterns = self._of_principal.get((resource_type, who))
            if patterns is not None:
                yield patterns


class _Names:
    """The names of patterns, and whether one of them is a prefix of another name."""

    def __init__(self) -> None:
        self.literal: set[str] = set()
        self.prefixed: set[str] = set()
        self._lengths: set[int] = set()

    def add(self, acl: Acl) -> None:
        if acl.pattern_type is PatternType.PREFIXED:
            self.prefixed.add(acl.name)
            self._lengths.add(len(acl.name))
        else:
            self.literal.add(acl.name)

    def has_prefix_of(self, name: str) -> bool:
        return any(name[:length] in self.prefixed for length in self._lengths if length <= len(name))
