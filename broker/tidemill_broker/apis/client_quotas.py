"""DescribeClientQuotas 0-1: there are no quotas, and that is the answer.

`kafka-configs --describe --entity-type users` asks for quotas before it tells SCRAM users. What is asked is
checked as Kafka's ClientQuotasImage checks it.
"""

from typing import Any, Final

from tidemill_broker.apis.api import Api, Rejected
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request, cluster_right
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode

USER, CLIENT_ID, IP = "user", "client-id", "ip"
# Kafka: DescribeClientQuotasRequest's match types, and whether each comes with a string.
EXACT, DEFAULT, SPECIFIED = range(3)
MATCHES: Final = {EXACT: True, DEFAULT: False, SPECIFIED: False}


def describe_client_quotas(_broker: Broker, request: Request) -> Any:
    """Answer DescribeClientQuotas with no entries, or say what is wrong with the filter."""
    build = request.reply.DescribeClientQuotasResponse
    try:
        _check_rights(request)
        _check(request.body.components)
    except Rejected as rejected:
        return build(error_code=rejected.code, error_message=rejected.message, entries=None)
    return build(error_code=ErrorCode.none, error_message="", entries=())


def _check_rights(request: Request) -> None:
    if not request.allows(Operation.DESCRIBE_CONFIGS, ResourceType.CLUSTER, CLUSTER_NAME):
        raise Rejected(ErrorCode.cluster_authorization_failed, "Cluster authorization failed.")


def _check(components: Any) -> None:
    types: set[str] = set()
    for each in components:
        if not each.entity_type:
            raise Rejected(ErrorCode.invalid_request, "Invalid empty entity type.")
        if each.entity_type in types:
            message = f"Entity type {each.entity_type} cannot appear more than once in the filter."
            raise Rejected(ErrorCode.invalid_request, message)
        if each.entity_type not in (USER, CLIENT_ID, IP):
            raise Rejected(ErrorCode.unsupported_version, f"Unsupported entity type {each.entity_type}")
        if each.match_type not in MATCHES:
            raise Rejected(ErrorCode.invalid_request, f"Unknown match type {each.match_type}")
        if MATCHES[each.match_type] is (each.match is None):
            raise Rejected(
                ErrorCode.invalid_request, "The match string and the match type contradict each other."
            )
        types.add(each.entity_type)
    if IP in types and len(types) > 1:
        raise Rejected(
            ErrorCode.invalid_request,
            "Invalid entity filter component combination. IP filter component should not be used with"
            " user or clientId filter component.",
        )


APIS: Final = (
    Api(
        key=48,
        name="DescribeClientQuotas",
        min_version=0,
        max_version=1,
        handle=describe_client_quotas,
        right=cluster_right(Operation.DESCRIBE_CONFIGS),
    ),
)
