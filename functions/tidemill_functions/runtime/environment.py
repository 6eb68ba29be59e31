"""One execution environment: its states, its Runtime API port, and the invocation in flight.

                 next                 invoke              response, error
    STARTING ───────────> FREE ───────────────> BUSY ──────────────────────> FREE
        │                  │                     │
        │ init/error,      │ exit, kill          │ time-out, exit,
        │ exit, time-out   v                     v response too large
        └──────────────> ENDED <─────────────────┘

It owns what Lambda says for each of these ends; how a process starts and ends is process.py's. It must not
know other environments or HTTP clients: the pool starts it, gives it work while FREE and is called as its
`Owner`. memory_mb is held against resident memory, not against the address space: a limit of that breaks
numpy, Node.js and whatever else maps more than it uses.

See docs/decisions/0403 and 0406.
"""

from __future__ import annotations

import asyncio
import enum
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import orjson

from tidemill_functions.code.registry import Function
from tidemill_functions.errors import InvalidFunction
from tidemill_functions.reporting.cloudwatch_logs import CloudWatchLogs
from tidemill_functions.reporting.reporter import InvocationEnd, Reporter
from tidemill_functions.runtime.census import Group, Root
from tidemill_functions.runtime.guard import Guard
from tidemill_functions.runtime.logs import FunctionLog
from tidemill_functions.runtime.mounts import View
from tidemill_functions.runtime.platform_lines import PlatformLines, error_type
from tidemill_functions.runtime.process import HandlerProcess, exit_reason
from tidemill_functions.runtime.runtime_api import RESPONSE_BYTES_MAX, RuntimeConnection
from tidemill_functions.runtime.transcript import Transcript
from tidemill_functions.runtimes.runtime import Launch
from tidemill_functions.runtimes.table import Runtimes

_INIT_ERROR_GRACE_S: Final = 0.5
# A function that is invoked without a pause is not stopped in between: that would cost each invocation.
_FREEZE_AFTER_S: Final = 0.05
_CA_BUNDLES: Final = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one invocation ended: Lambda's payload, whether it is an error document, and the log's tail."""

    payload: bytes
    failed: bool
    log_tail: bytes = b""


@dataclass(slots=True, kw_only=True, eq=False)
class Invocation:
    """One invocation under way.

    `finish` is called once, on the event loop: with the result, or with None if the function was deleted
    before the invocation found an environment. A plain call and no future: it is on the way of every reply.
    """

    payload: bytes
    finish: Callable[[Result | None], None] = lambda _result: None
    arn: str = ""  # as it was invoked, by a version or an alias; the function's if empty
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    trace_id: str = ""
    client_context: bytes = b""  # one line of JSON
    wants_log: bool = False
    caller_trace: str = ""  # X-Amzn-Trace-Id as the caller sent it
    name: str = ""  # the function's, without a version; set by who admits it


class Owner(Protocol):
    """Who started the environment; called on the event loop, must not block."""

    def freed(self, environment: Environment) -> None:
        """Take note that it is FREE: it may be given an invocation from here."""

    def finished(self, invocation: Invocation, result: Result) -> None:
        """Take the result of an invocation."""

    def ended(self, environment: Environment) -> None:
        """Let go of it: its process is gone; `undelivered` holds an invocation that the handler never saw."""


class State(enum.Enum):
    """See the drawing above."""

    STARTING = enum.auto()
    FREE = enum.auto()
    BUSY = enum.auto()
    ENDED = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an environment runs: what all environments of one function share."""

    task_root: Path
    opt: Path | None  # the layers' folder
    variables: Mapping[str, str]  # handed on from the server's own environment
    log: FunctionLog
    cloudwatch: CloudWatchLogs | None
    reporter: Reporter
    guard: Guard
    runtimes: Runtimes
    init_timeout_s: float
    temporary: Path  # the folder of the environments' own folders for temporary files
    hidden: Path  # what no handler with a user of its own sees: the server's data
    freezes: bool  # between invocations


