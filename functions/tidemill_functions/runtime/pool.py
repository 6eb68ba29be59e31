"""Owns all execution environments: who is free, who may start, who must end.

An invocation takes a free environment of its function or waits for the first that comes free; for one that
waits a new environment is started, a few at a time, so that a burst does not start a process per call at
once. Every admitted invocation is sure of a place: above `max_environments` it is throttled, as on
Lambda. Called by the API and the event queue; must not know HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidemill_functions.code.registry import Function, LocalCode, Registry
from tidemill_functions.errors import FunctionNotFound, ReservedConcurrencyReached, TooManyInvocations
from tidemill_functions.reporting.cloudwatch_logs import CloudWatchLogs
from tidemill_functions.reporting.reporter import Reporter
from tidemill_functions.runtime.census import Census, end_all_of
from tidemill_functions.runtime.environment import Environment, Invocation, Result, Site
from tidemill_functions.runtime.guard import Guard
from tidemill_functions.runtime.logs import FunctionLog
from tidemill_functions.runtime.users import find_users
from tidemill_functions.runtimes.table import Runtimes
from tidemill_functions.settings import Settings

logger = logging.getLogger(__name__)

# Edits of code that runs in place are looked for at most this often: a scan may read thousands of entries.
_REREAD_S: Final = 0.5
_KILLED_WITHIN_S: Final = 5.0
# A process that allocates as fast as memory goes holds a few hundred MB too much by then.
_CHECK_S: Final = 0.1
_LOOK_S: Final = 1.0
# Where there are so many processes that a look takes long, it is taken less often.
_PAUSE_RATIO: Final = 20
_STORAGE_CHECK_S: Final = 1.0
_FILE_BYTES_MIN: Final = 4096  # as with a file system of its own, 256 files for each MB


@dataclass(slots=True, eq=False)
class _Line:
    """The environments of one function or published version, and the invocations that wait for one."""

    key: str
    log: FunctionLog
    free: list[Environment] = field(default_factory=list)  # the one used last at the end
    waiting: deque[Invocation] = field(default_factory=deque)
    starting: set[Environment] = field(default_factory=set)
    reread_at_s: float = 0.0


class Pool:
    """The environments of all functions; it lives inside `async with running(pool)`."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        runtimes: Runtimes,
        variables: Mapping[str, str],
        cloudwatch: CloudWatchLogs | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._runtimes = runtimes
        self._variables = variables
        self._cloudwatch = cloudwatch
        self.reporter = reporter or Reporter()
        self._users = find_users(settings.first_uid)
        self._guard = Guard(None if self._users is None else self._users.lock)
        self._temporary = settings.data_dir.resolve() / "tmp"
        shutil.rmtree(self._temporary, ignore_errors=True)  # of a server that was killed
        self._lines: dict[str, _Line] = {}
        self._logs: dict[str, FunctionLog] = {}  # by name: versions share one
        self._in_flight_by_name: Counter[str] = Counter()
        # Each with its own line: a function that was deleted and made again has a new one.
        self._environments: dict[Environment, _Line] = {}
        self.cold_starts = 0  # processes that were started
        self._in_flight = 0
        self._waiting = 0
        self._starting = 0
        self._closing = False
        self._tasks: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()

    @property
    def environments(self) -> int:
        """Processes alive or starting."""
        return len(self._environments)

    @property
    def in_flight(self) -> int:
        """Invocations that run or wait for an environment."""
        return self._in_flight

    async def invoke(self, function: Function, invocation: Invocation) -> Result:
        """Run one invocation to its end, for callers that can wait; its `finish` is replaced.

        Raises TooManyInvocations at once, FunctionNotFound if the function is deleted meanwhile.
        """
        done: asyncio.Future[Result | None] = asyncio.get_running_loop().create_future()
        invocation.finish = lambda result: None if done.done() else done.set_result(result)
        self.submit(function, invocation)
        result = await done
        if result is None:
            raise FunctionNotFound(function.arn)
        return result

    def submit(self, function: Function, invocation: Invocation) -> None:
        """Begin one invocation, or let it wait for an environment. Raises TooManyInvocations at once."""
        name = function.name
        reserved = self._registry.attached.get(name).reserved_concurrency
        if reserved is not None and self._in_flight_by_name[name] >= reserved:
            raise ReservedConcurrencyReached(name)
        if self._in_flight >= self._settings.max_environments or self._closing:
            raise TooManyInvocations(name)
        self._in_flight += 1
        self._in_flight_by_name[name] += 1
        invocation.name = name
        if self.reporter.listeners:
            self.reporter.began(name, self._in_flight_by_name[name])
        self._assign(function, invocation)

    def log_of(self, name: str) -> FunctionLog:
        """Return the log of the function of this name."""
        found = self._logs.get(name)
        if found is None:
            path = self._settings.data_dir / "logs" / f"{name}.log"
            found = self._logs[name] = FunctionLog(path, file_bytes_max=self._settings.log_file_bytes)
        return found

    def retire(self, former: Function) -> None:
        """Let go of a function as it was before a change: free environments end now, busy ones after work."""
        line = self._line(former)
        current = self._registry.get(former.key)
        self._end_stale(line, current)
        if current is None:
            self._remove(line)
        self._release_code_of(former)

    # environment.Owner

    def freed(self, environment: Environment) -> None:
        """Give it the work that waits longest, or keep it warm."""
        line = self._environments[environment]
        self._has_started(line, environment)
        if self._closing or self._registry.get(line.key) is not environment.function:
            environment.kill()
        elif line.waiting:
            environment.invoke(self._next_waiting(line))
        else:
            line.free.append(environment)
        self._start_more()

    def finished(self, invocation: Invocation, result: Result | None) -> None:
        """Count it out and hand its result over."""
        self._in_flight -= 1
        self._in_flight_by_name[invocation.name] -= 1
        if not self._in_flight_by_name[invocation.name]:
            del self._in_flight_by_name[invocation.name]
        if self._closing:
            self._changed.set()
        invocation.finish(result)

    def ended(self, environment: Environment) -> None:
        """Answer whom it leaves without an answer, and let go of its code."""
        line = self._environments.pop(environment)
        self._clean_up(environment)
        function = environment.function
        is_current = self._registry.get(line.key) is function
        failed_to_start = self._has_started(line, environment) and is_current and not self._closing
        if failed_to_start and line.waiting:
            if environment.init_ran_out:
                self._start(line, function, again=True)
            else:
                environment.fail(self._next_waiting(line))
        if environment in line.free:
            line.free.remove(environment)
        if environment.undelivered is not None:
            line.waiting.appendleft(environment.undelivered)
            self._waiting += 1
        if not is_current:
            self._release_code_of(function)
        self._changed.set()
        self._start_more()

    # Work to environments

    def _assign(self, function: Function, invocation: Invocation) -> None:
        line = self._line(function)
        if isinstance(function.code, LocalCode):
            function = self._reread(line, function)
        while line.free:
            environment = line.free.pop()
            if environment.function is function:
                environment.invoke(invocation)
                return
            environment.kill()
        line.waiting.append(invocation)
        self._waiting += 1
        self._start_more()

    def refresh(self, function: Function) -> Function:
        """Return the function as it is now: code that runs in place may have been edited."""
        if not isinstance(function.code, LocalCode):
            return function
        return self._reread(self._line(function), function)

    def _reread(self, line: _Line, function: Function) -> Function:
        now_s = asyncio.get_running_loop().time()
        if now_s >= line.reread_at_s:
            if self._registry.reread(line.key):
                self._end_stale(line, self._registry.get(line.key))
            line.reread_at_s = now_s + _REREAD_S
        return self._registry.get(line.key) or function

    def _next_waiting(self, line: _Line) -> Invocation:
        self._waiting -= 1
        return line.waiting.popleft()

    # Starting and ending

    def _start_more(self) -> None:
        """Start environments for the invocations that wait, as far as the limits allow."""
        if self._waiting == 0 or self._closing:
            return
        for line in list(self._lines.values()):
            function = self._registry.get(line.key)
            while (
                function is not None
                and len(line.starting) < len(line.waiting)
                and self._starting < self._settings.max_cold_starts
                and self._has_room()
            ):
                self._start(line, function)

    def _start(self, line: _Line, function: Function, *, again: bool = False) -> None:
        self.cold_starts += 1
        assert self._tasks is not None
        site = Site(
            task_root=self._registry.folder(function),
            opt=self._registry.opt(function),
            variables=self._variables,
            log=line.log,
            cloudwatch=self._cloudwatch,
            reporter=self.reporter,
            guard=self._guard,
            runtimes=self._runtimes,
            init_timeout_s=self._settings.init_timeout_s,
            temporary=self._temporary,
            hidden=self._settings.data_dir.resolve(),
            freezes=self._settings.freeze,
        )
        # Code in place is its developer's, and runs as who runs the server.
        has_own_user = self._users is not None and not isinstance(function.code, LocalCode)
        uid = self._users.take() if self._users is not None and has_own_user else None
        environment = Environment(function, site, self, uid=uid, again=again)
        self._environments[environment] = line
        line.starting.add(environment)
        self._starting += 1
        self._tasks.create_task(environment.start(), name=f"start {function.name}")

    def _has_started(self, line: _Line, environment: Environment) -> bool:
        """Return whether it was starting until now, and count it as started."""
        if environment not in line.starting:
            return False
        line.starting.discard(environment)
        self._starting -= 1
        return True

    def _has_room(self) -> bool:
        """Return whether a process may be started; end the longest unused if only that is in the way."""
        if len(self._environments) < self._settings.max_environments:
            return True
        free = [environment for line in self._lines.values() for environment in line.free]
        if free:
            self._end_free(min(free, key=lambda environment: environment.free_since_s))
        return False  # `ended` is called at its end, and looks again

    def _end_free(self, environment: Environment) -> None:
        self._environments[environment].free.remove(environment)
        environment.kill()

    def _end_stale(self, line: _Line, current: Function | None) -> None:
        for environment in [*line.free, *line.starting]:
            if environment.function is not current:
                if environment in line.free:
                    line.free.remove(environment)
                environment.kill()

    def _remove(self, line: _Line) -> None:
        self._lines.pop(line.key)
        name = line.key.partition(":")[0]
        if self._registry.get(name) is None and name in self._logs:
            self._logs.pop(name).remove()
        while line.waiting:
            self.finished(self._next_waiting(line), None)

    def _clean_up(self, environment: Environment) -> None:
        assert self._tasks is not None
        if environment.temporary is not None:
            removal = asyncio.to_thread(shutil.rmtree, environment.temporary, ignore_errors=True)
            self._tasks.create_task(removal, name="remove temporary files")
        if environment.uid is not None:
            self._tasks.create_task(self._end_all_of(environment.uid), name="end what is left")

    async def _end_all_of(self, uid: int) -> None:
        """End what an environment left outside of its process group; its user is the next one's then."""
        assert self._users is not None
        if await asyncio.to_thread(end_all_of, uid):
            self._users.give_back(uid)
        else:
            logger.error("processes of an ended environment could not be ended uid=%d", uid)

    def _release_code_of(self, former: Function) -> None:
        """Remove a former function's code once its last process has ended."""
        if self._closing or any(e.function.code == former.code for e in self._environments):
            return  # what a stop leaves is removed at the next start
        assert self._tasks is not None
        removal = asyncio.to_thread(self._registry.release, former.name, former.code)
        self._tasks.create_task(removal, name=f"remove code of {former.name}")

    def _line(self, function: Function) -> _Line:
        line = self._lines.get(function.key)
        if line is None:
            line = self._lines[function.key] = _Line(function.key, self.log_of(function.name))
        return line

    async def _end_unused(self) -> None:
        """End environments that have had no work for `idle_s`."""
        idle_s = self._settings.idle_s
        while True:
            await asyncio.sleep(idle_s / 4)
            now_s = asyncio.get_running_loop().time()
            for line in self._lines.values():
                for environment in list(line.free):
                    if now_s - environment.free_since_s >= idle_s:
                        self._end_free(environment)

    async def _check_limits(self) -> None:
        """End environments that hold more memory or temporary files than their functions may."""
        loop = asyncio.get_running_loop()
        storage_at_s = loop.time()
        census = Census()
        look_at_s = loop.time()
        while True:
            await asyncio.sleep(_CHECK_S)
            if not self._environments:
                continue
            if loop.time() >= look_at_s:
                look_at_s = await self._take_groups(census)
            for environment in list(self._environments):
                environment.check(loop.time())
            if loop.time() >= storage_at_s:
                await self._check_storage()
                storage_at_s = loop.time() + _STORAGE_CHECK_S

    async def _take_groups(self, census: Census) -> float:
        """Find the processes of all environments; return when to look again."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        roots = {environment: root for environment in self._environments if (root := environment.root)}
        groups = await asyncio.to_thread(census.look, list(roots.values()))
        for environment, root in roots.items():
            if environment in self._environments:
                environment.take_group(groups[root])
        # What a handler started may grow fast; where it started nothing there is less to see.
        pause_s = _CHECK_S if any(len(group.pids) > 1 for group in groups.values()) else _LOOK_S
        return loop.time() + max(pause_s, _PAUSE_RATIO * (loop.time() - began_s))

    async def _check_storage(self) -> None:
        for environment in list(self._environments):
            if environment.temporary is None:
                continue  # its own file system has the limit
            used_bytes = await asyncio.to_thread(size_bytes, environment.temporary)
            if environment in self._environments:
                environment.check_storage(environment.temporary, used_bytes)

    async def drain(self) -> None:
        """Take no more invocations, and let those that run end, for a time."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_timeout_s):
                while self._in_flight:
                    self._changed.clear()
                    await self._changed.wait()

    def _release_users(self) -> None:
        """Let another server have them; no process has one any more."""
        if self._users is not None:
            self._users.close()

    async def _close(self) -> None:
        """End every process."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED_WITHIN_S):
                while self._environments:
                    for environment in self._environments:
                        environment.kill()
                    self._changed.clear()
                    await self._changed.wait()
        self._guard.close()
        for log in self._logs.values():
            log.close()


@contextlib.asynccontextmanager
async def running(pool: Pool) -> AsyncIterator[Pool]:
    """Run the pool: its tasks live in here, and at the end no process is left."""
    async with asyncio.TaskGroup() as tasks:
        pool._tasks = tasks  # noqa: SLF001 - the pool's own other half
        unused = tasks.create_task(pool._end_unused(), name="end unused environments")  # noqa: SLF001 - the same
        limits = tasks.create_task(pool._check_limits(), name="check limits")  # noqa: SLF001 - the same
        try:
            yield pool
        finally:
            await pool._close()  # noqa: SLF001 - the same
            unused.cancel()
            limits.cancel()
    pool._release_users()  # noqa: SLF001 - the same


def size_bytes(folder: Path) -> int:
    """Return how much of the disk the files below a folder take, holes not counted, empty files as a page."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                total += max(os.lstat(f"{parent}/{name}").st_blocks * 512, _FILE_BYTES_MIN)
    return total
