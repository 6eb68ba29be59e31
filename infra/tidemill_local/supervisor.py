"""Owns the life of one program under `up`: started, watched, started again with back-off, drained, killed.

    spawn ──► starting ──ready file──► ready ──exit──► back-off ──► spawn
                 │ exit before the first readiness              │ stop
                 ▼                                              ▼
               failed                                        stopped

Called by the launcher, which holds `run` in its TaskGroup. Knows no program by name.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidemill_local.console_log import LogSink
from tidemill_local.programs import Command
from tidemill_local.ready import read_ready_file

READY_TIMEOUT_S = 60.0
_READY_POLL_S = 0.02
BACKOFF_BASE_S = 0.25
BACKOFF_MAX_S = 10.0
# A program that ran this long is healthy again: the next back-off starts from the base.
HEALTHY_AFTER_S = 30.0
_LINE_BYTES_MAX = 64 * 1024


class Supervisor:
    """Keeps one program running."""

    def __init__(
        self,
        name: str,
        *,
        command: Callable[[], Command],
        ready_file: Path,
        on_ready: Callable[[Mapping[str, Any]], None],
        log: LogSink,
    ) -> None:
        self._name = name
        self._command = command
        self._ready_file = ready_file
        self._on_ready = on_ready
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._first_ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._failures = 0

    async def run(self) -> None:
        """Start the program, again and again, until `stop` or a failed first start."""
        while not self._stopping.is_set():
            started_s = asyncio.get_running_loop().time()
            status = await self._run_once()
            if self._stopping.is_set():
                break
            self._settle_first(f"{self._name} {_ending(status)} before it was ready; its log above says why.")
            if self._first_ready.result() is not None:
                return
            if asyncio.get_running_loop().time() - started_s >= HEALTHY_AFTER_S:
                self._failures = 0
            await self._back_off(status)
        self._settle_first(f"{self._name} was stopped before it was ready.")

    async def ready(self) -> str | None:
        """Wait for the first readiness: None, or the sentence that says why there was none."""
        return await asyncio.shield(self._first_ready)

    async def stop(self, timeout_s: float) -> None:
        """Ask the program to drain, wait for it, and kill it when it takes longer than ``timeout_s``."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            self._log.line("tidemill", f"{self._name} did not stop within {timeout_s:g} s; killing it")
            self._signal(signal.SIGKILL)
            await process.wait()

    def kill(self) -> None:
        """End the program now."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _run_once(self) -> int:
        """One life of the program; its exit status."""
        self._ready_file.parent.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        command = self._command()
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # -P: a folder of the user's that is called like a program of ours must not shadow it.
            "-P",
            "-m",
            "tidemill_local.child",
            *command.arguments,
            env=command.environ,
            # The program ends when this pipe does: see tidemill_local.child.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C is for the launcher alone, which stops the programs in order.
            start_new_session=True,
            pass_fds=() if command.inherited_fd is None else (command.inherited_fd,),
        )
        if self._stopping.is_set():
            self._signal(signal.SIGKILL)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy_log(process), name=f"log of {self._name}")
            watch = group.create_task(self._await_ready(process), name=f"readiness of {self._name}")
            status = await process.wait()
            watch.cancel()
        return status

    async def _await_ready(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                # Another process writes the file: there is no event to wait for.
                while (facts := read_ready_file(self._ready_file)) is None:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(_READY_POLL_S)
        except TimeoutError:
            self._settle_first(f"{self._name} was not ready within {READY_TIMEOUT_S:g} s.")
            self._log.line("tidemill", f"{self._name} is not ready after {READY_TIMEOUT_S:g} s; killing it")
            process.kill()
            return
        self._on_ready(facts)
        self._settle_first(None)

    def _settle_first(self, failure: str | None) -> None:
        if not self._first_ready.done():
            self._first_ready.set_result(failure)

    async def _copy_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        pending = b""
        while chunk := await process.stdout.read(_LINE_BYTES_MAX):
            *lines, pending = (pending + chunk).split(b"\n")
            if len(pending) > _LINE_BYTES_MAX:
                lines, pending = [*lines, pending], b""
            for line in lines:
                self._log.line(self._name, line.decode(errors="replace"))
        if pending:
            self._log.line(self._name, pending.decode(errors="replace"))

    async def _back_off(self, status: int) -> None:
        delay_s = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2**self._failures)
        self._failures += 1
        self._log.line("tidemill", f"{self._name} {_ending(status)}; starting it again in {delay_s:g} s")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()


def _ending(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
