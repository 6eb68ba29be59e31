"""The function runtime's program: reads its settings, starts, serves, drains, closes.

Run as `python -m tidemill_functions` and, the same, as `tidemill functions`. It alone joins the rooms.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import functools
import gc
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from tidemill_awsapi import ApiError, Service, allow_many_files, http_server
from tidemill_functions.api.absent import AbsentApi
from tidemill_functions.api.attachments import AttachmentsApi
from tidemill_functions.api.control import ControlApi
from tidemill_functions.api.extension import ExtensionApi
from tidemill_functions.api.front import Front, FrontConnection
from tidemill_functions.api.invoke import InvokeApi
from tidemill_functions.api.layers import LayersApi
from tidemill_functions.api.lookup import find_function
from tidemill_functions.api.operations import Apis, handlers
from tidemill_functions.api.versions import VersionsApi
from tidemill_functions.aws import AwsClients
from tidemill_functions.code.registry import Function, Registry
from tidemill_functions.destinations.sender import Sender
from tidemill_functions.errors import AwsUnavailable, InvalidSettings
from tidemill_functions.reporting.cloudwatch_logs import CloudWatchLogs
from tidemill_functions.reporting.cloudwatch_metrics import CloudWatchMetrics, publishing
from tidemill_functions.reporting.otlp import Metrics, Spans, open_otlp
from tidemill_functions.reporting.reporter import Reporter
from tidemill_functions.runtime.event_queue import EventQueue, delivering
from tidemill_functions.runtime.pool import Pool, running
from tidemill_functions.runtimes.table import Runtimes
from tidemill_functions.settings import Settings, handed_on, read_settings, sends_logs

logger = logging.getLogger(__name__)

_USAGE_ERROR: Final = 2
_START_ERROR: Final = 1
# CreateFunction's limit for a request: a zip of 50 MB as base64, and the rest of the document.
REQUEST_BYTES_MAX: Final = 69_905_067
_GC_THRESHOLD: Final = 10_000
# Invocations are drained by then; this is for replies on their way to slow readers.
_REPLIES_S: Final = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the first drains, a second forces."""
    arguments = vars(_parser().parse_args(argv))
    ready_file: Path | None = arguments.pop("ready_file")
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # What the server writes is for its user alone: code, logs, and secrets in functions' environments.
    os.umask(0o077)
    # A dump of our memory would hold the secrets in functions' environments.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    allow_many_files()
    try:
        settings = read_settings(arguments, os.environ)
        if ready_file is not None:
            _prepare_ready_file(ready_file)
        _serve(settings, ready_file)
    except InvalidSettings as error:
        print(error, file=sys.stderr)  # noqa: T201 - a fault in the settings, told as argparse tells it
        return _USAGE_ERROR
    except OSError as error:
        fix = "; give another --port" if error.errno == errno.EADDRINUSE else ""
        logger.error("cannot start: %s%s", error, fix)  # noqa: TRY400 - the sentence is for people
        return _START_ERROR
    return 0


def _serve(settings: Settings, ready_file: Path | None) -> None:
    try:
        uvloop.run(_run(settings, ready_file))
    except BaseExceptionGroup as group:
        # The pool's and the queue's task groups wrap what ends them.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, OSError):
            raise
        raise error from None


async def _run(settings: Settings, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop_or_force, stop)
    async with serving(settings, os.environ) as port:
        if ready_file is not None:
            _write_ready(ready_file, {"pid": os.getpid(), "port": port})
        # What lives as long as the server is looked through no more: that took a twentieth of an invocation.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        logger.info("ready host=%s port=%d data_dir=%s", settings.host, port, settings.data_dir)
        await stop.wait()
        logger.info("draining drain_timeout_s=%.0f", settings.drain_timeout_s)
    logger.info("stopped")


