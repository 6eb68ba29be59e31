"""The read half of the MSK API for the broker's own cluster, so that an ARN is enough for every AWS client.

ListClusters, ListClustersV2, DescribeCluster, DescribeClusterV2, GetBootstrapBrokers, ListNodes. One cluster,
one node; what does not exist here (subnets, ZooKeeper) is absent, not invented. `__main__`
loads it at the first connection; `tidemill_awsapi` does the HTTP.

See docs/decisions/0202.
"""

import asyncio
import socket
from base64 import b32encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from tidemill_awsapi import ApiError, Call, ConnectionLimits, Service, http_server
from tidemill_broker.apis.broker import Broker
from tidemill_broker.listeners import ListenerName
from tidemill_broker.settings import Settings

# The MSK version whose clients and behaviour this broker is built to (DescribeCluster must name one).
KAFKA_VERSION: Final = "3.9.x.kraft"
INSTANCE_TYPE: Final = "kafka.t3.small"  # MSK's smallest: the shape demands one
DRAIN_S: Final = 2.0
# What is read here has no bodies to speak of.
REQUEST_BYTES_MAX: Final = 1024 * 1024
# Kafka's clients need the descriptors.
LIMITS: Final = ConnectionLimits(waiting_max=64, connections_max=256)
BOOTSTRAP_MEMBERS: Final[Mapping[ListenerName, str]] = {
    "plaintext": "BootstrapBrokerString",
    "tls": "BootstrapBrokerStringTls",
    "scram": "BootstrapBrokerStringSaslScram",
    "iam": "BootstrapBrokerStringSaslIam",
}
PROVISIONED, SERVERLESS = "PROVISIONED", "SERVERLESS"


def application(broker: Broker) -> web.Application:
    """Make the HTTP application that answers for this broker."""
    cluster = _Cluster(broker)
    handlers = {
        "ListClusters": cluster.list_clusters,
        "ListClustersV2": cluster.list_clusters_v2,
        "DescribeCluster": cluster.describe_cluster,
        "DescribeClusterV2": cluster.describe_cluster_v2,
        "GetBootstrapBrokers": cluster.get_bootstrap_brokers,
        "ListNodes": cluster.list_nodes,
    }
    settings = broker.settings
    service = Service("kafka", handlers, region=settings.region, account_id=settings.account_id)
    return service.application(max_body_bytes=REQUEST_BYTES_MAX)


async def serve(application: web.Application, listener: socket.socket) -> None:
    """Serve on a listening socket until cancelled."""
    loop = asyncio.get_running_loop()
    async with http_server(application, drain_s=DRAIN_S, limits=LIMITS) as server:
        listening = await loop.create_server(server, sock=listener)
        try:
            await loop.create_future()
        finally:
            listening.close()


