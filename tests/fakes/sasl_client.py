"""A SASL client written from the RFCs alone, and the frames that carry it through `dispatch`.

Independent of the broker's `auth`: it proves that the server speaks the standard, and can lie at every step.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import random
import struct
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.inner_broker import InnerBroker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tidemill_broker.apis import CloseConnection, Connection, dispatch
from tidemill_broker.apis.sasl import SaslStage
from tidemill_broker.auth.mechanism import Mechanism
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, derive
from tidemill_broker.auth.scram.mechanism import ScramMechanism
from tidemill_broker.auth.scram.plain import PlainMechanism
from tidemill_broker.auth.scram.users import ScramUsers

METADATA, SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 3, 17, 18, 36
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
ALICE, BOB, PASSWORD, OTHER_PASSWORD = "alice", "bob", "alice-secret", "bob-secret"


class Closed(Exception):
    """The broker ended the connection; `reply` is what it said last."""

    def __init__(self, reply: bytes | None) -> None:
        super().__init__("closed")
        self.reply = reply


@dataclass(kw_only=True)
class ScramClient:
    """RFC 5802 section 3 and 5, step by step; members that a test sets are lies."""

    mechanism: str = "SCRAM-SHA-512"
    username: str = ALICE
    password: str = PASSWORD
    nonce: str = "rOprNGfwEbeRWgbNEkqO"
    gs2_header: str = "n,,"
    extensions: str = ""
    server_signature: bytes = field(default=b"", init=False)

    @property
    def bare(self) -> str:
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        return f"n={name},r={self.nonce}{self.extensions}"

    def first(self) -> bytes:
        return (self.gs2_header + self.bare).encode()

    def final(self, server_first: bytes, *, nonce: str | None = None, binding: str | None = None) -> bytes:
        text = server_first.decode()
        told = dict(part.split("=", 1) for part in text.split(","))
        salted = hashlib.pbkdf2_hmac(
            HASHES[self.mechanism], self.password.encode(), b64decode(told["s"]), int(told["i"])
        )
        bound = b64encode((self.gs2_header if binding is None else binding).encode()).decode()
        without_proof = f"c={bound},r={told['r'] if nonce is None else nonce}"
        message = f"{self.bare},{text},{without_proof}".encode()
        client_key = self._hmac(salted, b"Client Key")
        signature = self._hmac(hashlib.new(HASHES[self.mechanism], client_key).digest(), message)
        self.server_signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        proof = bytes(left ^ right for left, right in zip(client_key, signature, strict=True))
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def verifies(self, server_final: bytes) -> bool:
        return server_final == b"v=" + b64encode(self.server_signature)

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, HASHES[self.mechanism])


def mechanisms(users: ScramUsers) -> dict[str, Mechanism]:
    scram: list[Mechanism] = [ScramMechanism(name, users) for name in SCRAM_NAMES]
    return {each.name: each for each in [*scram, PlainMechanism(users)]}


def add_user(users: ScramUsers, name: str, password: str) -> None:
    users.alter([], {(name, mechanism): derive(mechanism, password) for mechanism in SCRAM_NAMES})


@dataclass
class Dialogue:
    """One connection of the scram listener: what a client sends, and what comes back."""

    inner: InnerBroker
    offered: dict[str, Mechanism]
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.inner.broker.ports["scram"] = 9096
        self.connection = self.inner.open(listener="scram")
        self.connection.sasl = SaslStage(self.offered)

    async def send(self, frame: bytes) -> bytes | None:
        """The reply with its length. Raises Closed."""
        try:
            reply: Any = dispatch(self.inner.broker, self.connection, memoryview(frame))
            if inspect.isawaitable(reply):
                reply = await reply
        except CloseConnection:
            raise Closed(None) from None
        if self.connection.ending:
            raise Closed(reply)
        assert reply is None or isinstance(reply, bytes)
        return reply

    async def ask(self, key: int, version: int, **members: Any) -> Any:
        """The answer to one request, whether the connection then ends or not; None when there is none."""
        try:
            reply = await self.send(request_frame(request(key, version, **members)))
        except Closed as closed:
            reply = closed.reply
        return None if reply is None else read_response(key, version, reply)

    async def shake_hands(self, mechanism: str = "SCRAM-SHA-512", version: int = 1) -> Any:
        return await self.ask(SASL_HANDSHAKE, version, mechanism=mechanism)

    async def authenticate(self, token: bytes, version: int = 2) -> Any:
        return await self.ask(SASL_AUTHENTICATE, version, auth_bytes=token)

    async def token(self, token: bytes) -> bytes | None:
        """A token without a header, as clients before KIP-152 send it."""
        reply = await self.send(token)
        return None if reply is None else reply[4:]

    async def log_in(self, client: ScramClient) -> Any:
        """The whole login; the last answer, None when the connection ends without one."""
        await self.shake_hands(client.mechanism)
        first = await self.authenticate(client.first())
        if first is None or first.error_code:
            return first
        return await self.authenticate(client.final(first.auth_bytes))

    @property
    def open(self) -> bool:
        """Whether somebody is in."""
        stage = self.connection.sasl
        assert stage is not None
        return stage.done


def header(key: int, version: int) -> bytes:
    """The beginning of a request that has no body."""
    return struct.pack(">hhih", key, version, 7, -1)


def spoilt(generator: random.Random, proof: bytes) -> bytes:
    """The client-final message with one bit of its proof turned."""
    without, _, encoded = proof.rpartition(b",p=")
    raw = bytearray(b64decode(encoded))
    raw[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)
    return without + b",p=" + b64encode(raw)
