"""SASL/PLAIN (RFC 4616): the password itself, checked against the salted keys that SCRAM has.

Only listeners that are TLS may offer it. Salting takes milliseconds, so a few threads of its own do it, and
not again for a password that has just opened (docs/decisions/0990).
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tidemill_broker.auth.mechanism import AuthenticationFailed, Exchange, Step
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, matches
from tidemill_broker.auth.scram.mechanism import OTHER_AUTHORIZATION_ID
from tidemill_broker.auth.scram.users import Found, ScramUsers
from tidemill_broker.auth.session import Principal, Session

# Nobody's guessing may take all cores from those who are logged in.
THREADS: Final = 2
# Kafka: PlainSaslServer's sentences.
INVALID: Final = "Authentication failed: Invalid username or password"
NAMELESS: Final = "Authentication failed: username not specified"
KEYLESS: Final = "Authentication failed: password not specified"
PARTS: Final = 3
# Users whose last password is remembered; the rest is salted each time.
PROOFS_MAX: Final = 4096
_NO_PROOF: Final = bytes(32)


class PlainMechanism:
    """PLAIN over the store of users."""

    def __init__(self, users: ScramUsers) -> None:
        self._users = users
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="plain")
        # By name, a MAC of the password that opened, by a key that is nowhere but here.
        self._key = secrets.token_bytes(32)
        self._proofs: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        """PLAIN."""
        return "PLAIN"

    def begin(self, host: str = "") -> Exchange:  # noqa: ARG002 - a password is good from every address
        """Begin an exchange, of one message."""
        return _PlainExchange(self)

    async def log_in(self, token: bytes) -> Step:
        """Take [authzid] NUL authcid NUL password. Raises AuthenticationFailed."""
        authorization_id, username, password = _read(token)
        found = [self._users.find(mechanism, username) for mechanism in SCRAM_NAMES]
        proof = self._proof(found, password)
        if not hmac.compare_digest(self._proofs.get(username, _NO_PROOF), proof):
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(self._threads, _opens, found, password):
                raise AuthenticationFailed("wrong user name or password", claimed=username, public=INVALID)
            self._remember(username, proof)
        if authorization_id not in ("", username):
            raise AuthenticationFailed(
                "another authorization id than the user", claimed=username, public=OTHER_AUTHORIZATION_ID
            )
        return Step(
            token=b"", session=Session(principal=Principal(type="User", name=username), mechanism="PLAIN")
        )

    def _proof(self, found: Sequence[Found], password: str) -> bytes:
        """What shows that a password has opened these keys; another password of the user, another proof."""
        keys = b"".join(each.credential.stored_key for each in found)  # of one length, whoever it is
        return hmac.digest(self._key, keys + password.encode(), "sha256")

    def _remember(self, username: str, proof: bytes) -> None:
        self._proofs.pop(username, None)
        if len(self._proofs) >= PROOFS_MAX:
            del self._proofs[next(iter(self._proofs))]
        self._proofs[username] = proof


class _PlainExchange:
    """The one message."""

    __slots__ = ("_mechanism", "_used")

    def __init__(self, mechanism: PlainMechanism) -> None:
        self._mechanism = mechanism
        self._used = False

    def respond(self, token: bytes) -> Awaitable[Step]:
        """Take the message. Raises AuthenticationFailed, at once or when awaited."""
        if self._used:
            raise AuthenticationFailed("a message after the end of the exchange")
        self._used = True
        return self._mechanism.log_in(token)


def _opens(found: Sequence[Found], password: str) -> bool:
    """Try the keys of both mechanisms, always, so that no name is answered sooner than another."""
    opens = False
    for mechanism, (credential, known) in zip(SCRAM_NAMES, found, strict=True):
        opens |= matches(mechanism, credential, password) and known
    return opens


def _read(token: bytes) -> tuple[str, str, str]:
    parts = _text(token).split("\0")
    if len(parts) != PARTS:
        public = f"Invalid SASL/PLAIN response: expected {PARTS} tokens, got {min(len(parts), PARTS + 1)}"
        raise AuthenticationFailed("the message has not three parts", public=public)
    authorization_id, username, password = parts
    if not username:
        raise AuthenticationFailed("no user name", public=NAMELESS)
    if not password:
        raise AuthenticationFailed("no password", claimed=username, public=KEYLESS)
    return authorization_id, username, password


def _text(token: bytes) -> str:
    # The decoder's own error holds the message, and with it a password: it must not be anybody's context.
    text = token.decode(errors="surrogateescape")
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise AuthenticationFailed("the message is not UTF-8")
    return text
