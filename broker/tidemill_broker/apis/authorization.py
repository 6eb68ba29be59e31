"""Handlers ask here whether the connection may do what it asks; a denial is Kafka's error code for its level.

Which right an API needs stands in its handler, where Kafka's KafkaApis and ControllerApis check it.
"""

from collections.abc import Mapping
from typing import Final

from tidemill_broker.apis.api import CloseConnection, Refused
from tidemill_broker.apis.broker import Connection
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode

# Of one request: each is decided and told while everybody else waits. (Kafka has no limit.)
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


def denial(
    connection: Connection, operation: Operation, resource_type: ResourceType, name: str, *, api: str
) -> ErrorCode:
    """Tell why it may not be done: the code for this type of resource, or `none` where it may.

    Raises CloseConnection for a request that is denied too much.
    """
    if connection.rights.allows(operation, resource_type, name, api=api):
        return ErrorCode.none
    connection.denials += 1
    if connection.denials > DENIALS_MAX:
        raise CloseConnection(f"{api} was denied more than {DENIALS_MAX} things in one request")
    return _DENIALS[resource_type][0]


def authorize(
    connection: Connection, operation: Operation, resource_type: ResourceType, name: str, *, api: str
) -> None:
    """Raise Refused unless it may be done."""
    if denial(connection, operation, resource_type, name, api=api) is not ErrorCode.none:
        raise Refused(*_DENIALS[resource_type])


def may_describe(connection: Connection, resource_type: ResourceType, name: str, *, api: str) -> bool:
    """Tell whether a listing shows this one; what it leaves out was not asked for, so nothing was denied."""
    return connection.rights.allows(Operation.DESCRIBE, resource_type, name, api=api, audited=False)


def may_create_any(connection: Connection, *, api: str) -> bool:
    """Tell whether topics of all names may be created; if not, each name is a question of its own."""
    return connection.rights.allows(
        Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME, api=api, audited=False
    )