@asynccontextmanager
async def serving(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[int]:
    """Run the whole runtime, from start to drain; yield the port that it listens on."""
    registry = Registry(settings.data_dir.resolve(), region=settings.region, account_id=settings.account_id)
    runtimes = Runtimes(settings)
    clients = AwsClients(settings.region)
    cloudwatch = CloudWatchLogs(clients) if sends_logs(settings, environ) else None
    otlp = open_otlp(environ)
    metrics = CloudWatchMetrics(clients, settings.cloudwatch_metrics) if settings.cloudwatch_metrics else None
    reporter = Reporter([*otlp, *filter(None, [metrics])])
    pool = Pool(registry, settings, runtimes, handed_on(environ, settings.region), cloudwatch, reporter)
    sender = Sender(clients)
    events = EventQueue(registry, pool, settings, sender, functools.partial(_function_of, registry))
    # The pool ends last: what the servers and the queue have begun needs it.
    async with (
        _sending(cloudwatch),
        _exporting(otlp),
        publishing(metrics) if metrics else nullcontext(),
        running(pool),
        delivering(events),
        # It has no socket of its own: the front gives it connections.
        http_server(_application(registry, pool, runtimes, events, settings), drain_s=_REPLIES_S) as general,
    ):
        front = Front(registry, pool, general, general.table)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: FrontConnection(front), settings.host, settings.port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await pool.drain()
            front.stop()


@asynccontextmanager
async def _exporting(otlp: Sequence[Spans | Metrics]) -> AsyncIterator[None]:
    """Export spans and metrics until all invocations are over."""
    try:
        yield
    finally:
        for one in otlp:
            await asyncio.to_thread(one.close)


@asynccontextmanager
async def _sending(cloudwatch: CloudWatchLogs | None) -> AsyncIterator[None]:
    """Send logs until all that wrote them is gone."""
    if cloudwatch is None:
        yield
        return
    cloudwatch.start()
    try:
        yield
    finally:
        await asyncio.to_thread(cloudwatch.close)


def _function_of(registry: Registry, arn: str) -> Function:
    """Return the function that a destination names. Raises AwsUnavailable."""
    try:
        return find_function(registry, arn)
    except ApiError as error:
        raise AwsUnavailable(f"{error.code}: {error.message}", code=error.code, is_temporary=False) from None


def _application(
    registry: Registry, pool: Pool, runtimes: Runtimes, events: EventQueue, settings: Settings
) -> web.Application:
    extension = ExtensionApi(registry, pool, runtimes, events)
    apis = Apis(
        invoke=InvokeApi(registry, pool, events),
        control=ControlApi(registry, pool, runtimes),
        versions=VersionsApi(registry),
        layers=LayersApi(registry.layers),
        attachments=AttachmentsApi(registry, settings),
        absent=AbsentApi(registry),
    )
    service = Service("lambda", handlers(apis), region=settings.region, account_id=settings.account_id)
    application = service.application(max_body_bytes=REQUEST_BYTES_MAX)
    extension.add_to(application)
    return application


def _stop_or_force(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)  # the guard ends the handler processes
    stop.set()


def _prepare_ready_file(path: Path) -> None:
    """Make its folder before anything starts. Raises OSError, with a sentence."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise OSError(
            f"cannot write --ready-file {path}: {error.strerror}; give one in another folder"
        ) from error


def _write_ready(path: Path, document: Mapping[str, int]) -> None:
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.unlink(missing_ok=True)
        with draft.open("x") as file:  # never through a link that somebody put there
            json.dump(document, file)
        draft.replace(path)
    except OSError as error:
        raise OSError(
            f"cannot write --ready-file {path}: {error.strerror}; free space there,"
            " or give one in another folder"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidemill functions", description="Run Lambda functions under AWS's own runtime client."
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port of the Lambda API (4582; 0 for any free one)")
    parser.add_argument("--data-dir", type=Path, help="where functions, their code and logs are kept")
    parser.add_argument("--ready-file", type=Path, help="written as JSON once the API answers")
    return parser


if __name__ == "__main__":
    sys.exit(main())
