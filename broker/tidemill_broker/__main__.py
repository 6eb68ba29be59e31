"""The broker as a program: start, serve, drain, close.

Owns the data directory (its lock and the cluster's id), the signals and the one TaskGroup; puts the
rooms together and knows nothing of what they do. `tidemill broker` calls `main`.
"""

import argparse
import asyncio
import contextlib
import errno
import fcntl
import importlib
import json
import logging
import os
import resource
import signal
import socket
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import uvloop

from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.table import load_schemas
from tidemill_broker.auth.assembly import Auth, AuthFault, assemble
from tidemill_broker.durable_files import remove_drafts, write_durably
from tidemill_broker.errors import BrokerError
from tidemill_broker.groups.service import GroupService
from tidemill_broker.listeners import PORT_MAX, ListenerName, parse_advertised, parse_listener
from tidemill_broker.log.producer_ids import ProducerIds
from tidemill_broker.log.topics import Topics
from tidemill_broker.server import CannotListen, Server, serve
from tidemill_broker.settings import (
    CONTROL_PORT,
    Settings,
    SettingsError,
    parse_kafka_settings,
    read_environment,
)

logger = logging.getLogger("broker")

DEFAULTS: Final = Settings()
COMMANDS: Final = {
    "init-tls": "tidemill_broker.commands.init_tls",
    "identity": "tidemill_broker.commands.identity",
}
EPILOG: Final = (
    "Commands: init-tls DIR makes certificates, identity says who may log in by IAM; each has --help."
)
USAGE_ERROR: Final = 2
START_ERROR: Final = 1
ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104 - rejected below unless another one is advertised
CONTROL_BACKLOG: Final = 128


class StartError(BrokerError):
    """The broker cannot start; the text names the fix."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the broker until a signal ends it, or one of its commands; the exit status."""
    texts = sys.argv[1:] if argv is None else list(argv)
    if texts and texts[0] in COMMANDS:
        # What a command needs, the broker does not load.
        status: int = importlib.import_module(COMMANDS[texts[0]]).main(texts[1:])
        return status
    arguments = _parser().parse_args(texts)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # What the broker writes is for its user alone: other users of the machine must not read records.
    os.umask(0o077)
    # A dump of our memory would hold tokens and the key of the certificate.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _allow_many_files()
    try:
        settings = _settings(arguments, os.environ)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a mistake on the command line, printed as argparse prints it
        return USAGE_ERROR
    except StartError as error:
        return _cannot_start(error)
    except BaseExceptionGroup as group:  # what the broker's tasks were in
        failed = group.subgroup(StartError)
        if failed is None:
            raise
        return _cannot_start(failed.exceptions[0])
    return 0


def _cannot_start(error: BaseException) -> int:
    logger.error("cannot start: %s", error)
    return START_ERROR


def _allow_many_files() -> None:
    """Take as many file descriptors as we may: each connection and each segment needs one (as Java's VM)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidemill broker", description="A Kafka broker on one machine.", epilog=EPILOG
    )
    parser.add_argument("--host", default=DEFAULTS.host, help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULTS.port, help="Kafka's port; 0: any (%(default)s)")
    parser.add_argument(
        "--listener",
        action="append",
        default=[],
        metavar="NAME[=PORT]",
        help="a way in: plaintext, tls, scram or iam, on MSK's port or on PORT (0: any); may be repeated;"
        " without it plaintext is on, on --port",
    )
    parser.add_argument(
        "--tls-dir", type=Path, help="what `tidemill broker init-tls DIR` made; for tls, scram and iam"
    )
    parser.add_argument(
        "--control-port",
        type=int,
        help=f"the MSK API's port; 0: any ({CONTROL_PORT}, or any where that is taken)",
    )
    parser.add_argument("--data-dir", type=Path, default=DEFAULTS.data_dir, help="(%(default)s)")
    parser.add_argument("--ready-file", type=Path, help="written as JSON once the broker answers")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="name=value",
        help="a setting of Kafka's broker configuration, e.g. num.partitions=6; may be repeated",
    )
    return parser


def _settings(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    flags = {name: value for name, value in vars(arguments).items() if name not in ("set", "listener")}
    settings = Settings(
        listeners=_listeners(arguments.listener),
        **flags,
        **read_environment(environ),
        **parse_kafka_settings(arguments.set),
    )
    ports = [*settings.listening.values(), settings.control_port or 0]
    for port in (settings.port, *ports):
        # A socket would take it modulo 65,536.
        if not 0 <= port <= PORT_MAX:
            raise SettingsError(f"{port} is no port: give 0 to {PORT_MAX}")
        if port and ports.count(port) > 1:
            raise SettingsError(
                f"port {port} is given twice: each listener, and --control-port, needs its own"
            )
    for name in parse_advertised(settings.advertised_listeners):
        if name not in settings.listening:
            raise SettingsError(
                f"--set advertised.listeners names {name.upper()}, which is not on: add --listener {name}, "
                "or leave it out"
            )
    unadvertised = [name for name in settings.listening if settings.advertised(name)[0] in ANY_ADDRESS]
    if unadvertised:
        missing = ",".join(f"{name.upper()}://host:port" for name in unadvertised)
        raise SettingsError(
            f"--host {settings.host} is no address for clients: add --set advertised.listeners={missing}"
        )
    return settings


def _listeners(texts: Sequence[str]) -> dict[ListenerName, int | None]:
    listeners: dict[ListenerName, int | None] = {}
    for text in texts:
        try:
            name, port = parse_listener(text)
        except ValueError as fault:
            raise SettingsError(f"--listener {text}: {fault}") from None
        if name in listeners:
            raise SettingsError(f"--listener {text}: {name} is given twice; give it once")
        listeners[name] = port
    return listeners


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    _handle_signals(stop)
    if settings.ready_file is not None:
        _prepare_ready_file(settings.ready_file)
    with _locked(settings.data_dir), contextlib.closing(_open_topics(settings)) as topics:
        with _writing(settings.data_dir):
            for directory in (settings.data_dir, settings.tls_dir):
                if directory is not None:
                    remove_drafts(directory)
            assembled = _broker(settings, topics)
        await _serve(*assembled, stop)
    logger.info("stopped")


async def _serve(broker: Broker, auth: Auth, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then stop accepting, let requests finish, and only then end the rest."""
    settings = broker.settings
    with _control_socket(settings) as control:
        server = await _listen(broker, auth)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(broker.groups.run(), name="groups"),
                tasks.create_task(_housekeep(broker), name="housekeeping"),
                tasks.create_task(_serve_control(broker, control), name="control plane"),
                tasks.create_task(load_schemas(), name="schemas"),
                *(tasks.create_task(watch(), name=name) for name, watch in auth.watchers.items()),
            ]
            control_port = control.getsockname()[1]
            logger.info(
                "listening %s control_port=%d data_dir=%s",
                " ".join(f"{name}={port}" for name, port in broker.ports.items()),
                control_port,
                settings.data_dir,
            )
            _tell_ready(broker, server.port, control_port)
            await stop.wait()
            logger.info("draining")
            broker.groups.dismiss()
            await server.close()
            broker.audit.flush()
            for task in background:
                task.cancel()


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


def _prepare_ready_file(file: Path) -> None:
    """Make its folder before anything starts, and remove what earlier writers left there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StartError(
            f"cannot write --ready-file {file}: {error.strerror}; give one in another folder"
        ) from error
    remove_drafts(file.parent, file.name)


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: two brokers on one log would destroy it. The kernel lets go when we die."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"cannot use the data directory {data_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise StartError(
            f"another broker (pid {holder}) uses the data directory {data_dir}; give another --data-dir"
        ) from None
    try:
        with _writing(data_dir / "lock"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Fail in one sentence on a disk that is full, or takes nothing for another reason."""
    try:
        yield
    except OSError as error:
        raise StartError(
            f"{error.filename or path} cannot be written ({error.strerror or error}); free space there,"
            " or give another --data-dir"
        ) from error


@contextlib.contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Fail on what cannot be read: without it, ids that are in use would be given out again."""
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise StartError(
            f"{path} cannot be read ({error}); restore it or start with another --data-dir"
        ) from error


def _open_topics(settings: Settings) -> Topics:
    directory = settings.data_dir / "log"
    with _opening(directory):
        return Topics(directory, settings.kafka_values(), clock_ms=_now_ms)


def _broker(settings: Settings, topics: Topics) -> tuple[Broker, Auth]:
    uuid, created_ms = _cluster_id(settings.data_dir / "cluster.json")
    cluster_arn = f"arn:aws:kafka:{settings.region}:{settings.account_id}:cluster/tidemill/{uuid}-1"
    ids_file = settings.data_dir / "producer_ids.json"
    with _opening(ids_file):
        producer_ids = ProducerIds(ids_file)
    try:
        auth = assemble(settings, cluster_arn=cluster_arn, now_ms=_now_ms)
    except AuthFault as fault:
        raise StartError(str(fault)) from fault
    broker = Broker(
        settings=settings,
        topics=topics,
        groups=GroupService(topics, settings, now_ms=_now_ms, monotonic_s=time.monotonic),
        producer_ids=producer_ids,
        scram_users=auth.scram_users,
        acls=auth.acls,
        authorizer=auth.authorizer,
        mechanisms=auth.mechanisms,
        cluster_id=urlsafe_b64encode(uuid.bytes).rstrip(b"=").decode(),
        cluster_arn=cluster_arn,
        created_ms=created_ms,
        now_ms=_now_ms,
        monotonic_s=time.monotonic,
    )
    return broker, auth


def _cluster_id(file: Path) -> tuple[UUID, int]:
    """Read the cluster's id and age, made once: ARNs in mappings, and cluster ids, must survive restarts."""
    if not file.exists():
        write_durably(file, json.dumps({"cluster_uuid": str(uuid4()), "created_ms": _now_ms()}).encode())
    with _opening(file):
        content = json.loads(file.read_text())
        return UUID(str(content["cluster_uuid"])), int(content["created_ms"])


async def _listen(broker: Broker, auth: Auth) -> Server:
    settings = broker.settings
    try:
        return await serve(broker, settings, auth.certificates)
    except CannotListen as fault:
        flag = f"--listener {fault.listener}=PORT" if settings.listeners else "--port"
        raise _taken(flag, settings.host, fault.port, fault.error) from fault


def _control_socket(settings: Settings) -> socket.socket:
    """Listen for the MSK API: on the port that was asked for, else on CONTROL_PORT or on a free one."""
    port = settings.control_port
    if port is not None:
        try:
            return _bound(settings.host, port)
        except OSError as error:
            raise _taken("--control-port", settings.host, port, error) from error
    if CONTROL_PORT not in settings.listening.values():
        with contextlib.suppress(OSError):
            return _bound(settings.host, CONTROL_PORT)
    try:
        control = _bound(settings.host, 0)
    except OSError as error:
        raise _taken("--control-port", settings.host, 0, error) from error
    logger.warning(
        "the default control port is taken, using a free one default=%d control_port=%d;"
        " --control-port names another",
        CONTROL_PORT,
        control.getsockname()[1],
    )
    return control


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=CONTROL_BACKLOG)


def _taken(flag: str, host: str, port: int, error: OSError) -> StartError:
    return StartError(f"cannot listen on {host}:{port} ({error.strerror}); give another {flag}")


async def _serve_control(broker: Broker, listener: socket.socket) -> None:
    """Serve the MSK API from its first connection on.

    Its libraries take longer to load and more memory than the whole broker: they load when needed.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(listener, asked.set)
    try:
        await asked.wait()
    finally:
        loop.remove_reader(listener)
    try:
        await (await asyncio.to_thread(_load_control_plane, broker, listener))
    except Exception:  # the edge of a task: Kafka's clients need not suffer for this
        logger.exception("the MSK API cannot be served; restart the broker to try again")
        listener.close()


def _load_control_plane(broker: Broker, listener: socket.socket) -> Coroutine[Any, Any, None]:
    from tidemill_broker import control_plane  # noqa: PLC0415 - see _serve_control

    return control_plane.serve(control_plane.application(broker), listener)


async def _housekeep(broker: Broker) -> None:
    settings = broker.settings
    interval_ms = min(
        settings.log_retention_check_interval_ms, settings.log_flush_offset_checkpoint_interval_ms
    )
    while True:
        await asyncio.sleep(interval_ms / 1000)
        broker.audit.flush()
        await asyncio.to_thread(broker.topics.housekeep, broker.now_ms())


def _tell_ready(broker: Broker, port: int, control_port: int) -> None:
    if broker.settings.ready_file:
        ready = {
            "pid": os.getpid(),
            "port": port,
            "listeners": broker.ports,
            "control_port": control_port,
            "cluster_arn": broker.cluster_arn,
        }
        try:
            write_durably(broker.settings.ready_file, json.dumps(ready).encode())
        except OSError as error:
            raise StartError(
                f"cannot write --ready-file {broker.settings.ready_file}: {error.strerror}; free space there,"
                " or give one in another folder"
            ) from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
