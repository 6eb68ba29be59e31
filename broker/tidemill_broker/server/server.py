"""The broker's listeners, and every connection until it ends.

Knows nothing of any API: `connection` turns bytes into frames for `apis.dispatch`, `tls_acceptor` accepts and
does TLS handshakes, `unauthenticated` bounds those that have not logged in. `__main__` calls `serve`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from functools import partial
from typing import Final

from tidemill_broker.apis import Broker
from tidemill_broker.auth.tls.contexts import TlsContexts
from tidemill_broker.errors import BrokerError
from tidemill_broker.listeners import ListenerName
from tidemill_broker.server.connection import ClientConnection, Connections
from tidemill_broker.server.tls_acceptor import TlsAcceptor
from tidemill_broker.server.unauthenticated import UnauthenticatedConnections
from tidemill_broker.settings import Settings

logger = logging.getLogger(__name__)

DRAIN_S: Final = 2.0
# How often sessions that have come to their end are looked for, and replies that nobody reads are counted.
LOOK_S: Final = 1.0
BACKLOG: Final = 512


class CannotListen(BrokerError):
    """An address that a listener cannot have."""

    def __init__(self, listener: ListenerName, port: int, error: OSError) -> None:
        super().__init__(f"cannot listen on port {port}: {error.strerror}")
        self.listener = listener
        self.port = port
        self.error = error


async def serve(broker: Broker, settings: Settings, certificates: TlsContexts | None = None) -> Server:
    """Listen as the settings say; `close` from the same task. Raises CannotListen.

    `certificates` may be left out where only the plaintext listener is on.
    """
    server = Server(broker, settings, certificates)
    await server.start()
    return server


class Server:
    """The listening sockets and every connection."""

    def __init__(self, broker: Broker, settings: Settings, certificates: TlsContexts | None = None) -> None:
        self.broker = broker
        self.settings = settings
        self.connections = Connections(broker, settings)
        self._loop = self.connections.loop
        self._unauthenticated = UnauthenticatedConnections(
            self._loop,
            most=settings.tidemill_unauthenticated_connections_max,
            timeout_s=settings.tidemill_authentication_timeout_ms / 1000,
        )
        self._certificates = certificates
        self._idle_s = settings.connections_max_idle_ms / 1000
        self._sweep: asyncio.TimerHandle | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._listeners: list[asyncio.Server] = []
        self._acceptors: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Accept connections from now on, and write the ports into the broker. Raises CannotListen."""
        sockets: dict[ListenerName, socket.socket] = {}
        try:
            for name, port in self.settings.listening.items():
                sockets[name] = self._listen(name, port)
        except CannotListen:
            for each in sockets.values():
                each.close()
            raise
        self.broker.ports.update({name: each.getsockname()[1] for name, each in sockets.items()})
        # Left in `close`: the group holds the replies of asynchronous handlers, whose faults never reach it.
        await self.connections.tasks.__aenter__()
        await self._open(sockets)
        self._sweep_later()
        self._look()

    @property
    def port(self) -> int:
        """The port of the first listener."""
        return self.broker.ports[next(iter(self.settings.listening))]

    async def close(self) -> None:
        """Stop accepting, let replies in work go out (for DRAIN_S at most), then end every connection."""
        for listener in self._listeners:
            listener.close()
        for acceptor in self._acceptors:
            acceptor.cancel()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._next_look is not None:
            self._next_look.cancel()
        self._unauthenticated.end_all()
        for connection in self.connections:
            connection.drain()
        try:
            async with asyncio.timeout(DRAIN_S):
                while self.connections:
                    await next(iter(self.connections)).lost.wait()
        except TimeoutError:
            logger.warning("ending connections with unfinished requests count=%d", len(self.connections))
        for connection in self.connections:
            connection.abort()
        await self.connections.tasks.__aexit__(None, None, None)

    def _listen(self, name: ListenerName, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        try:
            return socket.create_server((self.settings.host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise CannotListen(name, port, error) from error

    async def _open(self, sockets: Mapping[ListenerName, socket.socket]) -> None:
        for name, each in sockets.items():
            if name == "plaintext":
                # Nobody has to log in here, so a connection takes no slot.
                made = partial(ClientConnection, self.connections, name)
                self._listeners.append(await self._loop.create_server(made, sock=each, backlog=BACKLOG))
            else:
                assert self._certificates is not None, "__main__ opens them where a listener needs them"
                acceptor = TlsAcceptor(
                    self.connections, self._unauthenticated, name, each, self._certificates
                )
                tasks = self.connections.tasks
                self._acceptors.append(tasks.create_task(acceptor.run(), name=f"accept {name}"))

    def _sweep_later(self) -> None:
        if self._idle_s > 0:
            self._sweep = self._loop.call_later(max(self._idle_s / 4, 0.05), self._end_idle)

    def _end_idle(self) -> None:
        since = self._loop.time() - self._idle_s
        for connection in self.connections:
            connection.end_if_idle(since)
        self._sweep_later()

    def _look(self) -> None:
        if self.broker.mechanisms:
            now_s = self.broker.monotonic_s()
            for connection in self.connections:
                connection.end_if_expired(now_s)
        self.connections.bound_replies()
        self._next_look = self._loop.call_later(LOOK_S, self._look)
