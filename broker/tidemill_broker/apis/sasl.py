"""The login of one connection: SaslHandshake 0-1, SaslAuthenticate 0-2, and what may be asked before its end.

    FIRST -(ApiVersions)-> HANDSHAKE -(SaslHandshake)-> TOKENS -(the last token)-> OPEN -(KIP-368)-> TOKENS …
    anything else, and every failure -> ENDED: answered after a delay, and the connection is closed

`dispatch` asks the stage of a connection first; a mechanism of `auth` does the exchange. What Kafka's
SaslServerAuthenticator and KafkaChannel do, this does; where it departs, docs/decisions/0911 says so.
"""

import asyncio
import struct
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from enum import Enum, auto
from inspect import isawaitable
from typing import Any, Final, cast

from tidemill_broker.apis import versions
from tidemill_broker.apis.api import Api, CloseConnection, Reply
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.apis.request import Request
from tidemill_broker.auth.mechanism import AuthenticationFailed, Exchange, Mechanism, Step
from tidemill_broker.auth.session import Session
from tidemill_broker.protocol import frames
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import RequestHeader
from tidemill_broker.protocol.schema import response_schema

SASL_HANDSHAKE: Final = 17
SASL_AUTHENTICATE: Final = 36
LAST_HANDSHAKE: Final = 1
LAST_AUTHENTICATE: Final = 2
FIRST_HANDSHAKE_WITH_AUTHENTICATE: Final = 1  # KIP-152; before it tokens travel without a header
# Kafka: KafkaChannel.MIN_REAUTH_INTERVAL_ONE_SECOND_NANOS.
REAUTHENTICATION_INTERVAL_S: Final = 1.0
NAME_CHARACTERS_MAX: Final = 100
# Of ApiVersions in a version that is not answered; clients step down once. (Kafka has no limit.)
REJECTED_VERSIONS_MAX: Final = 5
_KEY: Final = struct.Struct(">h")


class _State(Enum):
    FIRST = auto()  # ApiVersions or SaslHandshake
    HANDSHAKE = auto()  # SaslHandshake
    TOKENS = auto()
    WORKING = auto()  # a token is being checked
    OTHER_MECHANISM = auto()  # of a re-authentication; Kafka tells it at the next message
    OPEN = auto()
    ENDED = auto()


