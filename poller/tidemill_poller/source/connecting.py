"""How aiokafka connects, and what went wrong when it cannot.

Owns the spelling of its connection options, the meaning of its errors, and one connection attempt of our own:
aiokafka keeps trying behind its calls, and what a broker answered goes to its log alone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Collection
from typing import Any, Final

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from tidemill_poller.errors import (
    AccessDenied,
    ClientNotTrusted,
    LoginFailed,
    ServerNotTrusted,
    SourceUnavailable,
)
from tidemill_poller.kafka_auth import ClientOptions

# It tells at INFO who has logged in, and at DEBUG each request, those with passwords too.
logging.getLogger("aiokafka.conn").setLevel(logging.WARNING)

_TRUSTED: Final = "trusted: the system's CAs, the SERVER_ROOT_CA_CERTIFICATE secret, TIDEMILL_POLLER_CA_FILE"
_WANTS_MORE: Final = "does this listener want {}? SourceAccessConfigurations must name it"
_ATTEMPT_TIMEOUT_S: Final = 5.0
_SERVERS_MAX: Final = 10

# ValueError, KeyError and AssertionError are what aiokafka says of a server that breaks the rules of SASL.
CLIENT_ERRORS: Final = (KafkaError, OSError, TimeoutError, ValueError, KeyError, AssertionError)
_OF_RIGHTS: Final = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
_OF_SASL: Final = (
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    IllegalSaslStateError,
    ValueError,
    KeyError,
    AssertionError,
)
_REFUSED: Final = {
    UnsupportedSaslMechanismError: "this listener does not offer that mechanism",
    IllegalSaslStateError: "this listener takes no login",
}
"""What aiokafka says of these is a connection's repr."""


def connection_options(options: ClientOptions) -> dict[str, Any]:
    """Spell the options as `create_conn` and every client of aiokafka take them, but for the servers."""
    spelled: dict[str, Any] = {
        "security_protocol": options.security_protocol,
        "ssl_context": options.ssl_context,
    }
    if options.sasl_mechanism is not None:
        spelled["sasl_mechanism"] = options.sasl_mechanism
    if options.sign is not None:
        spelled["sasl_oauth_token_provider"] = _Tokens(options)
    elif options.sasl_mechanism is not None:
        spelled |= {"sasl_plain_username": options.username, "sasl_plain_password": options.password}
    return spelled


def never_create_topics(client: Any) -> None:
    """Let no Metadata request of an AIOKafkaClient create a topic: a deleted one would come back by it."""
    connect = client._get_conn  # noqa: SLF001 - its version is pinned

    async def connected(*args: Any, **options: Any) -> Any:
        connection = await connect(*args, **options)
        if connection is not None and "send" not in vars(connection):
            connection.send = _without_creation(connection.send)
        return connection

    client._get_conn = connected  # noqa: SLF001 - its version is pinned


def _without_creation(send: Callable[..., Any]) -> Callable[..., Any]:
    def sending(request: Any, *args: Any, **options: Any) -> Any:
        if isinstance(request, MetadataRequest):
            request._allow_auto_topic_creation = False  # noqa: SLF001 - nothing else sets it afterwards
        return send(request, *args, **options)

    return sending


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka ships no type information
    """A fresh token for each login."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    async def token(self) -> str:
        assert self._options.sign is not None, "who signs is asked for tokens"
        try:
            return await self._options.sign()
        except SourceUnavailable as error:
            # As an error of its own: anything else would end aiokafka's background tasks.
            raise SaslAuthenticationFailed(str(error)) from error


def sentence(error: BaseException) -> str:
    """Return the error's name and what it says."""
    name, text = type(error).__name__, str(error)
    if not text:
        return name
    return text if text.startswith(name) else f"{name}: {text}"


def kind_of(error: BaseException) -> type[SourceUnavailable]:
    """Return what an error of aiokafka's calls means for the mapping."""
    return AccessDenied if isinstance(error, _OF_RIGHTS) else SourceUnavailable


async def diagnose(options: ClientOptions, servers: Collection[str]) -> SourceUnavailable | None:
    """Try to connect to each server as the client does; None when one of them lets us in.

    The fault names every server, the step in which the way ends, and the error. Its kind is that of the most
    telling one: a refused login says more than a server that is down. Takes 10 seconds at most.
    """
    faults = await asyncio.gather(*(_attempt(options, server) for server in list(servers)[:_SERVERS_MAX]))
    found = [fault for fault in faults if fault is not None]
    if not found or len(found) < len(faults):
        return None
    kind = next((type(fault) for fault in found if type(fault) is not SourceUnavailable), SourceUnavailable)
    return kind("; ".join(map(str, found)))


async def _attempt(options: ClientOptions, server: str) -> SourceUnavailable | None:
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(_ATTEMPT_TIMEOUT_S):
            await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError, TimeoutError) as error:
        return SourceUnavailable(f"{server}: name lookup: {sentence(error)}")
    try:
        async with asyncio.timeout(_ATTEMPT_TIMEOUT_S):
            await _enter(options, host, int(port))
    except CLIENT_ERRORS as error:
        kind, step, found = _reading(options, error)
        return kind(f"{server}: {step}: {found}")
    return None


async def _enter(options: ClientOptions, host: str, port: int) -> None:
    """Connect, log in, and ask what anybody may: a listener that wants a login refuses that, not before."""
    connection = await create_conn(host, port, **connection_options(options))
    try:
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


def _reading(options: ClientOptions, error: BaseException) -> tuple[type[SourceUnavailable], str, str]:
    """Return the kind of a failed connection attempt, the step in which it failed, and its text."""
    # A connection that ends while an answer is awaited carries what ended it as its cause.
    cause = error.__cause__ if isinstance(error, KafkaError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ServerNotTrusted, "TLS handshake", f"{sentence(cause)} ({_TRUSTED})"
    if isinstance(cause, ssl.SSLError):
        alert = "ALERT" in (cause.reason or "")
        return (ClientNotTrusted if alert else SourceUnavailable), "TLS handshake", sentence(cause)
    if isinstance(error, _OF_SASL):
        found = next((text for kind, text in _REFUSED.items() if isinstance(error, kind)), sentence(error))
        return LoginFailed, f"login by {options.sasl_mechanism}", found
    if isinstance(error, KafkaError):
        return _ended_early(options, sentence(error))
    if isinstance(error, ConnectionResetError) and options.ssl_context is not None:
        return SourceUnavailable, "TLS handshake", f"{sentence(error)} (does this listener speak TLS?)"
    return SourceUnavailable, "connection", sentence(error)


def _ended_early(options: ClientOptions, found: str) -> tuple[type[SourceUnavailable], str, str]:
    """Read a connection that ended after it stood (and TLS was agreed on), without an answer."""
    if options.sasl_mechanism is not None:
        # Brokers answer a refused login (since Kafka 1.0); one that goes away just now does not.
        return SourceUnavailable, f"login by {options.sasl_mechanism}", found
    if options.ssl_context is None:
        return SourceUnavailable, "first request", f"{found} ({_WANTS_MORE.format('TLS, or a login')})"
    # TLS 1.3 agrees before the server has verified our certificate; its refusal ends the connection.
    return (
        ClientNotTrusted,
        "first request",
        f"{found} ({_WANTS_MORE.format('a client certificate, or a login')})",
    )
