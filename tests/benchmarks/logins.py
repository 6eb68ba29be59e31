"""A client that logs in again and again, in a process of its own: eight connections at a time, no resumption.

Each login is what a Kafka client does until it may ask: connect, TLS handshake, ApiVersions, and for SASL
SaslHandshake and the mechanism's tokens. Requests are spelt by hand and a SCRAM user's keys are derived once,
so that the brokers are measured as far as a client in Python allows; what it costs is measured too.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CONNECTIONS = 8
API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = (18, 0), (17, 1), (36, 1)
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who logs in, where and how often. `mechanism` "": by TLS alone; `token` is all but SCRAM send."""

    port: int
    ca: str
    logins: int
    keystore: str = ""
    mechanism: str = ""
    token: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How long all logins took together, and what CPU time the client spent on them."""

    seconds: float
    client_cpu_s: float


def log_in_often(plan: Plan) -> Taken:
    """Carry the plan out in a new process. Raises RuntimeError with what went wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.logins"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode != 0:
        raise RuntimeError(f"{plan.mechanism or 'TLS'}: {done.stderr[-1000:]}")
    return Taken(**json.loads(done.stdout))


class _Client:
    """All connections of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._context = ssl.create_default_context(cafile=plan.ca)
        if plan.keystore:
            self._context.load_cert_chain(plan.keystore)
        self._left = plan.logins
        self._lock = threading.Lock()
        self._faults: list[Exception] = []

    def run(self) -> Taken:
        """Log in as often as planned. Raises the first fault."""
        self.log_in()  # so that what is made once is there
        threads = [threading.Thread(target=self._work) for _ in range(CONNECTIONS)]
        cpu_s, started_s = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        if self._faults:
            raise self._faults[0]
        return Taken(seconds=seconds, client_cpu_s=cpu_s)

    def log_in(self) -> None:
        """Connect, say who it is, and leave."""
        plan = self._plan
        plain = socket.create_connection(("127.0.0.1", plan.port), timeout=_TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._context.wrap_socket(plain, server_hostname="localhost") as tls:
            _ask(tls, API_VERSIONS, b"")
            if plan.mechanism:
                _ask(tls, SASL_HANDSHAKE, _string(plan.mechanism.encode()))
                if plan.mechanism.startswith("SCRAM"):
                    _scram(tls, plan)
                else:
                    _authenticate(tls, plan.token.encode())

    def _work(self) -> None:
        try:
            while self._more():
                self.log_in()
        except Exception as fault:  # noqa: BLE001 - told by `run`
            self._faults.append(fault)

    def _more(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0 and not self._faults


def _ask(tls: ssl.SSLSocket, api: tuple[int, int], body: bytes) -> bytes:
    """One request; the reply after its correlation id and error, which must be none."""
    frame = struct.pack(">hhih", *api, 7, -1) + body
    tls.sendall(struct.pack(">i", len(frame)) + frame)
    reply = bytearray()
    while len(reply) < 4 or len(reply) < 4 + int.from_bytes(reply[:4], "big"):
        received = tls.recv(65536)
        if not received:
            raise ConnectionError(f"the broker closed the connection in request {api[0]}")
        reply += received
    (error,) = struct.unpack_from(">h", reply, 8)
    if error:
        raise ConnectionError(f"request {api[0]} answered error {error}: {bytes(reply[10:200])!r}")
    return bytes(reply[10:])


def _authenticate(tls: ssl.SSLSocket, token: bytes) -> bytes:
    """Send a token; the broker's, out of the reply: error message, token, lifetime."""
    reply = _ask(tls, SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
    (length,) = struct.unpack_from(">h", reply)
    start = 2 + max(length, 0)
    (length,) = struct.unpack_from(">i", reply, start)
    return reply[start + 4 : start + 4 + length]


def _scram(tls: ssl.SSLSocket, plan: Plan) -> None:
    """RFC 5802."""
    digest = "sha512" if plan.mechanism.endswith("512") else "sha256"
    bare = f"n={plan.user},r={secrets.token_hex(12)}"
    first = _authenticate(tls, f"n,,{bare}".encode()).decode()
    said: dict[str, Any] = dict(part.split("=", 1) for part in first.split(","))
    key, stored = _keys(digest, plan.password, said["s"], int(said["i"]))
    unproved = f"c=biws,r={said['r']}"
    signature = hmac.digest(stored, f"{bare},{first},{unproved}".encode(), digest)
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    _authenticate(tls, f"{unproved},p={base64.b64encode(proof).decode()}".encode())


@functools.cache
def _keys(digest: str, password: str, salt: str, iterations: int) -> tuple[bytes, bytes]:
    """ClientKey and StoredKey: thousands of rounds, which a client does once for its user."""
    salted = hashlib.pbkdf2_hmac(digest, password.encode(), base64.b64decode(salt), iterations)
    key = hmac.digest(salted, b"Client Key", digest)
    return key, hashlib.new(digest, key).digest()


def _string(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text


if __name__ == "__main__":
    json.dump(asdict(_Client(Plan(**json.load(sys.stdin))).run()), sys.stdout)
