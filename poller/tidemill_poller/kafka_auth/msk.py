"""An MSK cluster by its ARN: its brokers, and which way in is taken, in AWS's order.

    the secret's mechanism ── none ──> IAM ── off ──> TLS, nobody logs in ── off ──> plaintext

What is chosen is never changed for something weaker because it fails. AWS Lambda Developer Guide,
msk-cluster-auth. `choose` is pure; `ask` blocks, call it in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tidemill_poller.aws import AwsClients, region_of, sentence
from tidemill_poller.errors import LoginFailed, SourceUnavailable


class Way(StrEnum):
    """A way into an MSK cluster, by the name of its servers in GetBootstrapBrokers."""

    TLS = "BootstrapBrokerStringTls"
    SCRAM = "BootstrapBrokerStringSaslScram"
    IAM = "BootstrapBrokerStringSaslIam"
    PLAINTEXT = "BootstrapBrokerString"


@dataclass(frozen=True, slots=True, kw_only=True)
class MskCluster:
    """What GetBootstrapBrokers and DescribeClusterV2 say."""

    servers: Mapping[Way, str]
    mtls: bool
    scram: bool
    iam: bool
    unauthenticated: bool


_BY_SECRET: Final = {
    "CLIENT_CERTIFICATE_TLS_AUTH": (Way.TLS, "mtls", "TLS client authentication"),
    "SASL_SCRAM_512_AUTH": (Way.SCRAM, "scram", "SASL/SCRAM"),
}


def choose(cluster: MskCluster, secret_type: str | None) -> tuple[Way, str]:
    """Give the way that AWS takes with this kind of secret, or with none, and its bootstrap servers.

    Raises:
        LoginFailed: the cluster has that way switched off, or takes none without a secret.
        SourceUnavailable: it gives no servers for it.

    """
    way = _way(cluster, secret_type)
    servers = cluster.servers.get(way)
    if not servers:
        offered = ", ".join(sorted(name for name, value in cluster.servers.items() if value)) or "none"
        raise SourceUnavailable(
            f"the cluster gives no {way} but {offered}: wait until it is active, or mend its listeners"
        )
    return way, servers


def _way(cluster: MskCluster, secret_type: str | None) -> Way:
    if secret_type is not None:
        way, member, name = _BY_SECRET[secret_type]
        if not getattr(cluster, member):
            raise LoginFailed(
                f"the cluster has {name} switched off: switch it on,"
                f" or take {secret_type} out of SourceAccessConfigurations"
            )
        return way
    if cluster.iam:
        return Way.IAM
    if not cluster.unauthenticated:
        raise LoginFailed(
            "the cluster takes nobody without a secret: name one in SourceAccessConfigurations as"
            f" {' or '.join(kind for kind, (_, member, _) in _BY_SECRET.items() if getattr(cluster, member))}"
        )
    return Way.TLS if cluster.servers.get(Way.TLS) else Way.PLAINTEXT


def ask(clients: AwsClients, cluster_arn: str) -> MskCluster:
    """Ask the MSK API of the ARN's region.

    Raises:
        SourceUnavailable: names the cluster, the endpoint that was asked, and the answer.

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
            f"Asked {client.meta.endpoint_url} for the bootstrap brokers of {cluster_arn}: {sentence(error)}"
        ) from error
    return read_cluster(servers, info)


def read_cluster(servers: Mapping[str, Any], info: Mapping[str, Any]) -> MskCluster:
    """Read both replies. A cluster that was made without ClientAuthentication lets everybody in."""
    kind = info.get("Serverless") or info.get("Provisioned") or {}
    allowed = kind.get("ClientAuthentication") or {}
    sasl = allowed.get("Sasl") or {}
    scram, iam = _enabled(sasl.get("Scram")), _enabled(sasl.get("Iam"))
    mtls = _enabled(allowed.get("Tls"))
    unauthenticated = allowed.get("Unauthenticated")
    return MskCluster(
        servers={way: str(servers[way]) for way in Way if servers.get(way)},
        mtls=mtls,
        scram=scram,
        iam=iam,
        unauthenticated=_enabled(unauthenticated) if unauthenticated else not (scram or iam or mtls),
    )


def _enabled(block: Mapping[str, Any] | None) -> bool:
    return bool(block and block.get("Enabled"))
