"""One listener that does TLS: accepts, shakes hands, and counts everybody as a stranger from the first byte.

A protocol hears of its connection only after the handshake, so connections are accepted here, one by one: a
place among the strangers first, then the handshake, each in a task of the server's group.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from broker.auth.tls import SSL
from broker.server.peer import Peer, spell_peer

if TYPE_CHECKING:
    from broker.auth.certificates import Certificates
    from broker.listeners import ListenerName
    from broker.server import Server
    from broker.server.strangers import Stranger

logger = logging.getLogger(__name__)

# How long a peer may take to answer the end of TLS (close_notify) before it is cut off.
SHUTDOWN_S: Final = 1.0
# No file descriptor or memory left: others may end meanwhile.
PAUSE_S: Final = 0.2
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_HINTS: Final = {
    "HTTP_REQUEST": " (HTTP on a Kafka listener)",
    "WRONG_VERSION_NUMBER": " (no TLS at all: the client needs security.protocol=SSL or SASL_SSL)",
    "UNSUPPORTED_PROTOCOL": " (older than TLS 1.2)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": " (ssl.client.auth=required)",
}


class Entrance:
    """Runs until cancelled."""

    def __init__(
        self, server: Server, listener: ListenerName, accepting: socket.socket, certificates: Certificates
    ) -> None:
        self._server = server
        self._listener = listener
        self._socket = accepting
        self._certificates = certificates

    async def run(self) -> None:
        """Accept for ever."""
        self._socket.setblocking(False)  # noqa: FBT003  # the standard library's
        with self._socket:
            while True:
                connection = await self._accept()
                if connection is None:
                    continue
                try:
                    stranger = await self._server.strangers.admit(partial(_cut, connection))
                except BaseException:
                    connection.close()
                    raise
                self._server.tasks.create_task(self._greet(connection, stranger), name="TLS handshake")

    async def _accept(self) -> socket.socket | None:
        try:
            connection, _ = await self._server.loop.sock_accept(self._socket)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                logger.error("cannot accept listener=%s: %s", self._listener, error.strerror)  # noqa: TRY400
                await asyncio.sleep(PAUSE_S)
            return None
        return connection

    async def _greet(self, connection: socket.socket, stranger: Stranger) -> None:
        """Shake hands; from then on the connection is its peer's."""
        peername = _peername(connection)
        peer = Peer(self._server, self._listener, stranger)
        context = self._certificates.context(verifies=self._listener == "tls")
        try:
            await self._server.loop.connect_accepted_socket(
                lambda: peer,
                connection,
                ssl=context,
                # The stranger's own deadline comes first.
                ssl_handshake_timeout=2 * self._server.settings.tidemill_authentication_timeout_ms / 1000,
                ssl_shutdown_timeout=SHUTDOWN_S,
            )
        except (OSError, ValueError) as error:
            self._tell(spell_peer(peername), stranger.reason or _reason(error))
        except Exception:  # the edge of a task: a bug of ours ends this connection only
            logger.exception("TLS handshake failed peer=%s", spell_peer(peername))
        finally:
            if not peer.began:
                stranger.leave()
                connection.close()

    def _tell(self, peer: str, reason: str) -> None:
        self._server.broker.audit.login_failed(
            listener=self._listener, peer=peer, mechanism=SSL, claimed="", reason=reason
        )


def _cut(connection: socket.socket) -> None:
    """End a connection whatever state it is in: its transport sees the end of the stream, and closes it."""
    with suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


def _peername(connection: socket.socket) -> tuple[str, int] | None:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # gone already
        return None
    return host, port


def _reason(error: Exception) -> str:
    """What went wrong in a handshake, in OpenSSL's words; a certificate's fault is told in full."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        words = error.reason.replace("_", " ").lower()
        return f"TLS handshake failed: {words}{_HINTS.get(error.reason, '')}"
    return "the connection ended in the TLS handshake"
