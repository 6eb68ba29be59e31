"""A broker without a socket: the real rooms put together on a folder, asked by request frames."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.fakes.kafka_frames import read_response, request, request_frame
from tidemill_broker.apis import Broker, Connection, dispatch
from tidemill_broker.auth.acl.authorizer import AclAuthorizer, parse_super_users
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.scram.users import ScramUsers
from tidemill_broker.auth.session import UNAUTHENTICATED, Session
from tidemill_broker.groups.service import GroupService
from tidemill_broker.listeners import ListenerName
from tidemill_broker.log.producer_ids import ProducerIds
from tidemill_broker.log.topics import Topics
from tidemill_broker.settings import Settings, parse_kafka_settings

CLUSTER = UUID("0d2c9c0e-6f3a-4c51-9a57-2f0f6c1f7a11")
START_MS = 1_700_000_000_000


@dataclass
class InnerBroker:
    """`ask` sends one request through frame, table and handler, and reads the reply's frame."""

    broker: Broker
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.open()

    def open(self, *, listener: ListenerName = "plaintext", session: Session = UNAUTHENTICATED) -> Connection:
        """One more connection; give it to `ask` by setting `connection`."""
        return self.broker.open(peer="127.0.0.1:50000", host="127.0.0.1", listener=listener, session=session)

    def ask(self, api_key: int, version: int, **members: Any) -> Any:
        frame = request_frame(request(api_key, version, **members))
        reply = dispatch(self.broker, self.connection, memoryview(frame))
        return read_response(api_key, version, bytes(finished(reply)))


def finished(reply: Any) -> bytes | memoryview:
    """A reply, all turns of which are taken at once; for handlers that wait for nobody."""
    if isinstance(reply, Coroutine):
        try:
            while True:
                assert reply.send(None) is None, "these handlers wait for nobody"
        except StopIteration as done:
            reply = done.value
    assert isinstance(reply, bytes | memoryview)
    return reply


@contextmanager
def inner_broker(directory: Path, *settings: str) -> Iterator[InnerBroker]:
    chosen = Settings(data_dir=directory, **parse_kafka_settings(settings))
    acls = AclStore(directory / "acls.json")
    authorizer = AclAuthorizer(
        acls,
        super_users=parse_super_users(chosen.super_users),
        allow_everyone=chosen.allow_everyone_if_no_acl_found,
    )
    topics = Topics(directory / "log", chosen.kafka_values(), clock_ms=lambda: START_MS)
    try:
        yield InnerBroker(
            Broker(
                settings=chosen,
                topics=topics,
                groups=GroupService(topics, chosen, now_ms=lambda: START_MS, monotonic_s=lambda: 0.0),
                producer_ids=ProducerIds(directory / "producer_ids.json"),
                scram_users=ScramUsers(directory / "scram.json"),
                acls=acls,
                authorizer=authorizer,
                cluster_id=urlsafe_b64encode(CLUSTER.bytes).rstrip(b"=").decode(),
                cluster_arn=f"arn:aws:kafka:us-east-1:123456789012:cluster/tidemill/{CLUSTER}-1",
                created_ms=START_MS,
                ports={"plaintext": 9092},
                now_ms=lambda: START_MS,
                monotonic_s=lambda: 0.0,
            )
        )
    finally:
        topics.close()
