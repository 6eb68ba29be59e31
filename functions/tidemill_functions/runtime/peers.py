"""Tells which user's process is at the other end of a loopback connection, as the kernel knows it.

One question to the kernel's socket diagnostics (sock_diag(7)), which finds a connection by its four numbers;
/proc/net/tcp says the same, in time that grows with the machine's connections.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST: Final = struct.Struct("=BBBxI")  # inet_diag_req_v2 without its inet_diag_sockid
_SOCKET_ID: Final = struct.Struct("!HH16s16s")
_ANY_INTERFACE_OR_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_UID_AT: Final = _HEADER.size + 4 + 48 + 12  # inet_diag_msg: 4 bytes, the inet_diag_sockid, three numbers
_UID: Final = struct.Struct("=I")
_NLMSG_ERROR: Final = 2
_REPLY_BYTES: Final = 4096
_DEADLINE_S: Final = 1.0


def peer_uid(own: tuple[str, int], peer: tuple[str, int]) -> int | None:
    """Return the user id of the process that connected from `peer` to `own`; None if it has gone.

    Raises OSError where the kernel cannot be asked.
    """
    query = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + _socket_id(peer, own)
    header = _HEADER.pack(_HEADER.size + len(query), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_DEADLINE_S)
        kernel.send(header + query)
        reply = kernel.recv(_REPLY_BYTES)
    kind = _HEADER.unpack_from(reply)[1]
    if kind == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", reply, _HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, "sock_diag")
    return int(_UID.unpack_from(reply, _UID_AT)[0])


def _socket_id(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """Return an inet_diag_sockid, as the socket of `source` has it."""
    return (
        _SOCKET_ID.pack(
            source[1], destination[1], socket.inet_aton(source[0]), socket.inet_aton(destination[0])
        )
        + _ANY_INTERFACE_OR_COOKIE
    )
