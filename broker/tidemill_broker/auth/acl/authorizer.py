"""Decides by Kafka's ACLs, as the StandardAuthorizer does: super users, rules, and the default without any.

Reads `AclStore`, and so follows every change at once. `auth.authorizers` asks it for `User` principals.
"""

from functools import lru_cache
from ipaddress import IPv6Address
from struct import unpack
from typing import Final

from tidemill_broker.auth.acl.rules import Permission
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.authorizer import Decision, Operation, ResourceType
from tidemill_broker.auth.session import Session

# Kafka asks for a resource of this name to tell whether the default or a wildcard lets everything pass.
_SOME_NAME: Final = "hardcode"
_SUPER_USER: Final = Decision(allowed=True, reason="a super user")
_NO_ACL_ALLOWED: Final = Decision(
    allowed=True, reason="no ACL for this resource, and allow.everyone.if.no.acl.found is true"
)
_NO_ACL_DENIED: Final = Decision(
    allowed=False, reason="no ACL for this resource, and allow.everyone.if.no.acl.found is false"
)
_NO_ALLOW: Final = Decision(allowed=False, reason="the resource has ACLs, and none of them allows it")


class AclAuthorizer:
    """The authorizer of ACLs; `super_users` are principals (`User:name`), who may do anything."""

    def __init__(self, store: AclStore, *, super_users: frozenset[str], allow_everyone: bool) -> None:
        self._store = store
        self._super_users = super_users
        self._default = _NO_ACL_ALLOWED if allow_everyone else _NO_ACL_DENIED

    @property
    def version(self) -> int:
        """Grows with each change of the ACLs."""
        return self._store.version

    def decide(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Decision:
        """Decide for one resource (Kafka: StandardAuthorizerData.authorize)."""
        principal = str(session.principal)
        if principal in self._super_users:
            return _SUPER_USER
        rules = self._store.rules
        acl = rules.decisive(principal, javas_address(host), operation, resource_type, name)
        if acl is not None:
            return Decision(allowed=acl.permission is Permission.ALLOW, reason=f"the ACL {acl}")
        return _NO_ALLOW if rules.knows(resource_type, name) else self._default

    def allows_some(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Tell whether some resource may be had, known by name or not (Kafka: authorizeByResourceType)."""
        if self.decide(session, host, operation, resource_type, _SOME_NAME).allowed:
            return True
        rules = self._store.rules
        return rules.allow_some(str(session.principal), javas_address(host), operation, resource_type)


@lru_cache(maxsize=1024)
def javas_address(host: str) -> str:
    """Spell an address as Kafka compares it with an ACL's host: ::1 is 0:0:0:0:0:0:0:1 (getHostAddress)."""
    if ":" not in host:
        return host
    address = IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    groups = ":".join(f"{group:x}" for group in unpack(">8H", address.packed))
    return f"{groups}%{address.scope_id}" if address.scope_id else groups


def parse_super_users(text: str) -> frozenset[str]:
    """Read the setting super.users: `User:name` separated by `;`. Raises ValueError."""
    users = [user.strip() for user in text.split(";")]
    for user in users:
        if user and ":" not in user:
            raise ValueError(f"{user!r} is no principal: write Type:name, as in User:{user}")
    return frozenset(filter(None, users))
