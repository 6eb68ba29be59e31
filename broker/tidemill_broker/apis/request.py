"""One request as its handler sees it: what is asked, over which connection, and whether it is allowed.

A connection may have many requests in work, so what belongs to one stands here. Which right an API needs
stands in its handler, where Kafka's KafkaApis and ControllerApis check it; a denial is Kafka's error code for
the type of the resource.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidemill_broker.apis.api import CloseConnection, Rejected
from tidemill_broker.apis.broker import Connection
from tidemill_broker.auth.authorization_cache import AuthorizationCache
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import RequestHeader, first_string
from tidemill_broker.protocol.schema import ResponseSchema, response_schema

# Of one request: each is decided and logged while all other requests wait. (Kafka has no limit.)
DENIALS_MAX: Final = 10_000

_DENIALS: Final[Mapping[ResourceType, tuple[ErrorCode, str]]] = {
    ResourceType.TOPIC: (ErrorCode.topic_authorization_failed, "Topic authorization failed."),
    ResourceType.GROUP: (ErrorCode.group_authorization_failed, "Group authorization failed."),
    ResourceType.CLUSTER: (ErrorCode.cluster_authorization_failed, "Cluster authorization failed."),
    ResourceType.TRANSACTIONAL_ID: (
        ErrorCode.transactional_id_authorization_failed,
        "Transactional Id authorization failed.",
    ),
}


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A decoded request; `body` is the entity of its version, `api` its API's name."""

    api: str
    header: RequestHeader
    body: Any
    connection: Connection
    denials: int = 0

    @property
    def key(self) -> int:
        """The API key."""
        return self.header.api_key

    @property
    def version(self) -> int:
        """The version of the API that the client speaks; the response is in the same."""
        return self.header.api_version

    @property
    def client_id(self) -> str | None:
        """The client's name for itself."""
        return self.header.client_id

    @property
    def rights(self) -> AuthorizationCache:
        """The decisions about the connection's session; a new login replaces them."""
        return self.connection.rights

    @property
    def reply(self) -> ResponseSchema:
        """The classes that a response to this request is made of."""
        return response_schema(self.header)

    def allows(
        self, operation: Operation, resource_type: ResourceType, name: str, *, audited: bool = True
    ) -> bool:
        """Tell whether this may be done; `audited=False` where nothing was asked for by its name."""
        return self.rights.allows(
            operation, resource_type, name, api=self.api, client_id=self.client_id, audited=audited
        )

    def denial(self, operation: Operation, resource_type: ResourceType, name: str) -> ErrorCode:
        """Return the error code of a denial, or `none`. Raises CloseConnection after DENIALS_MAX of them."""
        if self.allows(operation, resource_type, name):
            return ErrorCode.none
        self.denials += 1
        if self.denials > DENIALS_MAX:
            raise CloseConnection(f"{self.api} was denied more than {DENIALS_MAX} things in one request")
        return _DENIALS[resource_type][0]

    def authorize(self, operation: Operation, resource_type: ResourceType, name: str) -> None:
        """Raise Rejected unless this may be done."""
        if self.denial(operation, resource_type, name) is not ErrorCode.none:
            raise Rejected(*_DENIALS[resource_type])

    def allows_some(self, operation: Operation, resource_type: ResourceType) -> bool:
        """Tell whether this may be done to any resource of the type."""
        return self.rights.allows_some(operation, resource_type)

    def operations(self, resource_type: ResourceType, name: str) -> int:
        """Return all that may be done, as Kafka's bit field of authorized operations."""
        return self.rights.operations(resource_type, name)

    def may_describe(self, resource_type: ResourceType, name: str) -> bool:
        """Tell whether a listing shows this resource; what it leaves out is no denial."""
        return self.allows(Operation.DESCRIBE, resource_type, name, audited=False)

    def may_create_any(self) -> bool:
        """Tell whether topics of all names may be created; if not, each name is authorized by itself."""
        return self.allows(Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, audited=False)


# The right that a whole request needs, known before any of its elements is decoded (`Api.right`). The handler
# answers the denial, and that is what the audit log tells.
Right = Callable[[Connection, RequestHeader, memoryview | bytes], bool]


def cluster_right(operation: Operation) -> Right:
    """Make the check of a right on the cluster."""

    def holds(connection: Connection, _header: RequestHeader, _frame: memoryview | bytes) -> bool:
        return connection.rights.allows(operation, ResourceType.CLUSTER, CLUSTER_NAME, api="", audited=False)

    return holds


def group_right(operation: Operation, *, many_since: int | None = None) -> Right:
    """Make the check of a right on the group that the body begins with; since that version there are many."""

    def holds(connection: Connection, header: RequestHeader, frame: memoryview | bytes) -> bool:
        if many_since is not None and header.api_version >= many_since:
            return True
        group_id = first_string(header, frame)
        return connection.rights.allows(operation, ResourceType.GROUP, group_id, api="", audited=False)

    return holds
