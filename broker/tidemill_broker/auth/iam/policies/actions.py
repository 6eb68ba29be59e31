"""Which kafka-cluster action stands for Kafka's operation on a resource, and how the resource's ARN is spelt.

Authority: Service Authorization Reference, "Apache Kafka APIs for Amazon MSK clusters", and the MSK developer
guide's table of Kafka ACL equivalents. A pair that is missing has no action: nobody may do it by IAM.
"""

from collections.abc import Mapping
from typing import Final

from tidemill_broker.auth.authorizer import Operation as Op
from tidemill_broker.auth.authorizer import ResourceType

CONNECT: Final = "kafka-cluster:Connect"

_CLUSTER: Final = {
    Op.DESCRIBE: "DescribeCluster",
    Op.ALTER: "AlterCluster",
    Op.DESCRIBE_CONFIGS: "DescribeClusterDynamicConfiguration",
    Op.ALTER_CONFIGS: "AlterClusterDynamicConfiguration",
    Op.IDEMPOTENT_WRITE: "WriteDataIdempotently",
}
_TOPIC: Final = {
    Op.READ: "ReadData",
    Op.WRITE: "WriteData",
    Op.CREATE: "CreateTopic",
    Op.DELETE: "DeleteTopic",
    Op.ALTER: "AlterTopic",
    Op.DESCRIBE: "DescribeTopic",
    Op.DESCRIBE_CONFIGS: "DescribeTopicDynamicConfiguration",
    Op.ALTER_CONFIGS: "AlterTopicDynamicConfiguration",
}
_GROUP: Final = {Op.READ: "AlterGroup", Op.DELETE: "DeleteGroup", Op.DESCRIBE: "DescribeGroup"}
_TRANSACTIONAL_ID: Final = {Op.WRITE: "AlterTransactionalId", Op.DESCRIBE: "DescribeTransactionalId"}

ACTIONS: Final[Mapping[tuple[Op, ResourceType], str]] = {
    (operation, resource_type): f"kafka-cluster:{name}"
    for resource_type, names in (
        (ResourceType.CLUSTER, _CLUSTER),
        (ResourceType.TOPIC, _TOPIC),
        (ResourceType.GROUP, _GROUP),
        (ResourceType.TRANSACTIONAL_ID, _TRANSACTIONAL_ID),
    )
    for operation, name in names.items()
}

_ARN_TYPES: Final = {
    ResourceType.TOPIC: "topic",
    ResourceType.GROUP: "group",
    ResourceType.TRANSACTIONAL_ID: "transactional-id",
}


def resource_arn(cluster_arn: str, resource_type: ResourceType, name: str) -> str:
    """Spell a resource's ARN: `arn:…:topic/<cluster>/<uuid>/<name>`; the cluster's own for the rest."""
    arn_type = _ARN_TYPES.get(resource_type)
    if arn_type is None:
        return cluster_arn
    head, _, cluster = cluster_arn.partition(":cluster/")
    return f"{head}:{arn_type}/{cluster}/{name}"
