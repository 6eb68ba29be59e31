"""How a mapping's cluster is entered: its bootstrap servers and the Kafka client's security options.

Asks the MSK API for a cluster's servers by its ARN. Knows no Kafka client by name but the spelling of
aiokafka's options; the source calls it before it connects, and again whenever it reconnects.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from poller.errors import SourceUnavailable
from poller.mapping import MskSource

if TYPE_CHECKING:
    import boto3

    from poller.mapping import Mapping

_CONFIG: Final = Config(
    connect_timeout=3, read_timeout=6, retries={"total_max_attempts": 2, "mode": "standard"}
)

# GetBootstrapBrokers answers one string per way in. This one is plaintext without authentication; the others
# follow with the mechanisms that need them, and mapping.access refuses their types until then.
_PLAINTEXT: Final = "BootstrapBrokerString"


async def client_options(mapping: Mapping, session: boto3.Session) -> dict[str, Any]:
    """Options for aiokafka: `bootstrap_servers` (host:port joined by commas) and `security_protocol`.

    Raises SourceUnavailable with a sentence that names the cluster, the endpoint asked and the cause. Takes
    20 seconds at most.
    """
    source = mapping.source
    if isinstance(source, MskSource):
        servers = await asyncio.to_thread(_bootstrap_servers, source.arn, session)
    else:
        servers = ",".join(source.bootstrap_servers)
    return {"bootstrap_servers": servers, "security_protocol": "PLAINTEXT"}


def _bootstrap_servers(cluster_arn: str, session: boto3.Session) -> str:
    """Ask the MSK API. Blocks: call it in a thread."""
    try:
        client = session.client("kafka", region_name=_region(cluster_arn), config=_CONFIG)
    except (BotoCoreError, ValueError) as error:
        msg = f"The MSK cluster {cluster_arn} cannot be looked up: {error}"
        raise SourceUnavailable(msg) from error
    asked = f"{client.meta.endpoint_url} for the bootstrap brokers of {cluster_arn}"
    try:
        reply = client.get_bootstrap_brokers(ClusterArn=cluster_arn)
    except ClientError as error:
        fault = error.response.get("Error", {})
        msg = f"Asked {asked}: {fault.get('Code', 'unknown error')}: {fault.get('Message', '')}"
        raise SourceUnavailable(msg) from error
    except BotoCoreError as error:
        msg = f"Asked {asked}: {error}"
        raise SourceUnavailable(msg) from error
    servers = reply.get(_PLAINTEXT)
    if servers:
        return str(servers)
    offered = sorted(name for name in reply if name.startswith(_PLAINTEXT) and reply[name])
    msg = (
        f"Asked {asked}: it offers {', '.join(offered) or 'none'}, but only plaintext is built: "
        "allow plaintext access to the cluster, or name its plaintext listener in SelfManagedEventSource."
    )
    raise SourceUnavailable(msg)


def _region(cluster_arn: str) -> str | None:
    parts = cluster_arn.split(":", 4)
    return parts[3] or None if len(parts) > 4 else None  # noqa: PLR2004  # arn:aws:kafka:region:rest
