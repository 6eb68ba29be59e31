"""The two values that every handler gets: the broker that it acts on, and the connection that asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker.apis.groups import GroupService
    from broker.apis.producers import ProducerIds
    from broker.log.topics import Topics
    from broker.settings import Settings

ANONYMOUS: Final = "User:ANONYMOUS"  # Kafka: KafkaPrincipal.ANONYMOUS


@dataclass(slots=True, kw_only=True)
class Broker:
    """Everything a handler may use. One per process, put together by `__main__`.

    `host` and `port` are what clients are told to connect to; `port` is known once the server listens.
    `cluster_id` is Kafka's (22 characters), `cluster_arn` is MSK's; both come from one stored UUID.
    `now_ms` is the wall clock in ms since the epoch; `monotonic_s` is for deadlines.
    """

    settings: Settings
    topics: Topics
    groups: GroupService
    producer_ids: ProducerIds
    cluster_id: str
    cluster_arn: str
    created_ms: int
    host: str
    port: int
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    node_id: int = 1


@dataclass(slots=True, kw_only=True)
class Connection:
    """Who asks: filled by the server at accept, by the first requests afterwards."""

    peer: str  # host:port, for log lines
    listener: str = "PLAINTEXT"
    principal: str = ANONYMOUS
    client_id: str | None = None
    software_name: str = "unknown"  # ApiVersions v3+ (KIP-511)
    software_version: str = "unknown"
