"""A TLS handshake as the server does it, and why it failed.

uvloop ends a failed handshake without sending OpenSSL's alert: a client with a certificate of another CA
would see no more than a closed connection. Here the alert goes out first.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from contextvars import ContextVar
from typing import Final

# How long a peer whose handshake failed may take to read why.
LINGER_S: Final = 0.2
# How long a peer may take to answer the end of TLS (close_notify) before it is cut off.
SHUTDOWN_S: Final = 1.0
_HINTS: Final = {
    "HTTP_REQUEST": " (HTTP on a Kafka listener)",
    "WRONG_VERSION_NUMBER": " (no TLS at all: the client needs security.protocol=SSL or SASL_SSL)",
    "UNSUPPORTED_PROTOCOL": " (older than TLS 1.2)",
    "TLSV1_ALERT_UNKNOWN_CA": " (the client does not trust the broker's CA)",
    "SSLV3_ALERT_BAD_CERTIFICATE": " (the client rejects the broker's certificate: its name or its dates)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": " (the client rejects the broker's certificate: CA, name or dates)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": " (ssl.client.auth=required)",
}
# The handshake that a callback of the transport belongs to: nothing else leads from OpenSSL's object to it.
_CURRENT: Final[ContextVar[Handshake]] = ContextVar("handshake")


class Handshake:
    """The handshake of one connection; `cut` ends both at any time."""

    def __init__(self, connection: socket.socket) -> None:
        self.fault: str | None = None
        self._connection = connection

    async def shake(
        self, protocol: asyncio.BufferedProtocol, context: ssl.SSLContext, timeout_s: float
    ) -> None:
        """Begin `protocol` behind the handshake. `fault` tells afterwards what went wrong, if it did."""
        loop = asyncio.get_running_loop()
        context.sslobject_class = _Alerting
        _CURRENT.set(self)
        with suppress(OSError):  # the fault is noted already, or the peer went without one
            await loop.connect_accepted_socket(
                lambda: protocol,
                self._connection,
                ssl=context,
                ssl_handshake_timeout=timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )

    def fail(self, error: ssl.SSLError) -> None:
        """Note what OpenSSL says, and end the connection once its alert has had time to go out."""
        self.fault = _spell(error)
        asyncio.get_running_loop().call_later(LINGER_S, self.cut)

    def cut(self) -> None:
        """End the connection whatever state it is in: its transport sees the end of the stream."""
        with suppress(OSError):  # closed already
            self._connection.shutdown(socket.SHUT_RDWR)


class _Alerting(ssl.SSLObject):
    """Asks for more bytes when its handshake has failed, for then the transport sends what there is."""

    def do_handshake(self) -> None:
        handshake = _CURRENT.get()
        failed = handshake.fault is not None
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if failed:
                raise
            handshake.fail(error)
            raise ssl.SSLWantReadError from None


def _spell(error: ssl.SSLError) -> str:
    """What went wrong, in OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is rejected: {error.verify_message}"
    words = (error.reason or "no reason").replace("_", " ").lower()
    return f"TLS handshake failed: {words}{_HINTS.get(error.reason or '', '')}"
