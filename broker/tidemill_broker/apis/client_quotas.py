"""DescribeClientQuotas 0-1: there are no quotas, and that is the answer.

`kafka-configs --describe --entity-type users` asks for quotas before it tells SCRAM users. What is asked is
checked as Kafka's ClientQuotasImage checks it.
"""

from typing import Any, Final

from tidemill_broker.apis.api import Api, Refused
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import RequestHeader
from tidemill_broker.protocol.schema import response_schema

USER, CLIENT_ID, IP = "user", "client-id", "ip"
# Kafka: DescribeClientQuotasRequest's match types, and whether each comes with a string.
EXACT, DEFAULT, SPECIFIED = range(3)
MATCHES: Final = {EXACT: True, DEFAULT: False, SPECIFIED: False}


def describe_client_quotas(
    _broker: Broker, connection: Connection, header: RequestHeader, request: Any
) -> Any:
    """Answer DescribeClientQuotas with no entries, or say what is wrong with the filter."""
    build = response_schema(header).DescribeClientQuotasResponse
    try:
        _check_rights(connection)
        _check(request.components)
    except Refused as refused:
        return build(error_code=refused.code, error_message=refused.message, entries=None)
    return build(error_code=ErrorCode.none, error_message="", entries=())


def _check_rights(connection: Connection) -> None:
    if not connection.rights.allows(
        Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME, api="DescribeClientQuotas"
    ):
        raise Refused(ErrorCode.cluster_authorization_failed, "Cluster authorization failed.")


def _check(components: Any) -> None:
    types: set[str] = set()
    for each in components:
        if not each.entity_type:
            raise Refused(ErrorCode.invalid_request, "Invalid empty entity type.")
        if each.entity_type in types:
            message = f"Entity type {each.entity_type} cannot appear more than once in the filter."
            raise Refused(ErrorCode.invalid_request, message)
        if each.entity_type not in (USER, CLIENT_ID, IP):
            raise Refused(ErrorCode.unsupported_version, f"Unsupported entity type {each.entity_type}")
        if each.match_type not in MATCHES:
            raise Refused(ErrorCode.invalid_request, f"Unknown match type {each.match_type}")
        if MATCHES[each.match_type] is (each.match is None):
            raise Refused(
                ErrorCode.invalid_request, "The match string and the match type contradict each other."
            )
        types.add(each.entity_type)
    if IP in types and len(types) > 1:
        raise Refused(
            ErrorCode.invalid_request,
            "Invalid entity filter component combination. IP filter component should not be used with"
            " user or clientId filter component.",
        )


APIS: Final = (
    Api(key=48, name="DescribeClientQuotas", min_version=0, max_version=1, handle=describe_client_quotas),
)
