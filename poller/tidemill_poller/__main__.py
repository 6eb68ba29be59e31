"""The poller as a program: start, serve, drain, close.

Owns the wiring, the ready file, the signals and the routes under /_tidemill/; knows nothing of what the rooms
do. `tidemill poller` calls `main`.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import json
import logging
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
import uvloop
from aiohttp import web
from botocore.exceptions import ProfileNotFound

from tidemill_awsapi import allow_many_files, http_server
from tidemill_poller.aws import AwsClients
from tidemill_poller.batch import ByteBudget
from tidemill_poller.control_api import application
from tidemill_poller.control_api.functions import LambdaFunctions
from tidemill_poller.destinations import open_destination
from tidemill_poller.errors import (
    InvalidSettings,
    PollerError,
    ReadyFileUnwritable,
    SkipRejected,
    StoreUnreadable,
)
from tidemill_poller.fleet import Dependencies, Fleet, FunctionUpdates
from tidemill_poller.invoke import Invoker
from tidemill_poller.kafka_auth import ClientOptions, KafkaAccess
from tidemill_poller.mapping import Mapping as EventSourceMapping
from tidemill_poller.mapping import State
from tidemill_poller.reporting import Telemetry
from tidemill_poller.reporting.metrics import Metrics, open_metrics
from tidemill_poller.reporting.status import StatusBoard
from tidemill_poller.reporting.tracing import Tracing, open_tracing
from tidemill_poller.settings import Settings, read_settings
from tidemill_poller.source import GroupClient, KafkaGroupClient
from tidemill_poller.store import MappingStore

logger = logging.getLogger(__name__)

_USAGE_ERROR: Final = 2
_START_ERROR: Final = 1
# Lanes are drained by then; this is for replies on their way to slow readers.
_REPLIES_S: Final = 1.0
_REPEAT_AFTER_S: Final = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the poller until a signal ends it; the exit status."""
    arguments = vars(_parser().parse_args(argv))
    ready_file: Path | None = arguments.pop("ready_file")
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(_once_in_a_while())
    # What the poller writes is for its user alone.
    os.umask(0o077)
    # A dump of our memory would hold passwords and keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    allow_many_files()
    _collect_seldom()
    try:
        if ready_file is not None:
            _prepare_ready_file(ready_file)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(read_settings(**arguments), ready_file))
    except InvalidSettings as error:
        print(error, file=sys.stderr)  # noqa: T201 - a mistake in the settings, worded as argparse words one
        return _USAGE_ERROR
    except (PollerError, OSError) as error:
        return _cannot_start(error)
    except BaseExceptionGroup as group:  # what the fleet's task was in
        failed = group.subgroup(ReadyFileUnwritable)
        if failed is None:
            raise
        return _cannot_start(failed.exceptions[0])
    return 0


def _cannot_start(error: BaseException) -> int:
    logger.error("cannot start: %s", error)
    return _START_ERROR


