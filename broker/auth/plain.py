"""SASL/PLAIN (RFC 4616): the password itself, checked against the salted keys that SCRAM has.

Only listeners that are TLS may offer it. Salting takes milliseconds, so a few threads of its own do it.
"""

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from broker.auth.mechanism import AuthenticationFailed, Exchange, Step
from broker.auth.scram import OTHER_AUTHORIZATION_ID
from broker.auth.scram_keys import SCRAM_NAMES, matches
from broker.auth.scram_users import ScramUsers
from broker.auth.session import Principal, Session

# Nobody's guessing may take all cores from those who are logged in.
THREADS: Final = 2
# Kafka: PlainSaslServer's sentences.
INVALID: Final = "Authentication failed: Invalid username or password"
NAMELESS: Final = "Authentication failed: username not specified"
KEYLESS: Final = "Authentication failed: password not specified"
PARTS: Final = 3


class PlainMechanism:
    """PLAIN over the store of users."""

    def __init__(self, users: ScramUsers) -> None:
        self._users = users
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="plain")

    @property
    def name(self) -> str:
        """PLAIN."""
        return "PLAIN"

    def begin(self, host: str = "") -> Exchange:  # noqa: ARG002  # passwords know no places
        """Begin an exchange, of one message."""
        return _PlainExchange(self)

    async def log_in(self, token: bytes) -> Step:
        """Take [authzid] NUL authcid NUL password. Raises AuthenticationFailed."""
        authorization_id, username, password = _read(token)
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._threads, self._opens, username, password):
            raise AuthenticationFailed("wrong user name or password", claimed=username, public=INVALID)
        if authorization_id not in ("", username):
            raise AuthenticationFailed(
                "another authorization id than the user", claimed=username, public=OTHER_AUTHORIZATION_ID
            )
        return Step(
            token=b"", session=Session(principal=Principal(type="User", name=username), mechanism="PLAIN")
        )

    def _opens(self, username: str, password: str) -> bool:
        """Try the keys of both mechanisms, always, so that no name is answered sooner than another."""
        opens = False
        for mechanism in SCRAM_NAMES:
            credential, known = self._users.find(mechanism, username)
            opens |= matches(mechanism, credential, password) and known
        return opens


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
