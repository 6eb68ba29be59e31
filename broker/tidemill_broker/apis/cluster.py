"""DescribeCluster 0-2, and what Metadata tells too: the one node, its virtual peers, the client's rights.

Replicas: a topic created with replication factor 3 is reported with replicas and ISR [1, 2, 3]: node 1 is
this broker and leads, 2 and 3 are names only, in sync and never offline. Distinct ids, because tools key
replicas by their node (docs/decisions/0201).
"""

from typing import Any, Final

from tidemill_broker.apis.api import Api
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request
from tidemill_broker.auth.authorizer import CLUSTER_NAME, ResourceType
from tidemill_broker.log.topics import Topic
from tidemill_broker.protocol.errors import ErrorCode

NOT_ASKED: Final = -(1 << 31)

# DescribeClusterRequest's endpoint types (KIP-919).
BROKERS, CONTROLLERS = 1, 2
_ENDPOINT_FAULTS: Final = {
    CONTROLLERS: (ErrorCode.mismatched_endpoint_type, "This endpoint is a broker's, not a controller's."),
}


def replicas(broker: Broker, topic: Topic) -> tuple[int, ...]:
    """List the node ids that hold each partition of a topic, this broker first."""
    return tuple(range(broker.node_id, broker.node_id + topic.replication_factor))


def cluster_operations(request: Request) -> int:
    """Tell all that the client may do to the cluster; nothing at all if it may not even describe it."""
    if not request.may_describe(ResourceType.CLUSTER, CLUSTER_NAME):
        return 0
    return request.operations(ResourceType.CLUSTER, CLUSTER_NAME)


def describe_cluster(broker: Broker, request: Request) -> Any:
    """Answer DescribeCluster: no right is needed to know where to connect."""
    reply = request.reply
    endpoint_type = getattr(request.body, "endpoint_type", BROKERS)
    if endpoint_type != BROKERS:
        code, message = _ENDPOINT_FAULTS.get(
            endpoint_type,
            (ErrorCode.unsupported_endpoint_type, f"There is no endpoint type {endpoint_type}."),
        )
        return reply.DescribeClusterResponse(
            error_code=code, error_message=message, cluster_id="", brokers=()
        )
    host, port = broker.advertised(request.connection.listener)
    node = reply.DescribeClusterBroker(broker_id=broker.node_id, host=host, port=port, is_fenced=False)
    return reply.DescribeClusterResponse(
        error_code=ErrorCode.none,
        endpoint_type=BROKERS,
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
        brokers=(node,),
        cluster_authorized_operations=(
            cluster_operations(request) if request.body.include_cluster_authorized_operations else NOT_ASKED
        ),
    )


APIS: Final = (Api(key=60, name="DescribeCluster", min_version=0, max_version=2, handle=describe_cluster),)
