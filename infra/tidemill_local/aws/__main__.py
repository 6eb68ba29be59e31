"""The embedded AWS: ministack's or moto's server as a process of its own, ``python -m tidemill_local.aws …``.

Answers SQS, SNS, S3, DynamoDB, Secrets Manager, KMS, IAM, STS, CloudFormation and whatever else the engine
knows. Owns the process: its command line, its listener, its signals; knows the engines by one function each.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from aiohttp import web

from tidemill_awsapi import ConnectionLimits, allow_many_files, http_server
from tidemill_local.aws.limits import HELD_S
from tidemill_local.aws.ministack_engine import ministack_application
from tidemill_local.aws.moto_engine import moto_application
from tidemill_local.aws.wsgi import BODY_BYTES_MAX
from tidemill_local.errors import ReadyFileUnwritable
from tidemill_local.ready import prepare_ready_file, write_ready_file
from tidemill_local.settings import AWS_ENGINES
from tidemill_local.shell import failed, keep_private, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="embedded-aws", description="ministack's or moto's server")
    parser.add_argument("--engine", choices=AWS_ENGINES, default=AWS_ENGINES[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--account-id", required=True)
    parser.add_argument("--endpoint-url", help="the one endpoint, by which stacks make Lambda's resources")
    parser.add_argument("--ready-file", required=True)
    parser.add_argument("--state-dir", type=Path, help="keeps the state; moto has none to keep")
    parser.add_argument(
        "--rewrite-from-bytes", type=int, default=32 * 1024 * 1024, help="the state's file may grow to this"
    )
    parser.add_argument("--auth-file", type=Path, help="the kept secrets of `up --auth`")
    parser.add_argument("--identity-file", type=Path, help="gets the issued credentials")
    parser.add_argument(
        "--held-s", type=float, default=HELD_S, help="CPU time after which a handler is ended (ministack)"
    )
    arguments = parse(parser, argv)
    keep_private()
    allow_many_files()
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        prepare_ready_file(arguments.ready_file)
    except ReadyFileUnwritable as error:
        return failed(f"aws: {error}")
    try:
        listener = socket.create_server((arguments.host, arguments.port), backlog=socket.SOMAXCONN)
    except OSError as error:
        where = f"{arguments.host}:{arguments.port}"
        return failed(f"aws: cannot listen on {where} ({error.strerror}); give another --port")
    uvloop.run(_serve(_application(arguments, listener), listener, arguments.ready_file))
    return 0


def _application(arguments: argparse.Namespace, listener: socket.socket) -> web.Application:
    if arguments.engine == "moto":
        return moto_application(arguments)
    return ministack_application(arguments, port=listener.getsockname()[1])


async def _serve(application: web.Application, listener: socket.socket, ready_file: str) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # What was answered is where it is kept already: there is nothing to flush.
        loop.add_signal_handler(number, os._exit, 0)
    limits = ConnectionLimits(bodies_bytes_max=2 * BODY_BYTES_MAX)
    async with http_server(application, drain_s=0, limits=limits) as server:
        port = listener.getsockname()[1]
        listening = await loop.create_server(server, sock=listener, backlog=socket.SOMAXCONN)
        write_ready_file(ready_file, {"pid": os.getpid(), "port": port})
        await listening.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
