"""The embedded AWS: moto's server as a process of its own, ``python -m tidemill_local.aws …``.

Answers SQS, SNS, S3, DynamoDB, Secrets Manager, KMS, STS and whatever else moto knows. Its state is in
memory: a restart forgets queues and tables, which the launcher says aloud.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIApplication

import uvloop

from tidemill_awsapi import ConnectionLimits, allow_many_files, http_server
from tidemill_local.aws.bounded_logs import bound_logs
from tidemill_local.aws.foreign_pages import refusing_foreign_pages
from tidemill_local.aws.wsgi import BODY_BYTES_MAX, application
from tidemill_local.errors import ReadyFileUnwritable
from tidemill_local.ready import prepare_ready_file, write_ready_file
from tidemill_local.secured.kept_secrets import keep_secrets
from tidemill_local.shell import failed, keep_private, parse

_SWITCH_S: Final = 0.0005
Wrapper = Callable[[WSGIApplication], WSGIApplication]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="embedded-aws", description="moto's server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--account-id", required=True)
    parser.add_argument("--ready-file", required=True)
    parser.add_argument("--auth-file", type=Path, help="the kept secrets of `up --auth`")
    parser.add_argument("--identity-file", type=Path, help="gets the issued credentials")
    arguments = parse(parser, argv)
    keep_private()
    allow_many_files()
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    # moto reads its account when it is imported.
    os.environ["MOTO_ACCOUNT_ID"] = arguments.account_id
    try:
        prepare_ready_file(arguments.ready_file)
    except ReadyFileUnwritable as error:
        return failed(f"aws: {error}")
    try:
        listener = socket.create_server((arguments.host, arguments.port), backlog=socket.SOMAXCONN)
    except OSError as error:
        where = f"{arguments.host}:{arguments.port}"
        return failed(f"aws: cannot listen on {where} ({error.strerror}); give another --port")
    wsgi = _moto()
    if arguments.identity_file is not None:
        wsgi = _exporting_issued_credentials(arguments)(wsgi)
    # moto's threads work in Python: what waits for them gets its turn ten times as soon.
    sys.setswitchinterval(_SWITCH_S)
    uvloop.run(_serve(wsgi, listener, arguments.ready_file))
    return 0


def _exporting_issued_credentials(arguments: argparse.Namespace) -> Wrapper:
    """Write the credentials that IAM and STS issue where the broker reads them."""
    from tidemill_local.aws.iam_calls import around_iam  # noqa: PLC0415 - only with these keys
    from tidemill_local.aws.issued_credentials import PERIOD_S, Export, restore_user  # noqa: PLC0415 - moto, as below

    if arguments.auth_file is not None:
        restore_user(keep_secrets(arguments.auth_file), arguments.account_id, os.environ["AWS_REGION"])
    export = Export(arguments.identity_file)
    # The keys of an earlier start are void; the file says so before the first request.
    export.once()
    threading.Thread(target=export.follow, name="issued credentials", daemon=True).start()
    return lambda application: around_iam(application, export.once, read_after_s=1.2 * PERIOD_S)


def _moto() -> WSGIApplication:
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - after the account id is set
        DomainDispatcherApplication,
        create_backend_app,
    )

    bound_logs()
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


async def _serve(wsgi: WSGIApplication, listener: socket.socket, ready_file: str) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # moto keeps nothing on disk: there is nothing to flush.
        loop.add_signal_handler(number, os._exit, 0)
    limits = ConnectionLimits(bodies_bytes_max=2 * BODY_BYTES_MAX)
    async with http_server(application(refusing_foreign_pages(wsgi)), drain_s=0, limits=limits) as server:
        port = listener.getsockname()[1]
        listening = await loop.create_server(server, sock=listener, backlog=socket.SOMAXCONN)
        # moto builds its queues' URLs from the Host header, so it needs no port in its environment.
        write_ready_file(ready_file, {"pid": os.getpid(), "port": port})
        await listening.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
