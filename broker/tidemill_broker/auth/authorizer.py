"""May this session do this operation on this resource: what every handler asks, and who may answer.

Operations and resource types are Kafka's, whoever decides: IAM's action follows from the pair. Knows no wire
format and no connection.
"""

from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from tidemill_broker.auth.session import Session

CLUSTER_NAME: Final = "kafka-cluster"  # Kafka: Resource.CLUSTER_NAME, the only name of a CLUSTER


class Operation(IntEnum):
    """Codes of org.apache.kafka.common.acl.AclOperation."""

    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class ResourceType(IntEnum):
    """Codes of org.apache.kafka.common.resource.ResourceType."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class Decision(NamedTuple):
    """Allowed or denied, and why: the reason is one clause for the audit line, and names no secret."""

    allowed: bool
    reason: str


class Authorizer(Protocol):
    """Decides from rules in memory: fast, without waiting, and without side effects."""

    @property
    def version(self) -> int:
        """Grows whenever a decision might come out differently: earlier decisions are void then."""
        ...

    def decide(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Decision:
        """Decide for one resource by its literal name; `host` is the peer's IP address."""
        ...

    def allows_some(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Tell whether any resource of this type may be had (Kafka: authorizeByResourceType, KIP-679)."""
        ...
