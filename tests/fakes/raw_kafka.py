"""A client that speaks one request at a time on one socket: what a test says is what the broker gets."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
from typing import Any

from tests.fakes.kafka_frames import read_response, request, request_frame

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
TIMEOUT_S = 20


class Disconnected(Exception):
    """The broker closed the connection instead of an answer."""


class LoginFailed(Exception):
    """The broker does not believe who this is."""


class RawKafka:
    """One connection; `tls` None: in the clear."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        self._stream = self._socket.makefile("rb")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def ask(self, api_key: int, version: int, **members: Any) -> Any:
        """One request, and its reply as an entity. Raises Disconnected."""
        return read_response(
            api_key, version, self.ask_raw(request_frame(request(api_key, version, **members)))
        )

    def ask_raw(self, frame: bytes) -> bytes:
        """One frame without its length, and the reply's with it."""
        try:
            self._socket.sendall(struct.pack(">i", len(frame)) + frame)
            length = self._stream.read(4)
            body = self._stream.read(int.from_bytes(length, "big"))
        except ConnectionError as error:
            raise Disconnected from error
        if not length:
            raise Disconnected
        return length + body

    def login(self, user: str, password: str, mechanism: str = "SCRAM-SHA-512") -> None:
        """RFC 5802's exchange. Raises LoginFailed."""
        self.ask(SASL_HANDSHAKE, 1, mechanism=mechanism)
        digest = "sha512" if mechanism.endswith("512") else "sha256"
        nonce = secrets.token_hex(12)
        bare = f"n={user},r={nonce}"
        first = self._authenticate(f"n,,{bare}").decode()
        said = dict(part.split("=", 1) for part in first.split(","))
        salted = salted_password(digest, password, base64.b64decode(said["s"]), int(said["i"]))
        unproved = f"c=biws,r={said['r']}"
        key = hmac.digest(salted, b"Client Key", digest)
        signed = f"{bare},{first},{unproved}".encode()
        signature = hmac.digest(hashlib.new(digest, key).digest(), signed, digest)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._authenticate(f"{unproved},p={base64.b64encode(proof).decode()}")

    def _authenticate(self, token: str) -> bytes:
        reply = self.ask(SASL_AUTHENTICATE, 1, auth_bytes=token.encode())
        if reply.error_code:
            raise LoginFailed(reply.error_message)
        return bytes(reply.auth_bytes)


@functools.cache
def salted_password(digest: str, password: str, salt: bytes, iterations: int) -> bytes:
    """RFC 5802's SaltedPassword."""
    return hashlib.pbkdf2_hmac(digest, password.encode(), salt, iterations)
