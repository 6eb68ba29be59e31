"""An MSK cluster by its ARN: its brokers, and which auth method is taken, in AWS's order.

    the secret's mechanism ── none ──> IAM ── off ──> TLS, unauthenticated ── off ──> plaintext

What is chosen is never changed for something weaker because it fails. AWS Lambda Developer Guide,
msk-cluster-auth. `choose` is pure; `describe_cluster` blocks, call it in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidemill_poller.aws import AwsClients, describe, region_of
from tidemill_poller.errors import LoginFailed, SourceUnavailable
from tidemill_poller.kafka_auth.access_types import ACCESS_TYPES
from tidemill_poller.kafka_auth.cluster import AuthMethod, MskCluster


def choose(cluster: MskCluster, secret_type: str | None) -> tuple[AuthMethod, str]:
    """Return the auth method that AWS takes with this type of secret, or with none, and its servers.

    Raises LoginFailed if the cluster has it switched off, or accepts none without a secret, and
    SourceUnavailable if it gives no servers for it.
    """
    method = _method(cluster, secret_type)
    servers = cluster.servers.get(method)
    if not servers:
        offered = ", ".join(sorted(name for name, value in cluster.servers.items() if value)) or "none"
        raise SourceUnavailable(
            f"the cluster gives no {method} but {offered}: wait until it is active, or enable that listener"
        )
    return method, servers


def _method(cluster: MskCluster, secret_type: str | None) -> AuthMethod:
    if secret_type is not None:
        use = ACCESS_TYPES[secret_type].msk
        assert use is not None, "the control API accepts no other type for MSK"
        if not use.enabled(cluster):
            raise LoginFailed(
                f"the cluster has {use.called} switched off: switch it on,"
                f" or remove {secret_type} from SourceAccessConfigurations"
            )
        return use.method
    if cluster.iam:
        return AuthMethod.IAM
    if not cluster.unauthenticated:
        usable = [
            row.name for row in ACCESS_TYPES.values() if row.msk is not None and row.msk.enabled(cluster)
        ]
        raise LoginFailed(
            "the cluster accepts no unauthenticated connections: name a secret in"
            f" SourceAccessConfigurations as {' or '.join(usable)}"
        )
    return AuthMethod.TLS if cluster.servers.get(AuthMethod.TLS) else AuthMethod.PLAINTEXT


def describe_cluster(clients: AwsClients, cluster_arn: str) -> MskCluster:
    """Return what the MSK API of the ARN's region says of the cluster.

    Raises SourceUnavailable, with the cluster, the endpoint and the answer, if it says nothing.
    """
    try:
        client = clients.get("kafka", region_of(cluster_arn))
    except (BotoCoreError, ValueError) as error:
        raise SourceUnavailable(f"The MSK cluster {cluster_arn} cannot be looked up: {error}") from error
    try:
        servers = client.get_bootstrap_brokers(ClusterArn=cluster_arn)
        info = client.describe_cluster_v2(ClusterArn=cluster_arn)["ClusterInfo"]
    except (BotoCoreError, ClientError) as error:
        raise SourceUnavailable(
            f"Asked {client.meta.endpoint_url} for the bootstrap brokers of {cluster_arn}: {describe(error)}"
        ) from error
    return read_cluster(servers, info)


def read_cluster(servers: Mapping[str, Any], info: Mapping[str, Any]) -> MskCluster:
    """Read both replies. A cluster that was made without ClientAuthentication accepts everybody."""
    kind = info.get("Serverless") or info.get("Provisioned") or {}
    allowed = kind.get("ClientAuthentication") or {}
    sasl = allowed.get("Sasl") or {}
    scram, iam = _enabled(sasl.get("Scram")), _enabled(sasl.get("Iam"))
    mtls = _enabled(allowed.get("Tls"))
    unauthenticated = allowed.get("Unauthenticated")
    return MskCluster(
        servers={method: str(servers[method]) for method in AuthMethod if servers.get(method)},
        mtls=mtls,
        scram=scram,
        iam=iam,
        unauthenticated=_enabled(unauthenticated) if unauthenticated else not (scram or iam or mtls),
    )


def _enabled(block: Mapping[str, Any] | None) -> bool:
    return bool(block and block.get("Enabled"))
