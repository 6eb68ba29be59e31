"""Logins as scripts of moves, played to our broker and to Apache Kafka alike."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.sasl_client import (
    ALICE,
    API_VERSIONS,
    BOB,
    METADATA,
    OTHER_PASSWORD,
    PASSWORD,
    SASL_AUTHENTICATE,
    SASL_HANDSHAKE,
    Closed,
    ScramClient,
)
from tidemill_broker.protocol.errors import ErrorCode

SOFTWARE = {"client_software_name": "test", "client_software_version": "1"}
PLAYERS: dict[str, dict[str, Any]] = {
    "as-bob": {"username": BOB, "password": OTHER_PASSWORD},
    "as-alice-guessing": {"password": "wrong"},
    "as-nobody": {"username": "nobody"},
    "as-alice-for-bob": {"gs2_header": f"n,a={BOB},"},
    "as-alice-for-alice": {"gs2_header": f"n,a={ALICE},"},
    "as-alice-with-extensions": {"extensions": ",foo=bar"},
    "as-delegation-token": {"extensions": ",tokenauth=true"},
    "as-älice": {"username": "älice"},
    "as-alice-bound": {"gs2_header": "p=tls-unique,,"},
    "as-alice-unbound": {"gs2_header": "y,,"},
    "as-alice-of-256": {"mechanism": "SCRAM-SHA-256"},
}
PLAIN_TOKEN = f"\0{ALICE}\0{PASSWORD}".encode()


class Conversation(Protocol):
    """A connection to any broker."""

    async def send(self, frame: bytes) -> bytes | None:
        """The reply with its length. Raises Closed."""
        ...


class Script:
    """Plays a client's moves by name, and notes how each is taken and what is said about it."""

    def __init__(self, dialogue: Conversation, client: ScramClient | None = None) -> None:
        self.dialogue = dialogue
        self.client = client or ScramClient()
        self.server_first = b""
        self.messages: list[str] = []

    async def play(self, moves: str) -> str:
        """The outcomes, up to the one that ends the connection; `as-…` only changes who plays."""
        outcomes = []
        for move in moves.split():
            if move in PLAYERS:
                self.client = dataclasses.replace(self.client, **PLAYERS[move])
                continue
            try:
                outcomes.append(await self._play(move))
            except Closed as closed:
                outcomes.append(f"{self._told(move, closed.reply)}end")
                break
        return " ".join(outcomes)

    async def _play(self, move: str) -> str:
        reply = await self.dialogue.send(self._frame(move))
        if move in ("first", "old-first"):
            version = 2 if move == "first" else 0
            read = read_response(SASL_AUTHENTICATE, version, reply or b"")
            self.server_first = read.auth_bytes
        if move == "bare-first":
            self.server_first = (reply or b"")[4:]
        return self._told(move, reply) or "ok"

    def _frame(self, move: str) -> bytes:
        if move in ("bare-first", "bare-last", "bare-plain", "garbage"):
            return {
                "bare-first": self.client.first(),
                "bare-last": self.client.final(self.server_first) if self.server_first else b"",
                "bare-plain": PLAIN_TOKEN,
                "garbage": b"GET / HTTP/1.1\r\n\r\n",
            }[move]
        key, version, members = self._request(move)
        return request_frame(request(key, version, **members))

    def _request(self, move: str) -> tuple[int, int, dict[str, Any]]:
        """Key, version and members of a move."""
        last = self.client.final(self.server_first) if self.server_first else b""
        requests: dict[str, tuple[int, int, dict[str, Any]]] = {
            "versions": (API_VERSIONS, 3, SOFTWARE),
            "bad-versions": (API_VERSIONS, 3, {"client_software_name": "-", "client_software_version": "1"}),
            "scram": (SASL_HANDSHAKE, 1, {"mechanism": "SCRAM-SHA-512"}),
            "scram-256": (SASL_HANDSHAKE, 1, {"mechanism": "SCRAM-SHA-256"}),
            "plain": (SASL_HANDSHAKE, 1, {"mechanism": "PLAIN"}),
            "old-scram": (SASL_HANDSHAKE, 0, {"mechanism": "SCRAM-SHA-512"}),
            "old-plain": (SASL_HANDSHAKE, 0, {"mechanism": "PLAIN"}),
            "gssapi": (SASL_HANDSHAKE, 1, {"mechanism": "GSSAPI"}),
            "first": (SASL_AUTHENTICATE, 2, {"auth_bytes": self.client.first()}),
            "last": (SASL_AUTHENTICATE, 2, {"auth_bytes": last}),
            "wrong": (SASL_AUTHENTICATE, 2, {"auth_bytes": b"wrong"}),
            "replay": (SASL_AUTHENTICATE, 2, {"auth_bytes": last.replace(b"r=", b"r=x")}),
            "proofless": (SASL_AUTHENTICATE, 2, {"auth_bytes": last.rpartition(b",p=")[0]}),
            "old-first": (SASL_AUTHENTICATE, 0, {"auth_bytes": self.client.first()}),
            "old-last": (SASL_AUTHENTICATE, 0, {"auth_bytes": last}),
            "password": (SASL_AUTHENTICATE, 2, {"auth_bytes": PLAIN_TOKEN}),
            "guess": (SASL_AUTHENTICATE, 2, {"auth_bytes": PLAIN_TOKEN + b"x"}),
            "passwordless": (SASL_AUTHENTICATE, 2, {"auth_bytes": b"\0alice\0"}),
            "nameless": (SASL_AUTHENTICATE, 2, {"auth_bytes": b"\0\0x"}),
            "four-parts": (SASL_AUTHENTICATE, 2, {"auth_bytes": PLAIN_TOKEN + b"\0"}),
            "nine-parts": (SASL_AUTHENTICATE, 2, {"auth_bytes": b"\0" * 8}),
            "password-for-bob": (SASL_AUTHENTICATE, 2, {"auth_bytes": BOB.encode() + PLAIN_TOKEN}),
            "metadata": (METADATA, 12, {}),
        }
        return requests[move]

    def _told(self, move: str, reply: bytes | None) -> str:
        if reply is None:
            return ""
        if move.startswith("bare") or move == "garbage":
            return ""
        key, version, _ = self._request(move)
        response = read_response(key, version, reply)
        error = getattr(response, "error_code", ErrorCode.none)
        if getattr(response, "error_message", None) is not None:
            self.messages.append(response.error_message)
        if getattr(response, "session_lifetime", None):
            self.messages.append(f"lasts {response.session_lifetime}")
        return "" if error is ErrorCode.none else f"{error.value}"
