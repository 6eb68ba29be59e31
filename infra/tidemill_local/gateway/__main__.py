"""The gateway's process, started by the launcher: ``python -m tidemill_local.gateway --socket-fd 7 …``.

The listening socket is the launcher's, inherited open.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

import uvloop
from yarl import URL

from tidemill_awsapi import allow_many_files, http_server
from tidemill_local.errors import ReadyFileUnwritable
from tidemill_local.gateway.routes import Upstream
from tidemill_local.gateway.server import Gateway
from tidemill_local.ready import prepare_ready_file, write_ready_file
from tidemill_local.shell import failed, keep_private, parse

# Requests in flight at a stop get this long; the programs behind have stopped by then.
_SHUTDOWN_TIMEOUT_S = 2.0
_UPSTREAMS: tuple[Upstream, ...] = ("functions", "poller", "broker", "aws")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="gateway", description="Tidemill's one endpoint")
    parser.add_argument("--socket-fd", type=int, required=True, help="the open listening socket")
    parser.add_argument("--ready-file", required=True)
    for name in _UPSTREAMS:
        parser.add_argument(f"--{name}", type=URL, required=True, help=f"base URL of {name}")
    arguments = parse(parser, argv)
    keep_private()
    allow_many_files()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    upstreams: dict[Upstream, URL] = {name: getattr(arguments, name) for name in _UPSTREAMS}
    try:
        prepare_ready_file(arguments.ready_file)
    except ReadyFileUnwritable as error:
        return failed(f"gateway: {error}")
    try:
        listener = socket.socket(fileno=arguments.socket_fd)
    except OSError as error:
        return failed(f"gateway: --socket-fd {arguments.socket_fd} is not a socket ({error.strerror})")
    uvloop.run(_serve(Gateway(upstreams), listener, arguments.ready_file))
    return 0


async def _serve(gateway: Gateway, listener: socket.socket, ready_file: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with http_server(gateway.application(), drain_s=_SHUTDOWN_TIMEOUT_S) as server:
        port = listener.getsockname()[1]
        listening = await loop.create_server(server, sock=listener)
        try:
            write_ready_file(ready_file, {"pid": os.getpid(), "port": port})
            await stop.wait()
        finally:
            listening.close()


if __name__ == "__main__":
    sys.exit(main())
