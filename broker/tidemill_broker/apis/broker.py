"""The two values that every handler gets: the broker that it acts on, and the connection that asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tidemill_broker.apis.api import Reply
from tidemill_broker.apis.turns import Turns
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.audit import Audit
from tidemill_broker.auth.authorization_cache import AuthorizationCache
from tidemill_broker.auth.authorizer import Authorizer, Operation, ResourceType
from tidemill_broker.auth.mechanism import Mechanism
from tidemill_broker.auth.scram.users import ScramUsers
from tidemill_broker.auth.session import UNAUTHENTICATED, Session
from tidemill_broker.groups.service import GroupService
from tidemill_broker.listeners import ListenerName
from tidemill_broker.log.producer_ids import ProducerIds
from tidemill_broker.log.topics import Topics
from tidemill_broker.settings import Settings


@dataclass(slots=True, kw_only=True)
class Broker:
    """Everything a handler may use. One per process, put together by `__main__`.

    `ports` are those that the listeners really have; the server fills them in.
    `mechanisms` are each listener's ways to log in, by SASL's name; scram and iam accept no others.
    `cluster_id` is Kafka's (22 characters), `cluster_arn` is MSK's; both come from one stored UUID.
    `now_ms` is the wall clock in ms since the epoch; `monotonic_s` is for deadlines.
    """

    settings: Settings
    topics: Topics
    groups: GroupService
    producer_ids: ProducerIds
    scram_users: ScramUsers
    acls: AclStore
    cluster_id: str
    cluster_arn: str
    created_ms: int
    now_ms: Callable[[], int]
    monotonic_s: Callable[[], float]
    authorizer: Authorizer
    audit: Audit = field(default_factory=Audit)
    mechanisms: Mapping[ListenerName, Mapping[str, Mechanism]] = field(default_factory=dict)
    ports: dict[ListenerName, int] = field(default_factory=dict)
    node_id: int = 1
    turns: Turns = field(default_factory=Turns)

    def advertised(self, listener: ListenerName) -> tuple[str, int]:
        """Return the host and port that clients of this listener connect to."""
        host, port = self.settings.advertised(listener)
        return host, port or self.ports[listener]

    def open(
        self, *, peer: str, host: str, listener: ListenerName, session: Session = UNAUTHENTICATED
    ) -> Connection:
        """Make what stands for a new connection; `host` is the peer's IP address, as ACLs name hosts."""
        connection = Connection(peer=peer, host=host, listener=listener)
        self.let_in(connection, session)
        return connection

    def let_in(self, connection: Connection, session: Session) -> None:
        """Give a connection a session, and with it the rights of its principal."""
        connection.session = session
        connection.rights = AuthorizationCache(
            self.authorizer,
            session,
            host=connection.host,
            audit=self.audit,
            peer=connection.peer,
        )


@dataclass(slots=True, kw_only=True)
class Connection:
    """What handlers know of a connection; `Broker.open` makes it, a login replaces session and rights."""

    peer: str  # host:port, for log lines
    host: str
    listener: ListenerName
    session: Session = UNAUTHENTICATED
    rights: AuthorizationCache = field(init=False)
    sasl: Login | None = None  # where this listener asks for one
    in_turns: bool = False  # an answer is made in turns: the next request waits
    ending: bool = False  # the server ends it once the reply in work is out: a login that failed
    client_id: str | None = None  # of the first request that names one, for log lines
    software_name: str = "unknown"  # ApiVersions v3+ (KIP-511)
    software_version: str = "unknown"

    def name_client(self, client_id: str | None) -> None:
        """Keep the first client id that a request brings."""
        if self.client_id is None:
            self.client_id = client_id

    # For Produce and Fetch, whose topics only the native core reads; it asks about those it does not know.

    def may_write(self, topic: str) -> bool:
        """Decide about a topic that is produced to."""
        return self._allows(Operation.WRITE, ResourceType.TOPIC, topic, "Produce")

    def may_write_as(self, transactional_id: str) -> bool:
        """Decide about a batch that is part of a transaction."""
        return self._allows(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id, "Produce")

    def may_read(self, topic: str) -> bool:
        """Decide about a topic that is fetched from."""
        return self._allows(Operation.READ, ResourceType.TOPIC, topic, "Fetch")

    def refresh(self) -> None:
        """Forget all decisions if the rules have changed."""
        self.rights.refresh()

    def _allows(self, operation: Operation, resource_type: ResourceType, name: str, api: str) -> bool:
        return self.rights.allows(operation, resource_type, name, api=api, client_id=self.client_id)


class Login(Protocol):
    """A connection's login, which answers everything that comes before its end (`sasl.SaslStage`)."""

    @property
    def done(self) -> bool:
        """Whether the client has logged in, and is not about to log in again."""
        ...

    @property
    def busy(self) -> bool:
        """Whether an answer is being worked on: what comes now must wait."""
        ...

    @property
    def expires_s(self) -> float | None:
        """When the session ends, on the broker's monotonic clock; None: never, or there is none."""
        ...

    def passes(self, broker: Broker, frame: memoryview) -> bool:
        """Tell whether a request is for the handlers."""
        ...

    def answer(self, broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
        """Take the next message of a login."""
        ...
