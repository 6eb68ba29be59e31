"""What a SASL mechanism is: it makes exchanges, and an exchange turns a client's tokens into a session.

Owns the seam only. The SASL stage of `apis` drives it; a mechanism knows no frame and no connection.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from tidemill_broker.auth.session import Session
from tidemill_broker.errors import BrokerError


class AuthenticationFailed(BrokerError):
    """A login that is rejected. `public` is all that the client is told, the rest is for the audit line.

    `claimed` is who the client said it is ("" where it said nothing), `reason` why it is not believed. None
    of them ever holds a secret. `public` None: the stage says Kafka's generic sentence for the mechanism.
    """

    def __init__(self, reason: str, *, claimed: str = "", public: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.claimed = claimed
        self.public = public


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The server's token, and the session once the exchange is complete."""

    token: bytes
    session: Session | None = None


class Exchange(Protocol):
    """One authentication: a value with a state, used by one connection and dropped."""

    def respond(self, token: bytes) -> Step | Awaitable[Step]:
        """Take the client's next token. Raises AuthenticationFailed; what work takes long is awaited."""
        ...


class Mechanism(Protocol):
    """A way to log in, for all connections of the listeners that offer it."""

    @property
    def name(self) -> str:
        """IANA's or AWS's name, as SaslHandshake carries it."""
        ...

    def begin(self, host: str = "") -> Exchange:
        """Begin an exchange with the peer at this IP address, which policies may ask for."""
        ...
