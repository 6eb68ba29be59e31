"""The contract suite's handler in the language of each runtime, packed as its users pack it.

Java and Go are compiled once into `.cache/`; what is missing skips the test, and fails it in CI.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.oracles.apache_kafka import CACHE, fetched, had_or_skip

HERE = Path(__file__).parent
EVENTS_VERSION = "3.16.0"
CLIENT_VERSION = "2.10.1"
APP = """
import os, subprocess, sys, tempfile, threading, time
if os.environ.get("AT_INIT") == "raise": raise ArithmeticError("at init é")
if os.environ.get("AT_INIT") == "exit": os._exit(7)
held = []
def wait():
    while True: time.sleep(0.05)
def handler(event, context):
    do = event.get("do") if isinstance(event, dict) else None
    temporary = os.path.join(tempfile.gettempdir(), "kept")
    if do == "raise": raise ValueError("boom é")
    if do == "unserialisable": return {1, 2}
    if do == "exit": os._exit(event["status"])
    if do == "signal": os.kill(os.getpid(), event["number"])
    if do == "sleep": time.sleep(600)
    while do == "hold":
        held.append(b"x" * (1 << 20))
        time.sleep(0.002)  # slowly, for memory is looked at 10 times a second
    if do == "size": return "x" * event["count"]
    if do == "length": return len(event["text"])
    if do == "print":
        print(event["text"])
        print("on error", file=sys.stderr)
        return None
    if do == "print-unended":
        sys.stdout.write("no end of line")
        sys.stdout.flush()
        return None
    if do == "flood":
        line = "x" * 999
        for _ in range(event["lines"]): print(line)
        return None
    if do == "env": return os.environ.get(event["name"])
    if do == "trace": return os.environ["_X_AMZN_TRACE_ID"]
    if do == "pid": return os.getpid()
    if do == "child": return subprocess.Popen(["sleep", "600"]).pid
    if do == "thread":
        threading.Thread(target=wait).start()
        return None
    if do == "write":
        with open(temporary, "w") as file: file.write(event["text"])
        return temporary
    if do == "read": return open(temporary).read() if os.path.exists(temporary) else None
    if do == "data": return open("data.txt").read()
    if do == "program": return subprocess.run(["of-the-layer"], stdout=subprocess.PIPE, text=True).stdout
    if do == "left": return context.get_remaining_time_in_millis()
    if do == "client": return context.client_context.custom if context.client_context else None
    if do == "context":
        return [context.aws_request_id, context.function_name, context.invoked_function_arn,
                int(context.memory_limit_in_mb), context.function_version, context.log_group_name]
    return event
"""
# Any program will do: this one is a script, so that its rows need no compiler.
BOOTSTRAP = (
    f"#!{sys.executable} -IS"
    """
