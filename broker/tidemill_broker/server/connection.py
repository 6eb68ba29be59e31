"""One connection: bytes from a socket to frames, frames to `apis.dispatch`, replies back in order.

Knows nothing of any API. A frame is read straight into the connection's buffer and handed on as a view of
it; a client that does not read its replies is not read from either. A fault ends its connection and no other.
Before the login frames are small, and the connection takes a slot of `unauthenticated`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
import struct
import time
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any, Final, cast

from tidemill_broker.apis import Broker, CloseConnection, dispatch
from tidemill_broker.apis.api import Reply
from tidemill_broker.apis.sasl import SaslStage
from tidemill_broker.auth.session import UNAUTHENTICATED, Session
from tidemill_broker.auth.tls.contexts import SSL, NotLetIn, certificate_session
from tidemill_broker.auth.tls.principal_rules import PrincipalRules
from tidemill_broker.listeners import ListenerName
from tidemill_broker.server.unauthenticated import Slot
from tidemill_broker.settings import Settings

logger = logging.getLogger(__name__)

LENGTH_BYTES: Final = 4
# What an idle connection keeps; larger frames borrow a larger buffer until the client is idle.
BUFFER_BYTES: Final = 64 * 1024
# A buffer grows to at most this ahead of what has really come: a length alone costs no memory.
GROWTH_BYTES: Final = 4 * 1024 * 1024
# Above this many bytes that the client has not taken yet, its requests wait.
UNREAD_BYTES_MAX: Final = 1024 * 1024
# Requests of one connection that may be in work at a time, and bytes of replies that wait for an earlier one.
PENDING_MAX: Final = 64
PENDING_BYTES_MAX: Final = 4 * 1024 * 1024
# Of all connections together, bytes of replies that clients have not taken yet: above it those with most
# are closed. One reply may have 55 MiB (fetch.max.bytes), and a client that takes none gets no second.
REPLIES_BYTES_MAX: Final = 512 * 1024 * 1024
# What they hold is counted each second, and whenever so large a part of that has had to wait.
REPLIES_LOOKS: Final = 64
# Smaller ones are left to the second's count.
LARGE_REPLY_BYTES: Final = 4 * 1024
_LENGTH: Final = struct.Struct(">i")
# Those whose clients must log in first.
SASL_LISTENERS: Final = frozenset({"scram", "iam"})
# Requests that one connection may have served before others have their turn: thousands fit into one read.
TURN_REQUESTS: Final = 64
CLIENT_ID_CHARACTERS_MAX: Final = 200
# A connection that was silent for the idle limit less this much gives its large buffer back.
QUIET_S: Final = 300.0


class _Pending:
    """A reply that cannot go out yet: not there, or behind one that is not."""

    __slots__ = ("future", "reply", "settled")

    def __init__(self) -> None:
        self.reply: Reply = None
        self.settled = False
        self.future: asyncio.Future[Reply] | None = None


class Connections:
    """All connections of a server, and what they share."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self.broker = broker
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.tasks = asyncio.TaskGroup()
        self.principal_rules = PrincipalRules(settings.ssl_principal_mapping_rules)
        self.logged_in = 0  # those that have logged in, or need not
        self.anonymous = 0  # of those, the latter
        self._all: set[ClientConnection] = set()
        self._waiting_bytes = 0  # of replies that had to wait since `bound_replies` was last called

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: ClientConnection) -> None:
        """Add a connection that has begun."""
        self._all.add(connection)

    def discard(self, connection: ClientConnection) -> None:
        """Remove a connection that is lost."""
        self._all.discard(connection)

    def reply_waits(self, size_bytes: int) -> None:
        """Note a reply that cannot go out yet; now and then look at all of them."""
        self._waiting_bytes += size_bytes
        if self._waiting_bytes > REPLIES_BYTES_MAX // REPLIES_LOOKS:
            self._waiting_bytes = 0
            # Not from within a write: this one may be the one that ends.
            self.loop.call_soon(self.bound_replies)

    def bound_replies(self) -> None:
        """Close the connections whose clients leave most unread, while all of them together hold too much."""
        held = {each: each.unread_bytes for each in self._all}
        total = sum(held.values())
        for each in sorted(held, key=held.__getitem__, reverse=True):
            if total <= REPLIES_BYTES_MAX:
                return
            total -= held[each]
            each.end_unread(total + held[each])

    def admits(self, *, anonymous: bool) -> bool:
        """Tell whether one more may stay: half of the open files are the log's, a quarter is for logins."""
        most = self.settings.max_connections
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            most = min(most, files // 2)
        if (
            anonymous
            and self.settings.listening.keys() - {"plaintext"}
            and self.anonymous >= most - most // 4
        ):
            return False
        return self.logged_in < most


class ClientConnection(asyncio.BufferedProtocol):
    """One client's socket. `slot` is what it takes until its login; None where nobody must log in."""

    def __init__(self, connections: Connections, listener: ListenerName, slot: Slot | None = None) -> None:
        self.lost = asyncio.Event()
        self.began = False  # whether there is a connection, behind its handshake
        self._connections = connections
        self._listener: ListenerName = listener
        self._slot = slot
        self._logged_in = self._anonymous = False
        self._frame_bytes_max = connections.settings.sasl_server_max_receive_size
        self._transport: asyncio.Transport | None = None
        self._info = connections.broker.open(peer="", host="", listener=listener)
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._filled = 0
        self._frame_end = 0  # of a frame that has begun to come, length included; 0: not known yet
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._unread = False
        self._held = False
        self._resting = False
        self._draining = False
        self._last_s = connections.loop.time()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: behind the handshake, where there is one."""
        self.began = True
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        peername = transport.get_extra_info("peername")
        self._info.peer = spell_peer(peername)
        session = self._certified(transport.get_extra_info("ssl_object"))
        if session is None:
            self._end(None)
            return
        host = str(peername[0]) if peername else ""
        self._info = self._connections.broker.open(
            peer=self._info.peer, host=host, listener=self._listener, session=session
        )
        self._transport.set_write_buffer_limits(high=UNREAD_BYTES_MAX)
        if self._listener in SASL_LISTENERS:
            self._info.sasl = SaslStage(self._connections.broker.mechanisms.get(self._listener, {}))
        else:
            self._admit()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it
        """Forget it, and cancel what it waited for."""
        self._connections.discard(self)
        self._connections.logged_in -= self._logged_in
        self._connections.anonymous -= self._anonymous
        if self._slot is not None and self._slot.reason is not None:
            self._log_failed_login("", self._slot.reason)
        self._free_slot()
        self._transport = None
        for pending in self._pending:
            if pending.future is not None:
                pending.future.cancel()
        self._pending.clear()
        self.lost.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio calls it
        """Give the place where the next bytes go."""
        # Up to the end of the frame that is coming: what follows it then needs no moving.
        end = self._frame_end or len(self._view)
        return self._view[self._filled : min(end, len(self._view))]

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that came, and serve what is whole."""
        self._filled += nbytes
        if self._filled < self._frame_end and self._filled < len(self._view):
            return
        self._last_s = self._connections.loop.time()
        self._serve_frames()

    def pause_writing(self) -> None:
        """The client does not read its replies: its requests wait."""
        self._unread = True
        self._hold_if_needed()
        # Not from within a write: this one may be the one that ends.
        self._connections.loop.call_soon(self._connections.bound_replies)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread = False
        self._go_on()

    # Authentication.

    def _certified(self, tls: ssl.SSLObject | None) -> Session | None:
        """Return the session of the client's certificate; None, told in the audit log, if it is rejected."""
        if tls is None:
            return UNAUTHENTICATED
        try:
            return certificate_session(tls, self._connections.principal_rules, time.time())
        except NotLetIn as rejection:
            self._log_failed_login(SSL, rejection.reason, claimed=rejection.claimed)
            return None

    def _log_failed_login(self, mechanism: str, reason: str, *, claimed: str = "") -> None:
        self._connections.broker.audit.login_failed(
            listener=self._listener,
            peer=self._info.peer,
            mechanism=mechanism,
            claimed=claimed,
            reason=reason,
        )

    def _admit(self) -> None:
        """Count the connection as logged in, or as one that need not log in."""
        self._free_slot()
        anonymous = self._info.session is UNAUTHENTICATED
        if not self._connections.admits(anonymous=anonymous):
            self._end("too many connections: raise max.connections, or the limit of open files")
            return
        self._logged_in, self._anonymous = True, anonymous
        self._connections.logged_in += 1
        self._connections.anonymous += anonymous
        self._frame_bytes_max = self._connections.settings.socket_request_max_bytes

    def _check_login(self) -> None:
        if self._slot is not None and self._info.sasl is not None and self._info.sasl.done:
            self._admit()

    def _free_slot(self) -> None:
        if self._slot is not None:
            self._slot.free()
            self._slot = None

    # From the server.

    def drain(self) -> None:
        """Take no more requests; end once the replies in work are out."""
        self._draining = True
        self._hold_if_needed()
        if not self._pending:
            self._end(None)

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def unread_bytes(self) -> int:
        """Bytes of replies that the client has not taken, or that wait for an earlier one."""
        if self._transport is None:
            return 0
        return self._transport.get_write_buffer_size() + self._pending_bytes

    def end_unread(self, total_bytes: int) -> None:
        """End now, and throw away what the client does not read."""
        self._end(
            f"{self.unread_bytes} bytes of replies are not read, of all connections {total_bytes};"
            f" together they may be {REPLIES_BYTES_MAX}"
        )
        self.abort()

    def end_if_idle(self, since_s: float) -> None:
        """End a connection that has been silent since then, unless it waits for us; a quiet one shrinks."""
        if self._last_s < since_s and not self._pending:
            self._end(None)
        elif self._filled == 0 and len(self._view) > BUFFER_BYTES and self._last_s < since_s + QUIET_S:
            self._view = memoryview(bytearray(BUFFER_BYTES))

    def end_if_expired(self, now_s: float) -> None:
        """End a connection whose session is over, whatever it waits for."""
        stage = self._info.sasl
        if stage is not None and stage.expires_s is not None and now_s > stage.expires_s:
            self._end("the session has expired: the client did not authenticate again")

    # Frames.

    def _serve_frames(self) -> None:
        """Serve every whole frame in the buffer, then make room for the next."""
        start = served = 0
        while self._transport is not None and not self._held:
            body = start + LENGTH_BYTES
            if self._filled < body:
                break
            (length,) = _LENGTH.unpack_from(self._view, start)
            if not 0 <= length <= self._frame_bytes_max:
                self._end(f"a frame of {length} bytes: a request has 0 to {self._frame_bytes_max}")
                return
            if self._filled < body + length:
                break
            if served == TURN_REQUESTS:
                self._rest()
                break
            served += 1
            self._serve(self._view[body : body + length])
            start = body + length
        self._make_room(start)

    def _make_room(self, start: int) -> None:
        """Move what is left to the front, and grow the buffer if the frame that has begun needs it."""
        left = self._filled - start
        length = LENGTH_BYTES
        if left >= LENGTH_BYTES:
            length += int.from_bytes(self._view[start : start + LENGTH_BYTES], "big")
        self._frame_end = length if left >= LENGTH_BYTES else 0
        # Only a full buffer grows: four bytes from each of a thousand connections must not cost gigabytes.
        if length > len(self._view) == left:
            grown = memoryview(bytearray(min(length, max(2 * left, GROWTH_BYTES))))
            grown[:left] = self._view[start : self._filled]
            self._view = grown
        elif left and start:
            self._view[:left] = self._view[start : self._filled].tobytes()
        elif not left and len(self._view) > GROWTH_BYTES:
            self._view = memoryview(bytearray(BUFFER_BYTES))
        self._filled = left

    def _serve(self, frame: memoryview) -> None:
        try:
            reply = dispatch(self._connections.broker, self._info, frame)
        except CloseConnection as reason:
            self._end(str(reason))
        except Exception:  # the edge of a connection: a bug of ours ends this one only
            logger.exception("request failed peer=%s", self._info.peer)
            self._end("the request could not be served")
        else:
            self._answer(reply)
            if self._slot is not None:
                self._check_login()

    # Replies.

    def _answer(self, reply: Reply | Awaitable[Reply]) -> None:
        if reply is None:
            return
        if not isinstance(reply, bytes | memoryview) and isinstance(reply, Awaitable):
            self._answer_later(reply)
        elif not self._pending:
            self._write(reply)
        else:
            pending = _Pending()
            self._pending.append(pending)
            self._settle(pending, reply)
            self._hold_if_needed()

    def _answer_later(self, reply: Awaitable[Reply]) -> None:
        pending = _Pending()
        if isinstance(reply, asyncio.Future):
            future = reply
        else:
            tasks = self._connections.tasks
            future = tasks.create_task(self._guarded(reply), name=f"reply to {self._info.peer}")
        pending.future = future
        self._pending.append(pending)
        future.add_done_callback(partial(self._settled, pending))
        self._hold_if_needed()

    async def _guarded(self, reply: Awaitable[Reply]) -> Reply:
        """Keep a fault of one reply from the group of all."""
        try:
            return await reply
        except CloseConnection as reason:
            self._end(str(reason))
        except Exception:  # the edge of a task: a bug of ours ends this connection only
            logger.exception("request failed peer=%s", self._info.peer)
            self._end("the request could not be served")
        return None

    def _settled(self, pending: _Pending, future: asyncio.Future[Reply]) -> None:
        if future.cancelled() or self._transport is None:
            return
        fault = future.exception()
        if fault is not None:
            logger.error("request failed peer=%s: %s", self._info.peer, fault)
            self._end("the request could not be served")
            return
        self._settle(pending, future.result())
        self._check_login()
        while self._pending and self._pending[0].settled:
            head = self._pending.popleft()
            self._pending_bytes -= _size(head.reply)
            if head.reply is not None:
                self._write(head.reply)
        if (self._draining or self._info.ending) and not self._pending:
            self._end(None)
        else:
            self._go_on()

    def _settle(self, pending: _Pending, reply: Reply) -> None:
        pending.reply = reply
        pending.settled = True
        size_bytes = _size(reply)
        self._pending_bytes += size_bytes
        if size_bytes > LARGE_REPLY_BYTES and pending is not self._pending[0]:
            self._connections.reply_waits(size_bytes)

    def _write(self, reply: bytes | memoryview | Sequence[bytes]) -> None:
        # Behind TLS a write to a client that is gone is a line of asyncio's in the log, each time.
        if self._transport is None or self._transport.is_closing():
            return
        if isinstance(reply, bytes | memoryview):
            self._transport.write(reply)
            if len(reply) > LARGE_REPLY_BYTES and self._transport.get_write_buffer_size():
                self._connections.reply_waits(len(reply))
        else:
            self._transport.writelines(reply)

    # Back-pressure.

    def _overloaded(self) -> bool:
        return (
            self._unread
            or self._draining
            or self._resting
            or self._info.in_turns
            or len(self._pending) >= PENDING_MAX
            or self._pending_bytes > PENDING_BYTES_MAX
            or (self._info.sasl is not None and self._info.sasl.busy)
        )

    def _rest(self) -> None:
        """Let the others have their turn; the rest is served right after."""
        self._resting = True
        self._hold_if_needed()
        self._connections.loop.call_soon(self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._go_on()

    def _hold_if_needed(self) -> None:
        if not self._held and self._transport is not None and self._overloaded():
            self._held = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Serve what waits in the buffer and read again, if nothing stands against it."""
        if not self._held or self._overloaded() or self._transport is None:
            return
        self._held = False
        self._transport.resume_reading()
        self._serve_frames()

    def _end(self, reason: str | None) -> None:
        if self._transport is None:
            return
        if reason is not None and self._slot is not None:
            # Anybody can be at fault here as often as they like: only audit lines are held back.
            self._log_failed_login("", reason)
        elif reason is not None:
            client = (self._info.client_id or "")[:CLIENT_ID_CHARACTERS_MAX]
            logger.warning("closing connection peer=%s client=%r: %s", self._info.peer, client, reason)
        # Frames that came with the one at fault are not served any more.
        self._draining = self._held = True
        self._transport.close()


def spell_peer(peername: tuple[Any, ...] | None) -> str:
    """Host and port as log lines write them."""
    return f"{peername[0]}:{peername[1]}" if peername else "unknown"


def _size(reply: Reply) -> int:
    if reply is None:
        return 0
    return len(reply) if isinstance(reply, bytes | memoryview) else sum(map(len, reply))
