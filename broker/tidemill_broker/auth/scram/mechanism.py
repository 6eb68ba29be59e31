"""SCRAM-SHA-256 and SCRAM-SHA-512, the server's side of the exchange as Kafka's brokers speak it.

RFC 5802 and RFC 7677 in Kafka's dialect (KIP-84; ScramSaslServer, ScramMessages), without channel binding.
docs/decisions/0910 says why no library does it. Knows salted keys only; an unknown user goes the whole way.
"""

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tidemill_broker.auth.mechanism import AuthenticationFailed, Exchange, Step
from tidemill_broker.auth.scram.keys import ScramName, digest, keyed
from tidemill_broker.auth.scram.users import Found, ScramUsers
from tidemill_broker.auth.session import Principal, Session

# Kafka: ScramMessages' patterns. They are ASCII; extensions may have names of several letters.
_NAME: Final = rb"(?:[\x01-\x2b\x2d-\x3c\x3e-\x7f]|=2C|=3D)+"
_NONCE: Final = rb"[\x21-\x2b\x2d-\x7e]+"
_EXTENSIONS: Final = rb"(?:,[A-Za-z]+=[\x01-\x2b\x2d-\x7f]+)*"
_BASE64: Final = rb"(?:[a-zA-Z0-9/+]{4})*(?:[a-zA-Z0-9/+]{3}=|[a-zA-Z0-9/+]{2}==)?"
# Only "n": a client that would bind to the channel, or thinks that we could, is not served by Kafka either.
# No m= before the name: it marks what a server must know or reject (RFC 5802 section 5.1), and none is known.
CLIENT_FIRST: Final = re.compile(
    rb"(?P<gs2>n,(?:a=(?P<authzid>%b))?,)(?P<bare>n=(?P<name>%b),r=(?P<nonce>%b)(?P<extensions>%b))"
    % (_NAME, _NAME, _NONCE, _EXTENSIONS)
)
CLIENT_FINAL: Final = re.compile(
    rb"(?P<without_proof>c=(?P<binding>%b),r=(?P<nonce>%b)%b),p=(?P<proof>%b)"
    % (_BASE64, _NONCE, _EXTENSIONS, _BASE64)
)
TOKEN_AUTHENTICATION: Final = b"tokenauth=true"  # KIP-48; Kafka: ScramLoginModule.TOKEN_AUTH_CONFIG
OTHER_AUTHORIZATION_ID: Final = (
    "Authentication failed: Client requested an authorization id that is different from username"
)
NONCE_BYTES: Final = 24

_Respond = Callable[[bytes], Step]


def new_nonce() -> str:
    """Make the server's half of a nonce: printable, without a comma."""
    return secrets.token_urlsafe(NONCE_BYTES)


class ScramMechanism:
    """One of the two mechanisms, over the store of users."""

    def __init__(
        self, name: ScramName, users: ScramUsers, *, make_nonce: Callable[[], str] = new_nonce
    ) -> None:
        self._name = name
        self._users = users
        self._make_nonce = make_nonce

    @property
    def name(self) -> ScramName:
        """SCRAM-SHA-256 or SCRAM-SHA-512."""
        return self._name

    def begin(self, host: str = "") -> Exchange:  # noqa: ARG002 - a password is good from every address
        """Begin an exchange."""
        return _ScramExchange(self._name, self._users, self._make_nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """What the client's second message is checked against."""

    username: str
    found: Found = field(repr=False)
    gs2_header: bytes
    client_first_bare: bytes
    server_first: bytes
    nonce: bytes


class _ScramExchange:
    """client-first -> server-first, client-final -> server-final; a step is taken once, in this order."""

    __slots__ = ("_begun", "_make_nonce", "_mechanism", "_respond", "_users")

    def __init__(self, mechanism: ScramName, users: ScramUsers, make_nonce: Callable[[], str]) -> None:
        self._mechanism = mechanism
        self._users = users
        self._make_nonce = make_nonce
        self._begun: _Begun | None = None
        self._respond: _Respond = self._server_first

    def respond(self, token: bytes) -> Step:
        """Take client-first, then client-final. Raises AuthenticationFailed, after which nothing is taken."""
        respond, self._respond = self._respond, _nothing_more
        return respond(token)

    def _server_first(self, token: bytes) -> Step:
        message = CLIENT_FIRST.fullmatch(token)
        if message is None:
            raise AuthenticationFailed("the first message is not SCRAM's client-first")
        username = _unescaped(message["name"])
        if TOKEN_AUTHENTICATION in message["extensions"].split(b","):
            raise AuthenticationFailed("there are no delegation tokens here", claimed=username)
        if message["authzid"] is not None and _unescaped(message["authzid"]) != username:
            raise AuthenticationFailed(
                "another authorization id than the user", claimed=username, public=OTHER_AUTHORIZATION_ID
            )
        found = self._users.find(self._mechanism, username)
        nonce = message["nonce"] + self._make_nonce().encode()
        salt, iterations = b64encode(found.credential.salt), found.credential.iterations
        self._begun = _Begun(
            username=username,
            found=found,
            gs2_header=message["gs2"],
            client_first_bare=message["bare"],
            server_first=b"r=%b,s=%b,i=%d" % (nonce, salt, iterations),
            nonce=nonce,
        )
        self._respond = self._server_final
        return Step(token=self._begun.server_first)

    def _server_final(self, token: bytes) -> Step:
        begun, self._begun = self._begun, None
        assert begun is not None, "server-first sets it"
        message = CLIENT_FINAL.fullmatch(token)
        if message is None:
            raise AuthenticationFailed(
                "the second message is not SCRAM's client-final", claimed=begun.username
            )
        # Kafka does not look at it; RFC 5802 section 5.1 says that a server must.
        if not hmac.compare_digest(b64decode(message["binding"]), begun.gs2_header):
            raise AuthenticationFailed(
                "the channel binding is not the first message's", claimed=begun.username
            )
        if not hmac.compare_digest(message["nonce"], begun.nonce):
            raise AuthenticationFailed("the nonce is not this exchange's", claimed=begun.username)
        parts = (begun.client_first_bare, begun.server_first, message["without_proof"])
        signature = self._verify(begun, b",".join(parts), b64decode(message["proof"]))
        session = Session(principal=Principal(type="User", name=begun.username), mechanism=self._mechanism)
        return Step(token=b"v=" + b64encode(signature), session=session)

    def _verify(self, begun: _Begun, auth_message: bytes, proof: bytes) -> bytes:
        """Check the client's proof and make the server's signature, in the same time for everybody."""
        credential = begun.found.credential
        client_signature = keyed(self._mechanism, credential.stored_key, auth_message)
        if len(proof) != len(client_signature):
            raise AuthenticationFailed("the proof has not the length of a key", claimed=begun.username)
        client_key = bytes(left ^ right for left, right in zip(client_signature, proof, strict=True))
        signature = keyed(self._mechanism, credential.server_key, auth_message)
        proven = hmac.compare_digest(digest(self._mechanism, client_key), credential.stored_key)
        if not (proven and begun.found.known):
            reason = "wrong password" if begun.found.known else "no such user"
            raise AuthenticationFailed(reason, claimed=begun.username)
        return signature


def _nothing_more(_token: bytes) -> Step:
    raise AuthenticationFailed("a message after the end of the exchange")


def _unescaped(name: bytes) -> str:
    return name.decode("ascii").replace("=2C", ",").replace("=3D", "=")