class Environment:
    """See the drawing above. All methods belong to one event loop."""

    def __init__(
        self, function: Function, site: Site, owner: Owner, *, uid: int | None = None, again: bool = False
    ) -> None:
        """Take the user of its own, or None; and whether the init before it ran out of time."""
        self.function = function
        self.uid = uid
        self.init_ran_out = False  # and is to be begun again, in another environment
        self._is_again = again
        self._spent_s = 0.0  # of the time-out of the invocation that waits, by an init that was begun again
        self._is_out_of_memory = False
        self.state = State.STARTING
        self.free_since_s = 0.0
        self.undelivered: Invocation | None = None
        self._site = site
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._timeout_text = f"Task timed out after {function.timeout_s:.2f} seconds"
        self._invocation: Invocation | None = None
        self._sent_s: float | None = None
        self._asking: RuntimeConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started_s = time.monotonic()
        self._start_failure: tuple[str, str] | bytes | None = None
        stream = f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{uuid.uuid4().hex}"
        self._log_stream = stream
        self._transcript = Transcript(
            site.log,
            PlatformLines(function.logging, version=function.version),
            site.cloudwatch.stream(function.logging.log_group, stream) if site.cloudwatch else None,
            memory_mb=function.memory_mb,
        )
        self._is_killed = False
        self._server: asyncio.Server | None = None
        self._process = HandlerProcess(self, site.guard)
        # Its own, in place of Lambda's /tmp, which a process with a user of its own has.
        self.temporary = None if uid is not None else site.temporary / uuid.uuid4().hex[:12]

    async def start(self) -> None:
        """Start the process; the owner's `freed` is called once the handler is loaded, or `ended`."""
        limit_s = self.function.timeout_s if self._is_again else self._site.init_timeout_s
        self._timer = self._loop.call_later(limit_s, self._start_timed_out)
        try:
            await self._spawn()
        except InvalidFunction as error:
            self._start_failure = ("Runtime.InvalidEntrypoint", str(error))
            self._end()
        except (OSError, ValueError) as error:  # no such folder, no process or descriptor left, a NUL
            if self._start_failure is None:  # it may have run out of time before it began
                self._start_failure = ("Runtime.Unknown", f"The runtime could not be started: {error}")
            self._end()

    async def _spawn(self) -> None:
        self._server = await self._loop.create_server(
            lambda: RuntimeConnection(self, self.uid), "127.0.0.1", 0
        )
        launch = await asyncio.to_thread(
            self._site.runtimes.launch, self.function, self._site.task_root, self._site.opt
        )
        if self._is_killed:
            raise ProcessLookupError("it was ended before it began.")
        if self.temporary is not None:
            self.temporary.mkdir(parents=True, mode=0o700)
        writing_end = self._transcript.open(launch.version)
        try:
            await self._process.start(
                launch.command,
                folder=self._site.task_root,
                variables=self._variables(self._server.sockets[0].getsockname()[1], launch),
                output=writing_end,
                view=self._view(launch),
            )
        finally:
            os.close(writing_end)

    def _view(self, launch: Launch) -> View | None:
        """Return what the process may see; None if it runs as the server's user and sees what that does."""
        if self.uid is None:
            return None
        site = self._site
        bundles = [Path(site.variables[name]) for name in _CA_BUNDLES if name in site.variables]
        needs = [site.task_root, *launch.needs, *bundles, *([site.opt] if site.opt else [])]
        return View(
            uid=self.uid,
            needs=[found for need in needs if (found := need.resolve()).exists()],
            hidden=[self._site.hidden],
            tmp_mb=storage_mb(self.function),
        )

    # The owner's side

    def invoke(self, invocation: Invocation) -> None:
        """Give it work; it must be FREE."""
        assert self.state is State.FREE
        self.state = State.BUSY
        self._invocation = invocation
        self._process.thaw()
        self._timer = self._loop.call_later(self.function.timeout_s - self._spent_s, self._timed_out)
        if self._asking is not None:
            self._send(self._asking, invocation)

    def kill(self) -> None:
        """End the process and all that it started; the owner's `ended` is called once it is gone."""
        self._is_killed = True
        self._process.kill()

    @property
    def root(self) -> Root | None:
        """Where its processes are found, while it runs."""
        pid = self._process.pid
        return None if pid is None else Root(pid, self.uid, self.function.memory_mb << 20)

    def take_group(self, group: Group) -> None:
        """Take note of its processes: what left the group is frozen with it, and its memory counts."""
        self._process.take_group(group)

    def check(self, now_s: float) -> None:
        """Freeze it where it is idle; end it, as Lambda does, if it holds more memory than the function may.

        Called ten times a second: a timer for each invocation would cost each invocation.
        """
        if self.state is State.FREE:
            is_idle = self._asking is not None and now_s - self.free_since_s >= _FREEZE_AFTER_S
            if is_idle and self._site.freezes:
                self._process.freeze()
            return
        if self._is_killed or self._process.resident_mb() <= self.function.memory_mb:
            return
        self._transcript.read()
        self._transcript.write(
            f"Tidemill: its processes held {self._process.peak_mb()} MB and were ended:"
            f" the function's memory is {self.function.memory_mb} MB\n"
        )
        self._is_out_of_memory = True
        self.kill()

    def check_storage(self, folder: Path, used_bytes: int) -> None:
        """End the process if its temporary files hold more than the function's EphemeralStorage."""
        limit_mb = storage_mb(self.function)
        if self._is_killed or used_bytes <= limit_mb << 20:
            return
        # Lambda's file system refuses the write; here the end follows it within a second or so.
        text = f"[Errno 28] No space left on device: {folder} holds more than {limit_mb} MB"
        if self.state is State.BUSY and self._invocation is not None and self._sent_s is not None:
            self._transcript.read()
            self._finish_with("Runtime.ExitError", text)
        else:
            self._transcript.write(f"Tidemill: the process was ended: {text}\n")
        self.kill()

    def fail(self, invocation: Invocation) -> None:
        """Answer an invocation that waited for this environment, which could not be started."""
        self._transcript.begin(invocation.request_id)
        self._invocation, self._sent_s = invocation, time.monotonic()
        match self._start_failure:
            case bytes(document):
                self._finish(document, failed=True)
            case (error_type, message):
                self._finish_with(error_type, message)
            case _:
                raise AssertionError("an environment that was started has not failed to start")

    # runtime_api.Client: what the process asks and tells

    def next_asked(self, connection: RuntimeConnection) -> None:
        """Become FREE at the first request, or send the invocation that waits."""
        self._asking = connection
        if self.state is State.STARTING:
            self._loaded()
        elif self._invocation is not None and self._sent_s is None:
            self._send(connection, self._invocation)

    def expects(self, request_id: str) -> bool:
        """Return whether this invocation was sent and is not answered."""
        invocation = self._invocation
        return invocation is not None and self._sent_s is not None and invocation.request_id == request_id

    def answered(self, body: bytes, *, failed: bool) -> None:
        """Finish the invocation with what the handler returned or raised."""
        self._finish(body, failed=failed)
        self._free()

    def answer_too_large(self) -> None:
        """Fail the invocation and end the process, which would exit by itself after this, as on Lambda."""
        message = f"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
        document = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
        self._finish(orjson.dumps(document), failed=True)
        self.kill()

    def init_failed(self, body: bytes) -> None:
        """Keep the error document, and end the process soon: a thread that goes on must not keep it.

        Not at once: AWS's client for Java logs the stack trace after it has sent the document.
        """
        if self.state is State.STARTING:
            self._start_failure = body
            self._stop_timer()
            self._timer = self._loop.call_later(_INIT_ERROR_GRACE_S, self.kill)

    # How it goes on, and how it ends

    def _loaded(self) -> None:
        taken_s = time.monotonic() - self._started_s
        if self._is_again:
            self._spent_s = taken_s
        else:
            self._transcript.loaded(taken_s * 1000)
        self._free()
        self._spent_s = 0.0

    def _free(self) -> None:
        self._stop_timer()
        self.state = State.FREE
        self.free_since_s = self._loop.time()
        self._owner.freed(self)

    def _send(self, connection: RuntimeConnection, invocation: Invocation) -> None:
        function = self.function
        deadline_ms = int((time.time() + function.timeout_s - self._spent_s) * 1000)
        head = (
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.arn or function.arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {invocation.trace_id}\r\n"
        ).encode()
        if invocation.client_context:
            head += b"Lambda-Runtime-Client-Context: %s\r\n" % invocation.client_context
        self._asking = None
        if connection.deliver(head, invocation.payload):
            self._sent_s = time.monotonic() - self._spent_s
            # What the handler prints is read on a later turn: START stands above it.
            self._transcript.begin(invocation.request_id)

    def _timed_out(self) -> None:
        if self._invocation is None:
            return
        if self._sent_s is None:  # still busy with what follows its last answer
            self._sent_s = time.monotonic() - self.function.timeout_s
        self._transcript.read()
        # Lambda's spelling of this type differs from RIE's (Sandbox.Timeout).
        self._finish_with("Sandbox.Timedout", self._timeout_text)
        self.kill()

    def _start_timed_out(self) -> None:
        self.init_ran_out = not self._is_again
        if self.init_ran_out:
            took_ms = (time.monotonic() - self._started_s) * 1000
            self._transcript.read()
            self._transcript.write(
                f"INIT_REPORT Init Duration: {took_ms:.2f} ms\tPhase: init\tStatus: timeout\n"
            )
        self._start_failure = ("Sandbox.Timedout", self._timeout_text)
        self.kill()

    def exited(self, code: int) -> None:
        """Answer for a process that is gone (process.Owner)."""
        self._transcript.read()
        error_type = "Runtime.OutOfMemory" if self._is_out_of_memory else "Runtime.ExitError"
        if self.state is State.STARTING and self._start_failure is None:
            self._start_failure = (error_type, exit_reason(code))
        if self._invocation is not None and self._sent_s is not None:
            self._finish_with(error_type, exit_reason(code))
        self.undelivered, self._invocation = self._invocation, None
        self._end()

    def _end(self) -> None:
        self._stop_timer()
        self.state = State.ENDED
        self._transcript.close()
        if self._server is not None:
            self._server.close()
        self._process.close()
        self._owner.ended(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Results and the log

    def _finish_with(self, error_type: str, message: str) -> None:
        assert self._invocation is not None
        text = f"RequestId: {self._invocation.request_id} Error: {message}"
        self._transcript.error(f"{text}\n{error_type}\n")
        self._finish(orjson.dumps({"errorType": error_type, "errorMessage": text}), failed=True)

    def _finish(self, payload: bytes, *, failed: bool) -> None:
        invocation, sent_s = self._invocation, self._sent_s
        assert invocation is not None
        assert sent_s is not None
        self._invocation, self._sent_s = None, None
        self._stop_timer()
        duration_ms = (time.monotonic() - sent_s) * 1000
        error = payload if failed else b""
        if invocation.wants_log or self.state is not State.BUSY:
            self._conclude(invocation, duration_ms, error)
            tail = self._transcript.tail() if invocation.wants_log else b""
            self._owner.finished(invocation, Result(payload=payload, failed=failed, log_tail=tail))
        else:
            # The reply first. The process asks for more on a later turn, so the log keeps its order.
            self._loop.call_soon(self._conclude, invocation, duration_ms, error)
            self._owner.finished(invocation, Result(payload=payload, failed=failed))

    def _conclude(self, invocation: Invocation, duration_ms: float, error: bytes) -> None:
        report = self._transcript.end(
            invocation.request_id,
            duration_ms=duration_ms,
            peak_mb=self._process.peak_mb(),
            error_type=error_type(error) if error else "",
        )
        if self._site.reporter.listeners:
            self._site.reporter.ended(
                InvocationEnd(
                    function=self.function.name,
                    version=self.function.version,
                    arn=invocation.arn or self.function.arn,
                    request_id=invocation.request_id,
                    caller_trace=invocation.caller_trace,
                    ended_ns=time.time_ns(),
                    duration_ms=report.duration_ms,
                    init_ms=report.init_ms,
                    memory_mb=report.memory_mb,
                    peak_mb=report.peak_mb,
                    error_type=report.error_type,
                )
            )

    def _variables(self, port: int, launch: Launch) -> dict[str, str]:
        """Return the process's whole environment: Lambda's variables, the function's own, little of ours."""
        function = self.function
        lambdas = {
            "_HANDLER": function.handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": function.logging.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._log_stream,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "LAMBDA_TASK_ROOT": str(self._site.task_root),
        }
        return {
            **self._site.variables,
            **self._of_layers(),
            **launch.variables,
            "TMPDIR": "/tmp" if self.temporary is None else str(self.temporary),  # noqa: S108 - Lambda's
            **function.environment,
            **lambdas,
            **function.logging.variables(),
        }

    def _of_layers(self) -> dict[str, str]:
        """Return where programs and libraries of the code and its layers are found, in Lambda's order."""
        opt, task_root = self._site.opt, self._site.task_root
        libraries = f"{task_root}{os.pathsep}{task_root}/lib"
        if opt is None:
            return {"LD_LIBRARY_PATH": libraries}
        return {
            "PATH": os.pathsep.join(filter(None, (self._site.variables.get("PATH"), f"{opt}/bin"))),
            "LD_LIBRARY_PATH": f"{libraries}{os.pathsep}{opt}/lib",
        }


def storage_mb(function: Function) -> int:
    """Return the function's EphemeralStorage in MB; Lambda's default is 512."""
    return int((function.echoed.get("EphemeralStorage") or {}).get("Size", 512))
