"""One listener that does TLS: accepts, shakes hands, and counts everybody as a stranger from the first byte.

A protocol hears of its connection only after the handshake, so connections are accepted here, one by one: a
place among the strangers first, then the handshake, each in a task of the server's group.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING, Final

from tidemill_broker.auth.tls.contexts import SSL
from tidemill_broker.server.connection import Peer, spell_peer
from tidemill_broker.server.handshake import Handshake

if TYPE_CHECKING:
    from tidemill_broker.auth.tls.certificates import Certificates
    from tidemill_broker.listeners import ListenerName
    from tidemill_broker.server import Server
    from tidemill_broker.server.unauthenticated import Stranger

logger = logging.getLogger(__name__)

# No file descriptor or memory left: others may end meanwhile.
PAUSE_S: Final = 0.2
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Entrance:
    """The accepting side of one such listener."""

    def __init__(
        self, server: Server, listener: ListenerName, accepting: socket.socket, certificates: Certificates
    ) -> None:
        self._server = server
        self._listener = listener
        self._socket = accepting
        self._certificates = certificates
        # The stranger's own deadline comes first.
        self._handshake_s = 2 * server.settings.tidemill_authentication_timeout_ms / 1000

    async def run(self) -> None:
        """Accept for ever."""
        self._socket.setblocking(False)  # noqa: FBT003  # the standard library's
        with self._socket:
            while True:
                connection = await self._accept()
                if connection is None:
                    continue
                handshake = Handshake(connection)
                try:
                    stranger = await self._server.strangers.admit(handshake.cut)
                except BaseException:
                    connection.close()
                    raise
                self._server.tasks.create_task(
                    self._greet(handshake, connection, stranger), name="TLS handshake"
                )

    async def _accept(self) -> socket.socket | None:
        try:
            connection, _ = await self._server.loop.sock_accept(self._socket)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                logger.error("cannot accept listener=%s: %s", self._listener, error.strerror)  # noqa: TRY400
                await asyncio.sleep(PAUSE_S)
            return None
        return connection

    async def _greet(self, handshake: Handshake, connection: socket.socket, stranger: Stranger) -> None:
        """Shake hands; from then on the connection is its peer's."""
        peer = Peer(self._server, self._listener, stranger)
        peername = spell_peer(_peername(connection))
        context = self._certificates.context(verifies=self._listener == "tls")
        try:
            await handshake.shake(peer, context, self._handshake_s)
        except Exception:  # the edge of a task: a bug of ours ends this connection only
            logger.exception("TLS handshake failed peer=%s", peername)
        finally:
            if not peer.began:
                stranger.leave()
                self._tell(peername, stranger.reason or handshake.fault)
                connection.close()

    def _tell(self, peer: str, reason: str | None) -> None:
        # None: it ended without a fault, as of those who only look whether the port is open.
        if reason is not None:
            self._server.broker.audit.login_failed(
                listener=self._listener, peer=peer, mechanism=SSL, claimed="", reason=reason
            )


def _peername(connection: socket.socket) -> tuple[str, int] | None:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # gone already
        return None
    return host, port
