"""The unit tests' watch over the event loop works."""

from __future__ import annotations

import socket
import time

import pytest
from blockbuster import BlockingError


async def test_a_coroutine_that_sleeps_is_noticed() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        time.sleep(0.001)  # noqa: ASYNC251 - what must be noticed


async def test_a_coroutine_that_waits_for_a_socket_is_noticed() -> None:
    near, far = socket.socketpair()
    with near, far, pytest.raises(BlockingError, match=r"recv"):
        near.recv(1)