class _Cluster:
    """The operations; each answers from the broker's identity and address."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._arn = broker.cluster_arn
        self._name = self._arn.split("/")[1]
        self._created = datetime.fromtimestamp(broker.created_ms / 1000, UTC)

    async def list_clusters(self, call: Call) -> Mapping[str, Any]:
        """Answer ListClusters; clusterNameFilter is a prefix."""
        return {"ClusterInfoList": [self._v1()] if self._listed(call) else []}

    async def list_clusters_v2(self, call: Call) -> Mapping[str, Any]:
        """Answer ListClustersV2, which also filters by type."""
        wanted = call.params.get("ClusterTypeFilter", PROVISIONED)
        if wanted not in (PROVISIONED, SERVERLESS):
            raise _invalid("clusterTypeFilter")
        listed = self._listed(call) and wanted == PROVISIONED
        return {"ClusterInfoList": [self._v2()] if listed else []}

    async def describe_cluster(self, call: Call) -> Mapping[str, Any]:
        """Answer DescribeCluster."""
        self._check_arn(call)
        return {"ClusterInfo": self._v1()}

    async def describe_cluster_v2(self, call: Call) -> Mapping[str, Any]:
        """Answer DescribeClusterV2."""
        self._check_arn(call)
        return {"ClusterInfo": self._v2()}

    async def get_bootstrap_brokers(self, call: Call) -> Mapping[str, Any]:
        """Answer GetBootstrapBrokers: a string for each listener that is on, as in MSK; others are absent."""
        self._check_arn(call)
        return {BOOTSTRAP_MEMBERS[name]: self._address(name) for name in self._broker.settings.listening}

    async def list_nodes(self, call: Call) -> Mapping[str, Any]:
        """Answer ListNodes: one broker."""
        self._check_arn(call)
        _check_page(call)
        node = {
            "AddedToClusterTime": self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "BrokerNodeInfo": {
                "BrokerId": float(self._broker.node_id),
                "CurrentBrokerSoftwareInfo": {"KafkaVersion": KAFKA_VERSION},
                "Endpoints": sorted(
                    {self._broker.advertised(name)[0] for name in self._broker.settings.listening}
                ),
            },
            "InstanceType": INSTANCE_TYPE,
            "NodeARN": f"{self._arn.replace(':cluster/', ':broker/')}/{self._broker.node_id}",
            "NodeType": "BROKER",
        }
        return {"NodeInfoList": [node]}

    def _address(self, listener: ListenerName) -> str:
        host, port = self._broker.advertised(listener)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _listed(self, call: Call) -> bool:
        _check_page(call)
        return self._name.startswith(call.params.get("ClusterNameFilter", ""))

    def _check_arn(self, call: Call) -> None:
        arn = call.params["ClusterArn"]
        if not (arn.startswith("arn:") and ":kafka:" in arn and ":cluster/" in arn):
            raise _invalid("clusterArn")
        if arn != self._arn:
            raise ApiError(
                "NotFoundException", f"The cluster {arn} does not exist.", InvalidParameter="clusterArn"
            )

    def _identity(self) -> dict[str, Any]:
        return {
            "ClusterArn": self._arn,
            "ClusterName": self._name,
            "CreationTime": self._created,
            "CurrentVersion": _version(self._arn),
            "State": "ACTIVE",
            "Tags": {},
        }

    def _provisioned(self) -> dict[str, Any]:
        return {
            "BrokerNodeGroupInfo": {
                "BrokerAZDistribution": "DEFAULT",
                "ClientSubnets": [],
                "InstanceType": INSTANCE_TYPE,
                "SecurityGroups": [],
            },
            "ClientAuthentication": client_authentication(self._broker.settings),
            "CurrentBrokerSoftwareInfo": {"KafkaVersion": KAFKA_VERSION},
            # One node has nothing to say to itself over a network.
            "EncryptionInfo": {
                "EncryptionInTransit": {
                    "ClientBroker": client_broker(self._broker.settings),
                    "InCluster": False,
                }
            },
            "EnhancedMonitoring": "DEFAULT",
            "NumberOfBrokerNodes": 1,
            "StorageMode": "LOCAL",
            "CustomerActionStatus": "NONE",
        }

    def _v1(self) -> dict[str, Any]:
        return self._identity() | self._provisioned()

    def _v2(self) -> dict[str, Any]:
        return self._identity() | {"ClusterType": PROVISIONED, "Provisioned": self._provisioned()}


def client_authentication(settings: Settings) -> dict[str, Any]:
    """Return the authentication methods that are on."""
    on = settings.listening
    anonymous_tls = "tls" in on and settings.ssl_client_auth != "required"
    return {
        "Sasl": {"Scram": {"Enabled": "scram" in on}, "Iam": {"Enabled": "iam" in on}},
        "Tls": {
            "CertificateAuthorityArnList": [],  # the CA is a file here, not one of AWS Private CA's
            "Enabled": "tls" in on and settings.ssl_client_auth != "none",
        },
        "Unauthenticated": {"Enabled": "plaintext" in on or anonymous_tls},
    }


def client_broker(settings: Settings) -> str:
    """Tell whether clients' connections are encrypted."""
    if "plaintext" not in settings.listening:
        return "TLS"
    return "PLAINTEXT" if len(settings.listening) == 1 else "TLS_PLAINTEXT"


def _check_page(call: Call) -> None:
    # Everything fits on one page, so no token was ever given out.
    if call.params.get("NextToken"):
        raise _invalid("nextToken")


def _invalid(parameter: str) -> ApiError:
    message = "One or more of the parameters in the request is not valid."
    return ApiError("BadRequestException", message, InvalidParameter=parameter)


def _version(arn: str) -> str:
    """Make MSK's opaque "K…" string; it would change with an update, and nothing updates this cluster."""
    return "K" + b32encode(arn.rpartition("/")[2].encode())[:13].decode()
