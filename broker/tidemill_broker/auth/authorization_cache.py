"""What one connection may do: the authorizer's decisions, remembered while its version stays.

Every handler asks here, by Kafka's operation and resource; a denial is told to the audit log. Made anew when
the connection's session changes. Knows no API.

See docs/decisions/0950.
"""

from __future__ import annotations

from typing import Final

from tidemill_broker._core import AllowedTopics
from tidemill_broker.auth.audit import Audit
from tidemill_broker.auth.authorizer import Authorizer, Decision, Operation, ResourceType
from tidemill_broker.auth.session import Session

# Of one connection; a client that asks for more names than this pays for each decision again.
DECISIONS_MAX: Final = 4096
# Kafka: AclEntry.supportedOperations, in the order of their codes.
_OPERATIONS: Final = {
    ResourceType.TOPIC: (
        Operation.READ,
        Operation.WRITE,
        Operation.CREATE,
        Operation.DELETE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.GROUP: (
        Operation.READ,
        Operation.DELETE,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceType.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
}


class AuthorizationCache:
    """`host` is the peer's IP address, `peer` its address and port.

    `writable` and `readable` are topics that the native core keeps as allowed for Produce and Fetch; what it
    leaves undecided is decided here too.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        session: Session,
        *,
        host: str,
        audit: Audit,
        peer: str,
    ) -> None:
        self.session = session
        self.version = authorizer.version
        self.writable = AllowedTopics()
        self.readable = AllowedTopics()
        self._authorizer = authorizer
        self._host = host
        self._audit = audit
        self._peer = peer
        self._decisions: dict[tuple[Operation, ResourceType, str], Decision] = {}
        self._some: dict[tuple[Operation, ResourceType], bool] = {}

    def allows(
        self,
        operation: Operation,
        resource_type: ResourceType,
        name: str,
        *,
        api: str,
        client_id: str | None = None,
        audited: bool = True,
    ) -> bool:
        """Tell whether this may be done; `audited=False` is for listings, which leave out what is denied."""
        decision = self._decide(operation, resource_type, name)
        if audited and not decision.allowed:
            self._audit.denied(
                session=self.session,
                peer=self._peer,
                client_id=client_id,
                api=api,
                operation=operation,
                resource_type=resource_type,
                name=name,
                reason=decision.reason,
            )
        return decision.allowed

    def allows_some(self, operation: Operation, resource_type: ResourceType) -> bool:
        """Tell whether it may be done to any resource of this type."""
        self.refresh()
        key = (operation, resource_type)
        if key not in self._some:
            self._some[key] = self._authorizer.allows_some(self.session, self._host, operation, resource_type)
        return self._some[key]

    def operations(self, resource_type: ResourceType, name: str) -> int:
        """Tell all that may be done, as Kafka's authorized-operations bit field."""
        return sum(
            1 << operation
            for operation in _OPERATIONS[resource_type]
            if self._decide(operation, resource_type, name).allowed
        )

    def refresh(self) -> None:
        """Forget all decisions if the rules have changed; `version` is then that of the new ones."""
        version = self._authorizer.version
        if version != self.version:
            self.version = version
            self._decisions.clear()
            self._some.clear()
            self.writable.forget()
            self.readable.forget()

    def _decide(self, operation: Operation, resource_type: ResourceType, name: str) -> Decision:
        self.refresh()
        key = (operation, resource_type, name)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._authorizer.decide(self.session, self._host, operation, resource_type, name)
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision
