"""`tidemill up`: owns the five programs' start, the ready file, and the drain in its written order.

Start: aws, broker and functions side by side (with `--auth` the broker follows the aws that has its users);
the poller once they answer; the gateway last. Stop: the poller first (it settles what is in flight and
commits), then functions, broker, aws, gateway. Called by the command line and the demo; knows the programs
only by their commands.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tidemill_broker.listeners import ListenerName
from tidemill_local.auth import PORT_FLAGS
from tidemill_local.console_log import LogSink
from tidemill_local.draining import tell_progress
from tidemill_local.errors import AccessFailed, ProgramFailed, ReadyFileUnwritable
from tidemill_local.preconditions import gateway_socket, locked, require_aws, require_free_port
from tidemill_local.private_files import remove_drafts
from tidemill_local.programs import Program, Programs, client_environ
from tidemill_local.ready import prepare_ready_file, write_ready_file
from tidemill_local.secured.access import Access
from tidemill_local.secured.client_files import Client
from tidemill_local.settings import UpSettings, running_file
from tidemill_local.shell import keep_private
from tidemill_local.supervisor import Supervisor

# Each step is ready before the next begins.
_STEPS: tuple[tuple[Program, ...], ...] = (("aws", "broker", "functions"), ("poller",), ("gateway",))
_SECURED_STEPS: tuple[tuple[Program, ...], ...] = (
    ("aws", "functions"),
    ("broker",),
    ("poller",),
    ("gateway",),
)
# Seconds that each program gets to drain; the poller's own drain timeout is 30 s.
STOP_ORDER: Mapping[Program, float] = {
    "poller": 40.0,
    "functions": 15.0,
    "broker": 15.0,
    "aws": 2.0,
    "gateway": 5.0,
}
_FORCED = 130
_AWS_FORGETS = "moto keeps its state in memory: the queues, tables and buckets of before are gone"

_KEYS_NOT_TOLD = (
    "{} does not tell which access keys it issues: Kafka knows that of the IAM user tidemill; "
    "add others by `tidemill broker identity add`"
)
_EXPOSED: Final = (
    "WARNING: {} is reached from other machines (--expose), and nothing here verifies who calls: everybody "
    "who reaches it can run code as you, and read and change all data of this `up`"
)
_STOPPING: Final = (
    "stopping: the poller first, so that it settles what is in flight; Ctrl-C again ends everything at once"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What the ready file says; the pid of "aws" is None when ``--aws-endpoint-url`` names another AWS.

    ``listeners`` are the bootstrap servers by listener; ``bootstrap_servers`` is the first of them.
    """

    endpoint_url: str
    bootstrap_servers: str
    listeners: dict[ListenerName, str]
    cluster_arn: str
    region: str
    pids: dict[Program, int | None]


async def up(
    settings: UpSettings,
    log: LogSink,
    announce: Callable[[Ready, Sequence[Client]], None],
    stop: asyncio.Event | None = None,
) -> int:
    """Run everything until SIGINT, SIGTERM or ``stop``; the exit status.

    Raises:
        UpError: nothing is left running; the message names the fix.

    """
    keep_private()
    if settings.ready_file is not None:
        prepare_ready_file(settings.ready_file)
    with locked(settings.data_dir), gateway_socket(settings.host, settings.port) as listener:
        for folder in (settings.data_dir, settings.data_dir / "run", settings.clients_dir):
            remove_drafts(folder)
        for name, port in settings.listeners.items():
            require_free_port(settings.host, port, PORT_FLAGS[name])
        if settings.aws_endpoint_url is not None:
            await require_aws(settings.aws_endpoint_url)
        launcher = _Launcher(settings, log, listener)
        return await launcher.run(announce, stop or asyncio.Event())


class _Launcher:
    def __init__(self, settings: UpSettings, log: LogSink, listener: socket.socket) -> None:
        self._settings = settings
        self._log = log
        self._endpoint_url = f"http://{settings.host}:{listener.getsockname()[1]}"
        self._programs = Programs(settings, self._endpoint_url, listener.fileno())
        self._supervisors: dict[Program, Supervisor] = {}
        self._all_ready = False
        # Programs have run on this data before: what only memory held is missed now.
        self._continued = (settings.data_dir / "run").exists()
        self._forced = False
        self._access = Access(settings, self._programs.environ) if settings.secured else None
        self._clients: Sequence[Client] = ()

    async def run(self, announce: Callable[[Ready, Sequence[Client]], None], stop: asyncio.Event) -> int:
        failure: str | None = None
        with _signals(lambda: self._on_signal(stop)):
            async with asyncio.TaskGroup() as group:
                try:
                    failure = await self._start(group, stop)
                    if failure is None and not stop.is_set():
                        announce(self._ready(), self._clients)
                        await stop.wait()
                finally:
                    await self._stop()
        if failure is not None:
            raise ProgramFailed(failure)
        return _FORCED if self._forced else 0

    async def _start(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> str | None:
        """Start everything; why that failed, or None (which a stop meanwhile also gives)."""
        try:
            if self._settings.exposed:
                self._log.line("tidemill", _EXPOSED.format(self._settings.host))
            if self._access is not None:
                await asyncio.to_thread(self._access.prepare)
            for step in _SECURED_STEPS if self._access else _STEPS:
                if "broker" in step and self._access is not None:
                    await asyncio.to_thread(self._access.provide, self._programs.url("aws"))
                failure = await self._start_step(step, group, stop)
                if failure is not None or stop.is_set():
                    return failure
            if "iam" in self._settings.auth and self._settings.aws_endpoint_url:
                self._log.line("tidemill", _KEYS_NOT_TOLD.format(self._settings.aws_endpoint_url))
            if self._access is not None:
                self._clients = await asyncio.to_thread(self._access.write_clients, self._servers())
            self._all_ready = True
            self._write_ready_file()
        except (AccessFailed, ReadyFileUnwritable) as error:
            return str(error)
        return None

    async def _start_step(
        self, step: Sequence[Program], group: asyncio.TaskGroup, stop: asyncio.Event
    ) -> str | None:
        names = [name for name in step if name != "aws" or not self._settings.aws_endpoint_url]
        for name in names:
            supervisor = self._supervisors[name] = self._supervise(name, group)
            group.create_task(supervisor.run(), name=name)
        for name in names:
            failure = await _unless_stopped(self._supervisors[name].ready(), stop)
            if failure is not None or stop.is_set():
                return failure
        return None

    def _supervise(self, name: Program, group: asyncio.TaskGroup) -> Supervisor:
        return Supervisor(
            name,
            command=lambda: self._programs.command(name),
            ready_file=self._programs.ready_file(name),
            on_ready=lambda facts: self._on_ready(name, facts, group),
            log=self._log,
        )

    def _on_ready(self, name: Program, facts: Mapping[str, Any], group: asyncio.TaskGroup) -> None:
        again = name in self._programs.ready
        self._programs.ready[name] = facts
        self._log.line("tidemill", f"{name} is ready{' again' if again else ''} pid={facts['pid']}")
        if name == "aws" and self._settings.embedded_engine == "moto" and (again or self._continued):
            self._log.line("tidemill", _AWS_FORGETS)
        if name == "aws" and again and self._access is not None:
            group.create_task(self._provide_again(self._access), name="secrets of --auth")
        if self._all_ready:
            try:
                self._write_ready_file()
            except ReadyFileUnwritable as error:
                self._log.line("tidemill", str(error))

    async def _provide_again(self, access: Access) -> None:
        try:
            await asyncio.to_thread(access.provide, self._programs.url("aws"))
        except AccessFailed as error:
            self._log.line("tidemill", str(error))
        else:
            self._log.line("tidemill", "the secrets of --auth are made again")

    def _servers(self) -> dict[ListenerName, str]:
        return {name: f"{self._settings.host}:{port}" for name, port in self._programs.listeners().items()}

    def _ready(self) -> Ready:
        facts, servers = self._programs.ready, self._servers()
        names: tuple[Program, ...] = ("broker", "poller", "functions", "aws", "gateway")
        return Ready(
            endpoint_url=self._endpoint_url,
            bootstrap_servers=next(iter(servers.values())),
            listeners=servers,
            cluster_arn=facts["broker"]["cluster_arn"],
            region=self._settings.region,
            pids={name: facts[name]["pid"] if name in facts else None for name in names},
        )

    def _write_ready_file(self) -> None:
        environ = client_environ(self._settings, self._endpoint_url)
        write_ready_file(running_file(self._settings.data_dir), {"pid": os.getpid(), "environ": environ})
        if self._settings.ready_file is not None:
            write_ready_file(self._settings.ready_file, asdict(self._ready()))

    async def _stop(self) -> None:
        self._log.line("tidemill", _STOPPING)
        running_file(self._settings.data_dir).unlink(missing_ok=True)
        if self._settings.ready_file is not None:
            with contextlib.suppress(OSError):  # no file of ours: its writing has failed
                self._settings.ready_file.unlink(missing_ok=True)
        for name, timeout_s in STOP_ORDER.items():
            if supervisor := self._supervisors.get(name):
                async with self._telling(name):
                    await supervisor.stop(0 if self._forced else timeout_s)

    @contextlib.asynccontextmanager
    async def _telling(self, name: Program) -> AsyncIterator[None]:
        """Say for what a stop waits, while it does."""
        url = self._programs.url(name) if name == "poller" and name in self._programs.ready else None
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(
                tell_progress(name, url, lambda text: self._log.line("tidemill", text)), name="progress"
            )
            try:
                yield
            finally:
                telling.cancel()

    def _on_signal(self, stop: asyncio.Event) -> None:
        if not stop.is_set():
            stop.set()
            return
        self._forced = True
        self._log.line("tidemill", "stopping at once")
        for supervisor in self._supervisors.values():
            supervisor.kill()


async def _unless_stopped(ready: Coroutine[Any, Any, str | None], stop: asyncio.Event) -> str | None:
    """Wait for readiness, or for a stop that comes first (None too)."""
    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(stop.wait())
        waiting = group.create_task(ready)
        await asyncio.wait((stopped, waiting), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if waiting.done():
            return waiting.result()
        waiting.cancel()
    return None


@contextlib.contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