def _collect_seldom() -> None:
    """Look for cyclic garbage after 50,000 new objects, not after 700: records make no cycles.

    They come and go by the hundred thousand; looking through them cost a fifth of the poller's time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidemill poller", description="Runs Lambda event source mappings for Kafka."
    )
    parser.add_argument("--host", help="the address of the ESM API (127.0.0.1)")
    parser.add_argument("--port", type=int, help="its port; 0: any (4581)")
    parser.add_argument("--data-dir", type=Path, help="where the mappings are kept (.tidemill/poller)")
    parser.add_argument("--ready-file", type=Path, help="written as JSON once the poller answers")
    return parser


def _aws_sessions(settings: Settings) -> tuple[botocore.session.Session, boto3.Session]:
    session = botocore.session.Session()
    try:
        region = session.get_config_variable("region") or settings.region
        return session, boto3.Session(botocore_session=session, region_name=region)
    except ProfileNotFound as error:
        raise InvalidSettings(f"{error}: correct AWS_PROFILE, or define it in ~/.aws/config") from None


async def _run(settings: Settings, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    _handle_signals(stop)
    session, aws = _aws_sessions(settings)
    tracing = open_tracing(os.environ, recent_deliveries=settings.trace_buffer_deliveries)
    metrics = open_metrics(os.environ)
    clients = AwsClients(aws)
    access = KafkaAccess(clients, ca_file=settings.ca_file, version_age_s=settings.secret_refresh_s / 10)
    board = StatusBoard()
    budget = ByteBudget(settings.fetch_budget_bytes)
    async with AsyncExitStack() as closing:
        store = MappingStore(settings.data_dir)
        closing.callback(store.close)
        closing.push_async_callback(asyncio.to_thread, tracing.close)
        closing.push_async_callback(asyncio.to_thread, metrics.close)
        invoker = await closing.enter_async_context(Invoker(session))
        fleet = Fleet(
            Dependencies(
                store=store,
                settings=settings,
                invoker=invoker,
                function_updates=FunctionUpdates(invoker.revision, interval_s=settings.function_check_s),
                open_destination=lambda arn: open_destination(arn, clients),
                access=access,
                open_client=lambda options, mapping, number: _open_client(
                    options, mapping, number, settings, budget
                ),
                telemetry=Telemetry(tracing=tracing, metrics=metrics, board=board, now_ms=_now_ms),
                budget=budget,
                now_ms=_now_ms,
                random=random.random,
            )
        )
        routes = _routes(store, board, tracing, metrics, fleet)
        app = application(store, LambdaFunctions(clients), settings, access.check, routes)
        port = await _listen(app, settings, closing)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fleet.run(), name="fleet")
            logger.info("listening port=%d data_dir=%s", port, settings.data_dir)
            if ready_file is not None:
                _write_json(ready_file, {"pid": os.getpid(), "port": port})
            await stop.wait()
            # The API goes on answering while lanes drain: whoever waits can see what for.
            logger.info("draining")
            fleet.stop()
    logger.info("stopped")


async def _listen(app: web.Application, settings: Settings, closing: AsyncExitStack) -> int:
    server = await closing.enter_async_context(http_server(app, drain_s=_REPLIES_S))
    try:
        listener = await asyncio.get_running_loop().create_server(server, settings.host, settings.port)
    except OSError as error:
        raise PollerError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; give another --port"
        ) from error
    closing.callback(listener.close)
    return int(listener.sockets[0].getsockname()[1])


def _open_client(
    options: ClientOptions,
    mapping: EventSourceMapping,
    number: int,
    settings: Settings,
    budget: ByteBudget,
) -> GroupClient:
    return KafkaGroupClient(
        options,
        topic=mapping.topic,
        group=mapping.consumer_group_id,
        client_id=f"tidemill-{mapping.uuid}-{number}",
        isolation_level=settings.isolation_level,
        drain_timeout_s=settings.drain_timeout_s,
        budget=budget,
    )


def _routes(
    store: MappingStore, board: StatusBoard, tracing: Tracing, metrics: Metrics, fleet: Fleet
) -> list[web.RouteDef]:
    async def status(request: web.Request) -> web.Response:
        uuid = request.match_info["uuid"]
        shown = board.as_json(uuid)
        try:
            mapping = store.get(uuid)
        except StoreUnreadable as error:  # its row is damaged; what runs of it is shown
            state, result = State.DISABLED, f"PROBLEM: {error}"
        else:
            if mapping is None:
                return web.json_response({"message": f"There is no mapping {uuid}."}, status=404)
            state, result = mapping.state, shown["result"] or mapping.last_processing_result
        values = metrics.of(uuid)
        return web.json_response(
            {
                **shown,
                "state": state,
                "result": result,
                "dropped_records": _dropped_records(values),
                "metrics": values,
            }
        )

    async def overview(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "mappings": [
                    {"mapping": one.uuid, "dropped_records": _dropped_records(metrics.of(one.uuid))}
                    for one in store.all()
                ]
            }
        )

    async def deliveries(request: web.Request) -> web.Response:
        uuid = request.match_info["uuid"]
        recent = tracing.recent
        return web.json_response([] if recent is None else recent.deliveries(uuid))

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    return [
        web.get("/_tidemill/mappings", overview),
        web.get("/_tidemill/mappings/{uuid}/status", status),
        web.get("/_tidemill/mappings/{uuid}/deliveries", deliveries),
        web.get("/_tidemill/health", health),
        *_operator_routes(fleet),
    ]


def _operator_routes(fleet: Fleet) -> list[web.RouteDef]:
    async def retry(request: web.Request) -> web.Response:
        return web.json_response({"partitions": fleet.retry(request.match_info["uuid"])})

    async def skip(request: web.Request) -> web.Response:
        key = request.match_info["key"]
        topic, _, number = key.rpartition("-")
        partition = int(number) if re.fullmatch("[0-9]{1,9}", number) else -1
        message = f"Partition {key} does not wait to try a record again: there is nothing to skip."
        try:
            offset = fleet.skip(request.match_info["uuid"], topic, partition)
        except SkipRejected as error:
            offset, message = None, f"Partition {key} is not skipped: {error}."
        if offset is None:
            return web.json_response({"message": message}, status=409)
        logger.warning("skipped by the operator partition=%s offset=%d", key, offset)
        return web.json_response({"partition": key, "offset": offset, "condition": "SkippedByOperator"})

    return [
        web.post("/_tidemill/mappings/{uuid}/retry", retry),
        web.post("/_tidemill/mappings/{uuid}/partitions/{key}/skip", skip),
    ]


def _dropped_records(values: Mapping[str, float]) -> int:
    """Count the records dropped in no destination since the start: LastProcessingResult hides them."""
    return int(values.get("esm.events.dropped", 0))


def _handle_signals(stop: asyncio.Event) -> None:
    """Drain on the first signal, end at once on the second: safe, as every start recovers from kill -9."""
    loop = asyncio.get_running_loop()

    def handle() -> None:
        if stop.is_set():
            logger.warning("forced to stop")
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle)


def _once_in_a_while() -> logging.Filter:
    """Let each kind of aiokafka's lines through once in a while: it repeats itself while a broker is away."""
    last: dict[tuple[str, str], float] = {}

    class OnceInAWhile(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if not record.name.startswith("aiokafka"):
                return True
            key, now_s = (record.name, str(record.msg)), time.monotonic()
            if now_s - last.get(key, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
                return False
            last[key] = now_s
            return True

    return OnceInAWhile()


def _prepare_ready_file(file: Path) -> None:
    """Make its folder before anything starts."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise ReadyFileUnwritable(
            f"cannot write --ready-file {file}: {error.strerror}; give one in another folder"
        ) from error


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    partial = file.with_name(f"{file.name}.tmp")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("x") as stream:  # never through a link that somebody put there
            json.dump(content, stream)
        partial.replace(file)
    except OSError as error:
        raise ReadyFileUnwritable(
            f"cannot write --ready-file {file}: {error.strerror}; free space there,"
            " or give one in another folder"
        ) from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