import http.client, json, os, sys, time
sys.stdout.reconfigure(line_buffering=True)
class Context: pass
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None):
    connection.request(method, "/2018-06-01/runtime/" + path, body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    return reply, reply.read()
def fail(path, error):
    document = {"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": []}
    call("POST", path, json.dumps(document).encode())
namespace = {}
module = os.environ["_HANDLER"].split(".")[0] + ".py"
try:
    exec(open(os.path.join(os.environ["LAMBDA_TASK_ROOT"], module)).read(), namespace)
except Exception as error:
    fail("init/error", error)
    sys.exit(1)
while True:
    reply, event = call("GET", "invocation/next")
    context = Context()
    context.aws_request_id = reply.headers["Lambda-Runtime-Aws-Request-Id"]
    context.invoked_function_arn = reply.headers["Lambda-Runtime-Invoked-Function-Arn"]
    context.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    context.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
    context.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
    context.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    context.client_context = Context()
    client = json.loads(reply.headers.get("Lambda-Runtime-Client-Context", "{}"))
    context.client_context.custom = client.get("custom")
    os.environ["_X_AMZN_TRACE_ID"] = reply.headers["Lambda-Runtime-Trace-Id"] or ""
    deadline = int(reply.headers["Lambda-Runtime-Deadline-Ms"])
    context.get_remaining_time_in_millis = lambda: deadline - time.time() * 1000
    path = "invocation/" + context.aws_request_id
    try:
        result = namespace["handler"](json.loads(event), context)
        call("POST", path + "/response", json.dumps(result, ensure_ascii=False).encode())
    except Exception as error:
        fail(path + "/error", error)
"""
)

Files = Mapping[str, str | bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One runtime with the suite's handler in its language, and what differs by AWS's own clients."""

    name: str
    runtime: str
    files: Callable[[], Files]
    error_type: str = ""
    error_keys: frozenset[str] = frozenset(("errorMessage", "errorType", "stackTrace"))
    init_error_type: str = ""
    unserialisable_type: str = ""
    segfault: str = "signal: segmentation fault"  # how a process ends that is sent this signal
    out_of_memory: frozenset[str] = frozenset(("Runtime.OutOfMemory",))
    handler: str = "app.handler"
    memory_mb: int = 256
    program: str = sys.executable  # what must be on this machine


def _python() -> Files:
    return {"app.py": APP, "data.txt": "data é"}


def _node() -> Files:
    return {"app.js": (HERE / "app.js").read_text(), "data.txt": "data é"}


def _provided() -> Files:
    return {**_python(), "bootstrap": BOOTSTRAP}


def _java() -> Files:
    return {**java_classes(HERE / "Handler.java"), "data.txt": "data é"}


def _go() -> Files:
    return {"bootstrap": go_program(HERE).read_bytes(), "data.txt": "data é"}


CASES = [
    Case(
        name="python",
        runtime=f"python{sys.version_info[0]}.{sys.version_info[1]}",
        files=_python,
        error_type="ValueError",
        error_keys=frozenset(("errorMessage", "errorType", "requestId", "stackTrace")),
        init_error_type="ArithmeticError",
        unserialisable_type="Runtime.MarshalError",
    ),
    Case(
        name="node",
        runtime="nodejs20.x",
        files=_node,
        error_type="TypeError",
        error_keys=frozenset(("errorMessage", "errorType", "trace")),
        init_error_type="RangeError",
        unserialisable_type="Runtime.JSONStringifyError",
        memory_mb=1024,  # V8 collects late, and 100 MB of output wait in the process until they are read
        program="node",
    ),
    Case(
        name="java",
        runtime="java17",
        files=_java,
        error_type="java.lang.IllegalArgumentException",
        init_error_type="java.lang.IllegalArgumentException",
        unserialisable_type="java.lang.RuntimeException",
        segfault="signal: aborted",  # the JVM's own handler ends it by abort()
        out_of_memory=frozenset(("Runtime.OutOfMemory", "java.lang.OutOfMemoryError")),
        handler="contract.Handler::handleRequest",
        memory_mb=512,
        program="javac",
    ),
    Case(
        name="go",
        runtime="provided.al2023",
        files=_go,
        error_type="errorString",
        error_keys=frozenset(("errorMessage", "errorType")),
        init_error_type="Runtime.ExitError",
        unserialisable_type="UnsupportedTypeError",
        segfault="exit status 2",  # Go's own handler of the signal panics
        handler="bootstrap",
        program="go",
    ),
    Case(
        name="bootstrap",
        runtime="provided.al2",
        files=_provided,
        error_type="ValueError",
        init_error_type="ArithmeticError",
        unserialisable_type="TypeError",
    ),
]


def require(program: str) -> None:
    """Skip the test where this program is missing; in CI that is a failure."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is missing")
        pytest.skip(f"{program} is missing")


def zipped(files: Files) -> bytes:
    """A zip of these files, `bootstrap` executable, as are those in `bin`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            is_program = name == "bootstrap" or name.startswith("bin/")
            entry.external_attr = (0o755 if is_program else 0o644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def java_libraries() -> list[Path]:
    """AWS's jars that a Java handler is compiled with: the events and the core."""
    names = (
        ("aws-lambda-java-events", EVENTS_VERSION),
        ("aws-lambda-java-runtime-interface-client", CLIENT_VERSION),
    )
    rows = "".join(
        f"<dependency><groupId>com.amazonaws</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version></dependency>"
        for name, version in names
    )
    pom = (
        "<project><modelVersion>4.0.0</modelVersion><groupId>tidemill</groupId><artifactId>contract</artifactId>"
        f"<version>1</version><dependencies>{rows}</dependencies></project>"
    )
    folder = had_or_skip(lambda: fetched(f"aws-lambda-java-{EVENTS_VERSION}-{CLIENT_VERSION}", pom))
    return sorted(folder.glob("*.jar"))


def java_classes(source: Path) -> Files:
    """The classes of a Java file by their names in a zip."""
    require("javac")
    libraries = os.pathsep.join(map(str, java_libraries()))

    def build(folder: Path) -> None:
        command = ["javac", "--release", "17", "-cp", libraries, "-d", str(folder), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    folder = _built("java", [source], build)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.class")}


def go_program(source: Path) -> Path:
    """The `bootstrap` of a folder with main.go, go.mod and go.sum; linked statically."""
    require("go")

    def build(folder: Path) -> None:
        command = ["go", "build", "-ldflags=-s -w", "-o", str(folder / "bootstrap"), "."]
        environ = {**os.environ, "CGO_ENABLED": "0"}
        done = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return _built("go", [source / name for name in ("main.go", "go.mod", "go.sum")], build) / "bootstrap"


@functools.cache
def _digest(*sources: Path) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _built(language: str, sources: list[Path], build: Callable[[Path], None]) -> Path:
    """The folder that was built of these sources, once for all test processes."""
    folder = CACHE / "contract" / f"{language}-{_digest(*sources)}"
    with locked(folder):
        if not (folder / ".complete").exists():
            build(folder)
            (folder / ".complete").touch()
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