class SaslStage:
    """Where one connection is with its login. `mechanisms` are its listener's, by name."""

    def __init__(self, mechanisms: Mapping[str, Mechanism]) -> None:
        self._mechanisms = mechanisms
        self._state = _State.FIRST
        self._mechanism = ""
        self._exchange: Exchange | None = None
        self._bare_tokens = False
        self._rejected_versions = 0
        self._previous: Session | None = None  # of a re-authentication
        self._reauthenticated_s: float | None = None
        self._expires_s: float | None = None

    @property
    def done(self) -> bool:
        """Whether the client has logged in, and is not about to log in again."""
        return self._state is _State.OPEN

    @property
    def busy(self) -> bool:
        """Whether an answer is being worked on: what comes now must wait, as it does in Kafka."""
        return self._state in (_State.WORKING, _State.ENDED)

    @property
    def expires_s(self) -> float | None:
        """When the session ends, on the broker's monotonic clock; None: never, or there is none."""
        return self._expires_s

    def passes(self, broker: Broker, frame: memoryview) -> bool:
        """Tell whether a request is for the handlers. Raises CloseConnection when the session has expired."""
        if self._state is not _State.OPEN:
            return False
        if self._expires_s is None:
            return True
        now_s = broker.monotonic_s()
        if _key(frame) == SASL_HANDSHAKE and self._may_reauthenticate(now_s):
            return False
        if now_s > self._expires_s:
            raise CloseConnection("the session has expired: the client did not authenticate again")
        return True

    def answer(self, broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
        """Take the next message of a login. Raises CloseConnection and MalformedFrame."""
        most = broker.settings.sasl_server_max_receive_size
        if len(frame) > most:  # the server checks it too, but not of a client that logs in again
            raise CloseConnection(f"a message of {len(frame)} bytes in a login: it may have {most}")
        match self._state:
            case _State.FIRST | _State.HANDSHAKE:
                return self._request(broker, connection, frame)
            case _State.OPEN:  # `passes` has let a re-authentication through
                self._previous = connection.session
                self._reauthenticated_s = broker.monotonic_s()
                return self._request(broker, connection, frame)
            case _State.TOKENS:
                return self._token(broker, connection, frame)
            case _State.OTHER_MECHANISM:
                return self._end(broker, connection, "another mechanism than the session's", None)
            case _State.WORKING | _State.ENDED:
                raise CloseConnection("a message while a login is being checked")

    # SaslHandshake, and ApiVersions before it.

    def _request(self, broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
        header = frames.read_request_header(frame)
        connection.name_client(header.client_id)
        if header.api_key == frames.API_VERSIONS and self._state is _State.FIRST:
            return self._api_versions(broker, connection, header, frame)
        if header.api_key != SASL_HANDSHAKE or not 0 <= header.api_version <= LAST_HANDSHAKE:
            # Nothing of it is read: it may be HTTP, TLS, or a client that knows no SASL.
            raise CloseConnection(f"request {header.api_key} before a login: the listener asks for SASL")
        mechanism: str = cast("Any", frames.decode_request(header, frame)).mechanism
        self._bare_tokens = header.api_version < FIRST_HANDSHAKE_WITH_AUTHENTICATE
        return self._handshake(broker, connection, header, mechanism)

    def _api_versions(
        self, broker: Broker, connection: Connection, header: RequestHeader, frame: memoryview
    ) -> bytes:
        if self._rejected_versions == REJECTED_VERSIONS_MAX:
            raise CloseConnection(f"{REJECTED_VERSIONS_MAX} rejected requests for ApiVersions before a login")
        self._rejected_versions += 1
        if not 0 <= header.api_version <= frames.LAST_API_VERSIONS:
            return frames.framed(versions.fallback(header))
        body = frames.decode_request(header, frame)
        request = Request(api="ApiVersions", header=header, body=body, connection=connection)
        response = versions.api_versions(broker, request)
        if response.error_code is ErrorCode.none:
            self._state = _State.HANDSHAKE
        return frames.framed(frames.encode_response(header, response))

    def _handshake(
        self, broker: Broker, connection: Connection, header: RequestHeader, mechanism: str
    ) -> Reply | Awaitable[Reply]:
        offered = self._mechanisms.get(mechanism)
        error = ErrorCode.unsupported_sasl_mechanism if offered is None else ErrorCode.none
        reply = _encoded(
            header, "SaslHandshakeResponse", error_code=error, mechanisms=tuple(self._mechanisms)
        )
        if offered is None:
            self._mechanism = mechanism[:NAME_CHARACTERS_MAX]
            return self._end(broker, connection, "a mechanism that the listener does not offer", reply)
        if self._previous is not None and self._previous.mechanism != mechanism:
            self._state = _State.OTHER_MECHANISM
        else:
            self._mechanism, self._exchange = mechanism, offered.begin(connection.host)
            self._state = _State.TOKENS
        return reply

    # Tokens.

    def _token(self, broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
        if self._bare_tokens:
            return self._respond(broker, connection, None, bytes(frame))
        header = frames.read_request_header(frame)
        if header.api_key != SASL_AUTHENTICATE:
            reply = _illegal_state(header)
            return self._end(broker, connection, f"request {header.api_key} in the middle of a login", reply)
        if not 0 <= header.api_version <= LAST_AUTHENTICATE:
            raise CloseConnection(f"SaslAuthenticate has no version {header.api_version} here")
        token: bytes = cast("Any", frames.decode_request(header, frame)).auth_bytes
        return self._respond(broker, connection, header, token)

    def _respond(
        self, broker: Broker, connection: Connection, header: RequestHeader | None, token: bytes
    ) -> Reply | Awaitable[Reply]:
        assert self._exchange is not None, "a handshake begins it"
        try:
            step = self._exchange.respond(token)
        except AuthenticationFailed as failure:
            return self._reject(broker, connection, header, failure)
        if isinstance(step, Step):
            return self._take(broker, connection, header, step)
        self._state = _State.WORKING
        return self._respond_later(broker, connection, header, step)

    async def _respond_later(
        self,
        broker: Broker,
        connection: Connection,
        header: RequestHeader | None,
        coming: Awaitable[Step],
    ) -> Reply:
        try:
            step = await coming
        except AuthenticationFailed as failure:
            return await self._reject(broker, connection, header, failure)
        reply = self._take(broker, connection, header, step)
        return await reply if isawaitable(reply) else reply

    def _take(
        self, broker: Broker, connection: Connection, header: RequestHeader | None, step: Step
    ) -> Reply | Awaitable[Reply]:
        """Send the mechanism's token on; the last one opens the connection."""
        lifetime_ms = 0
        if step.session is None:
            self._state = _State.TOKENS
        elif self._previous is not None and self._previous.principal != step.session.principal:
            failure = _other_principal(self._previous, step.session)
            return self._reject(broker, connection, header, failure)
        else:
            lifetime_ms = self._open(broker, connection, step.session)
        if header is None:
            return frames.framed(step.token)
        return _encoded(
            header,
            "SaslAuthenticateResponse",
            error_code=ErrorCode.none,
            error_message="",  # not null, as Kafka's
            auth_bytes=step.token,
            session_lifetime=timedelta(milliseconds=lifetime_ms),
        )

    def _open(self, broker: Broker, connection: Connection, session: Session) -> int:
        """Open it; return its lifetime in ms, 0: no end (Kafka: calcCompletionTimesAndReturn…)."""
        limits = []
        if session.expires_ms is not None:
            limits.append(max(0, session.expires_ms - broker.now_ms()))
        if broker.settings.connections_max_reauth_ms > 0:
            limits.append(broker.settings.connections_max_reauth_ms)
        lifetime_ms = min(limits, default=0)
        self._expires_s = broker.monotonic_s() + lifetime_ms / 1000 if limits else None
        self._exchange = self._previous = None
        self._state = _State.OPEN
        broker.let_in(connection, session)
        return lifetime_ms

    def _may_reauthenticate(self, now_s: float) -> bool:
        # Too soon, and Kafka's handlers answer the handshake: ILLEGAL_SASL_STATE, and all stays as it is.
        last_s = self._reauthenticated_s
        return last_s is None or now_s - last_s >= REAUTHENTICATION_INTERVAL_S

    # The end.

    def _reject(
        self,
        broker: Broker,
        connection: Connection,
        header: RequestHeader | None,
        failure: AuthenticationFailed,
    ) -> Awaitable[Reply]:
        """End with Kafka's SASL_AUTHENTICATION_FAILED; a client without SaslAuthenticate gets no answer."""
        reply = None
        if header is not None:
            what = "authentication" if self._previous is None else "re-authentication"
            message = failure.public or (
                f"Authentication failed during {what} due to invalid credentials "
                f"with SASL mechanism {self._mechanism}"
            )
            reply = _encoded(
                header,
                "SaslAuthenticateResponse",
                error_code=ErrorCode.sasl_authentication_failed,
                error_message=message,
                auth_bytes=b"",
            )
        return self._end(broker, connection, failure.reason, reply, claimed=failure.claimed)

    def _end(
        self, broker: Broker, connection: Connection, reason: str, reply: bytes | None, *, claimed: str = ""
    ) -> Awaitable[Reply]:
        """Write the audit line now and answer the client later: guessing takes time (KIP-306)."""
        self._state = _State.ENDED
        self._exchange = None
        broker.audit.login_failed(
            listener=connection.listener,
            peer=connection.peer,
            mechanism=self._mechanism,
            claimed=claimed,
            reason=reason,
        )
        return _told_later(
            connection, reply, broker.settings.connection_failed_authentication_delay_ms / 1000
        )


async def _told_later(connection: Connection, reply: bytes | None, delay_s: float) -> Reply:
    await asyncio.sleep(delay_s)
    connection.ending = True
    return reply


def _key(frame: memoryview) -> int | None:
    key: int | None = _KEY.unpack_from(frame)[0] if len(frame) >= _KEY.size else None
    return key


def _other_principal(previous: Session, now: Session) -> AuthenticationFailed:
    was, would_be = previous.principal, now.principal
    sentence = "Cannot change principals during re-authentication from"
    return AuthenticationFailed(
        "another principal than the session's",
        claimed=str(would_be),
        public=f"{sentence} {was.type}.{was.name}: {would_be.type}.{would_be.name}",
    )


def _illegal_state(header: RequestHeader) -> bytes | None:
    """Answer ILLEGAL_SASL_STATE in the request's own form, where that is an error code and nothing else."""
    if header.api_key == SASL_HANDSHAKE and 0 <= header.api_version <= LAST_HANDSHAKE:
        return _encoded(
            header, "SaslHandshakeResponse", error_code=ErrorCode.illegal_sasl_state, mechanisms=()
        )
    if header.api_key == frames.API_VERSIONS and 0 <= header.api_version <= frames.LAST_API_VERSIONS:
        return _encoded(header, "ApiVersionsResponse", error_code=ErrorCode.illegal_sasl_state, api_keys=())
    return None


def _encoded(header: RequestHeader, response: str, **members: object) -> bytes:
    build = getattr(response_schema(header), response)
    return frames.framed(frames.encode_response(header, build(**members)))


# What handlers answer: on a listener that asks for no login, and after one (Kafka: KafkaApis).


def sasl_handshake(_broker: Broker, request: Request) -> Any:
    """Answer a SaslHandshake out of turn."""
    reply = request.reply
    return reply.SaslHandshakeResponse(error_code=ErrorCode.illegal_sasl_state, mechanisms=())


def sasl_authenticate(_broker: Broker, request: Request) -> Any:
    """Answer a SaslAuthenticate out of turn."""
    return request.reply.SaslAuthenticateResponse(
        error_code=ErrorCode.illegal_sasl_state,
        error_message="SaslAuthenticate request received after successful authentication",
        auth_bytes=b"",
    )


APIS: Final = (
    Api(
        key=SASL_HANDSHAKE,
        name="SaslHandshake",
        min_version=0,
        max_version=LAST_HANDSHAKE,
        handle=sasl_handshake,
    ),
    Api(
        key=SASL_AUTHENTICATE,
        name="SaslAuthenticate",
        min_version=0,
        max_version=LAST_AUTHENTICATE,
        handle=sasl_authenticate,
    ),
)
