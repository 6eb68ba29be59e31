"""Accepts the connections of one TLS listener and does their handshakes; each takes a slot from the start.

A protocol hears of its connection only after the handshake, so connections are accepted here, one by one:
first a slot of `unauthenticated`, then the handshake in a task of the server's group.

See docs/decisions/0901.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Final

from tidemill_broker.auth.tls.contexts import SSL, TlsContexts
from tidemill_broker.listeners import ListenerName
from tidemill_broker.server.connection import ClientConnection, Connections, spell_peer
from tidemill_broker.server.handshake import Handshake
from tidemill_broker.server.unauthenticated import Slot, UnauthenticatedConnections

logger = logging.getLogger(__name__)

# No file descriptor or memory left: others may end meanwhile.
PAUSE_S: Final = 0.2
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class TlsAcceptor:
    """The accepting side of one TLS listener."""

    def __init__(
        self,
        connections: Connections,
        unauthenticated: UnauthenticatedConnections,
        listener: ListenerName,
        accepting: socket.socket,
        certificates: TlsContexts,
    ) -> None:
        self._connections = connections
        self._unauthenticated = unauthenticated
        self._listener = listener
        self._socket = accepting
        self._certificates = certificates
        # The slot's own deadline comes first.
        self._handshake_s = 2 * connections.settings.tidemill_authentication_timeout_ms / 1000

    async def run(self) -> None:
        """Accept until cancelled."""
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's
        with self._socket:
            while True:
                accepted = await self._accept()
                if accepted is None:
                    continue
                handshake = Handshake(accepted)
                try:
                    slot = await self._unauthenticated.admit(handshake.cut)
                except BaseException:
                    accepted.close()
                    raise
                self._connections.tasks.create_task(
                    self._shake(handshake, accepted, slot), name="TLS handshake"
                )

    async def _accept(self) -> socket.socket | None:
        try:
            accepted, _ = await self._connections.loop.sock_accept(self._socket)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                logger.error("cannot accept listener=%s: %s", self._listener, error.strerror)  # noqa: TRY400 - errno says it all
                await asyncio.sleep(PAUSE_S)
            return None
        return accepted

    async def _shake(self, handshake: Handshake, accepted: socket.socket, slot: Slot) -> None:
        """Do the handshake; from then on the socket is the connection's."""
        connection = ClientConnection(self._connections, self._listener, slot)
        peername = spell_peer(_peername(accepted))
        context = self._certificates.context(verifies=self._listener == "tls")
        try:
            await handshake.shake(connection, context, self._handshake_s)
        except Exception:  # the edge of a task: a bug of ours ends this connection only
            logger.exception("TLS handshake failed peer=%s", peername)
        finally:
            if not connection.began:
                slot.free()
                self._log_failure(peername, slot.reason or handshake.fault)
                accepted.close()

    def _log_failure(self, peer: str, reason: str | None) -> None:
        # None: it ended without a fault, as port scanners end.
        if reason is not None:
            self._connections.broker.audit.login_failed(
                listener=self._listener, peer=peer, mechanism=SSL, claimed="", reason=reason
            )


def _peername(connection: socket.socket) -> tuple[str, int] | None:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # gone already
        return None
    return host, port
