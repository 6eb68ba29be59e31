"""Whose process is at the other end of a connection."""

from __future__ import annotations

import os
import socket

import pytest

from tidemill_functions.runtime.peers import peer_uid


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_names_the_user_at_the_other_end(family: socket.AddressFamily) -> None:
    """Java's connections to 127.0.0.1 are IPv6 sockets with mapped addresses."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(family) as client:
        mapped = "::ffff:" if family == socket.AF_INET6 else ""
        client.connect((f"{mapped}127.0.0.1", server.getsockname()[1]))
        accepted, _ = server.accept()
        with accepted:
            assert peer_uid(accepted.getsockname(), accepted.getpeername()) == os.getuid()


def test_a_connection_that_there_is_not_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert peer_uid(server.getsockname(), ("127.0.0.1", 1)) is None
