"""One contract for every runtime: the same cases, against a handler in each runtime's language."""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import ROLE, FunctionsServer
from tests.harness.processes import is_alive, wait_until
from tidemill_functions.runtime.runtime_api import RESPONSE_BYTES_MAX

Name = Callable[[], str]

PYTHON = """
import os, subprocess, sys, time
def handler(event, context):
    do = event.get("do") if isinstance(event, dict) else None
    if do == "raise": raise ValueError("boom é")
    if do == "exit": os._exit(event["status"])
    if do == "signal": os.kill(os.getpid(), event["number"])
    if do == "sleep": time.sleep(600)
    if do == "size": return "x" * event["count"]
    if do == "print": print("printed é\\nin two lines"); return None
    if do == "flood":
        for _ in range(event["lines"]): print("x" * 1000)
        return None
    if do == "env": return os.environ.get(event["name"])
    if do == "pid": return os.getpid()
    if do == "child": return subprocess.Popen(["sleep", "600"]).pid
    if do == "context":
        return [context.aws_request_id, context.function_name, context.invoked_function_arn,
                int(context.memory_limit_in_mb), context.get_remaining_time_in_millis()]
    return event
"""
NODE = """
const { spawn } = require("node:child_process");
exports.handler = async (event, context) => {
  switch (event?.do) {
    case "raise": throw new TypeError("boom é");
    case "exit": process.exit(event.status); break;
    case "signal": process.kill(process.pid, event.number); return new Promise(() => {});
    case "sleep": await new Promise((resolve) => setTimeout(resolve, 600000)); break;
    case "size": return "x".repeat(event.count);
    case "print": console.log("printed é\\nin two lines"); return undefined;
    case "flood": for (let n = 0; n < event.lines; n += 1) console.log("x".repeat(1000)); return null;
    case "env": return process.env[event.name] ?? null;
    case "pid": return process.pid;
    case "child": return spawn("sleep", ["600"], { stdio: "ignore" }).pid;
    case "context":
      return [context.awsRequestId, context.functionName, context.invokedFunctionArn,
              Number(context.memoryLimitInMB), context.getRemainingTimeInMillis()];
    default: return event;
  }
};
"""
# Any program will do: this one is a script, so that the suite needs no compiler.
BOOTSTRAP = (
    f"#!{sys.executable} -IS"
    """
import http.client, json, os, sys
sys.stdout.reconfigure(line_buffering=True)
namespace = {}
module = os.environ["_HANDLER"].split(".")[0] + ".py"
exec(open(os.path.join(os.environ["LAMBDA_TASK_ROOT"], module)).read(), namespace)
class Context: pass
import time
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None):
    connection.request(method, "/2018-06-01/runtime/" + path, body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    return reply, reply.read()
while True:
    reply, event = call("GET", "invocation/next")
    context = Context()
    context.aws_request_id = reply.headers["Lambda-Runtime-Aws-Request-Id"]
    context.invoked_function_arn = reply.headers["Lambda-Runtime-Invoked-Function-Arn"]
    context.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    context.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    deadline = int(reply.headers["Lambda-Runtime-Deadline-Ms"])
    context.get_remaining_time_in_millis = lambda: deadline - time.time() * 1000
    path = "invocation/" + context.aws_request_id
    try:
        result = namespace["handler"](json.loads(event), context)
        call("POST", path + "/response", json.dumps(result, ensure_ascii=False).encode())
    except Exception as error:
        document = {"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": []}
        call("POST", path + "/error", json.dumps(document).encode())
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One runtime with the suite's handler in its language."""

    runtime: str
    files: dict[str, str]
    error_type: str
    program: str | None = None  # what must be on this machine


CASES = [
    Case(
        runtime=f"python{sys.version_info[0]}.{sys.version_info[1]}",
        files={"app.py": PYTHON},
        error_type="ValueError",
    ),
    Case(runtime="nodejs20.x", files={"app.js": NODE}, error_type="TypeError", program="node"),
    Case(
        runtime="provided.al2023", files={"app.py": PYTHON, "bootstrap": BOOTSTRAP}, error_type="ValueError"
    ),
]


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if name == "bootstrap" else 0o644) << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def create(server: FunctionsServer, name: str, case: Case, **members: Any) -> dict[str, Any]:
    if case.program is not None and shutil.which(case.program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{case.program} is missing")
        pytest.skip(f"{case.program} is missing")
    given = {"Timeout": 20, "Handler": "app.handler", "Code": {"ZipFile": zipped(case.files)}} | members
    found: dict[str, Any] = server.client.create_function(
        FunctionName=name, Runtime=case.runtime, Role=ROLE, **given
    )
    return found


@pytest.fixture(params=CASES, ids=lambda case: case.runtime)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def function(server: FunctionsServer, name: Name, case: Case) -> Iterator[str]:
    create(server, made := name(), case, Environment={"Variables": {"TABLE": "t é"}})
    yield made
    server.client.delete_function(FunctionName=made)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        1e300,
        "",
        "é\u2028\U0001f600",
        [],
        [1, [2]],
        {},
        {"a": {"b": None}},
        "x" * 1_000_000,
    ],
    ids=repr,
)
def test_every_kind_of_json_comes_back(server: FunctionsServer, function: str, value: Any) -> None:
    result, reply = server.invoke(function, value if value is not None else {"do": "env", "name": "NONE"})
    assert result == value
    assert "FunctionError" not in reply


def test_an_exception_has_a_type_and_a_message(server: FunctionsServer, function: str, case: Case) -> None:
    result, reply = server.invoke(function, {"do": "raise"})
    assert (result["errorType"], result["errorMessage"]) == (case.error_type, "boom é")
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    assert server.invoke(function, "goes on")[0] == "goes on"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"do": "exit", "status": 3}, "exit status 3"),
        ({"do": "exit", "status": 0}, "exited without providing a reason"),
        ({"do": "signal", "number": 9}, "signal: killed"),
        ({"do": "signal", "number": 11}, "signal: segmentation fault"),
    ],
)
def test_an_end_is_told_and_the_next_call_runs(
    server: FunctionsServer, function: str, event: dict[str, Any], reason: str
) -> None:
    result, reply = server.invoke(function, event)
    assert (result["errorType"], reply["FunctionError"]) == ("Runtime.ExitError", "Unhandled")
    assert reason in result["errorMessage"]
    assert server.invoke(function, 1)[0] == 1


def test_a_timeout_ends_the_process(server: FunctionsServer, function: str) -> None:
    pid = server.invoke(function, {"do": "pid"})[0]
    server.client.update_function_configuration(FunctionName=function, Timeout=1)
    result, _ = server.invoke(function, {"do": "sleep"})
    assert result["errorType"] == "Sandbox.Timedout"
    wait_until(lambda: not is_alive(pid))


def test_what_a_handler_started_ends_with_its_process(server: FunctionsServer, function: str) -> None:
    child = server.invoke(function, {"do": "child"})[0]
    assert is_alive(child)
    server.invoke(function, {"do": "exit", "status": 1})
    wait_until(lambda: not is_alive(child))


def test_results_pass_up_to_the_limit(server: FunctionsServer, function: str) -> None:
    assert len(server.invoke(function, {"do": "size", "count": RESPONSE_BYTES_MAX - 2})[0]) > 6_000_000
    result, _ = server.invoke(function, {"do": "size", "count": RESPONSE_BYTES_MAX - 1})
    assert result["errorType"] == "Function.ResponseSizeTooLarge"
    assert server.invoke(function, 1)[0] == 1


def test_what_is_printed_stands_in_the_tail(server: FunctionsServer, function: str) -> None:
    _, reply = server.invoke(function, {"do": "print"}, LogType="Tail")
    tail = base64.b64decode(reply["LogResult"]).decode()
    assert "printed é\nin two lines" in tail
    assert tail.index("START") < tail.index("printed") < tail.index("REPORT")


def test_a_flood_of_output_neither_blocks_nor_fails(server: FunctionsServer, function: str) -> None:
    assert server.invoke(function, {"do": "flood", "lines": 20_000})[0] is None


def test_the_context_is_of_the_call(server: FunctionsServer, function: str) -> None:
    (request_id, own_name, arn, memory, left_ms), reply = server.invoke(function, {"do": "context"})
    assert request_id == reply["ResponseMetadata"]["RequestId"]
    assert (own_name, memory) == (function, 128)
    assert arn.endswith(f":function:{function}")
    assert 15_000 < left_ms <= 20_000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TABLE", "t é"),
        ("AWS_REGION", "us-east-1"),
        ("_HANDLER", "app.handler"),
        ("SECRET_OF_THE_SERVER", None),
    ],
)
def test_the_environment_is_lambdas_and_the_functions(
    server: FunctionsServer, function: str, variable: str, value: str | None
) -> None:
    assert server.invoke(function, {"do": "env", "name": variable})[0] == value


def test_a_trace_header_reaches_the_handler(server: FunctionsServer, function: str, case: Case) -> None:
    if case.runtime.startswith("provided"):
        pytest.skip("the runtime of an own bootstrap sets it, or does not")
    assert server.invoke(function, {"do": "env", "name": "_X_AMZN_TRACE_ID"})[0].startswith("Root=1-")


def test_calls_at_once_run_in_processes_of_their_own(server: FunctionsServer, function: str) -> None:
    with ThreadPoolExecutor() as threads:
        results = list(threads.map(lambda number: server.invoke(function, number)[0], range(8)))
    assert results == list(range(8))


def test_a_process_is_kept_for_the_next_call(server: FunctionsServer, function: str) -> None:
    assert len({server.invoke(function, {"do": "pid"})[0] for _ in range(3)}) == 1


@pytest.mark.parametrize(
    ("files", "handler", "result"),
    [
        ({"app.mjs": "export const handler = async (event) => event + 1;"}, "app.handler", 2),
        (
            {"app.js": "export const handler = async () => 3;", "package.json": '{"type": "module"}'},
            "app.handler",
            3,
        ),
        ({"app.cjs": "exports.handler = (event, context, callback) => callback(null, 4);"}, "app.handler", 4),
        ({"app.js": "exports.handler = (event, context) => context.succeed(5);"}, "app.handler", 5),
        ({"src/a/app.js": "exports.deep = { handler: async () => 6 };"}, "src/a/app.deep.handler", 6),
        ({"app.js": "exports.handler = () => 'not a promise';"}, "app.handler", None),
        (
            {
                "app.js": "exports.handler = (e, c, done) => { setTimeout(() => done(null, 7), 20); };",
            },
            "app.handler",
            7,
        ),
        (
            {
                "app.js": "exports.handler = (e, c, done) => {"
                " c.callbackWaitsForEmptyEventLoop = false; setTimeout(() => {}, 60000); done(null, 8); };",
            },
            "app.handler",
            8,
        ),
        ({"node_modules/one/index.js": "exports.handler = async () => 9;"}, "one.handler", 9),
    ],
)
def test_every_form_of_a_node_handler_runs(
    server: FunctionsServer, name: Name, files: dict[str, str], handler: str, result: Any
) -> None:
    case = Case(runtime="nodejs20.x", files=files, error_type="", program="node")
    create(server, function := name(), case, Handler=handler)
    assert server.invoke(function, 1)[0] == result
    assert server.invoke(function, 1)[0] == result


@pytest.mark.parametrize(
    ("source", "handler", "error_type"),
    [
        ("exports.handler = async () => 1;", "none.handler", "Runtime.ImportModuleError"),
        ("require('nothing-of-this-name');", "app.handler", "Runtime.ImportModuleError"),
        ("exports.handler = (;", "app.handler", "Runtime.UserCodeSyntaxError"),
        ("exports.other = 1;", "app.handler", "Runtime.HandlerNotFound"),
        ("exports.handler = 1;", "app.handler", "Runtime.HandlerNotFound"),
        ("throw new RangeError('at import');", "app.handler", "RangeError"),
        (
            "exports.handler = awslambda.streamifyResponse(async () => 1);",
            "app.handler",
            "Runtime.StreamingNotBuilt",
        ),
        ("exports.handler = async () => 1;", "app", "Runtime.MalformedHandlerName"),
    ],
)
def test_a_node_handler_that_cannot_be_loaded_says_so(
    server: FunctionsServer, name: Name, source: str, handler: str, error_type: str
) -> None:
    case = Case(runtime="nodejs20.x", files={"app.js": source}, error_type="", program="node")
    create(server, function := name(), case, Handler=handler)
    for _ in range(2):
        result, reply = server.invoke(function)
        assert (result["errorType"], reply["FunctionError"]) == (error_type, "Unhandled")


NEVER = "await new Promise((end) => setTimeout(end, 60000));"


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        (
            f"async () => {{ setTimeout(() => {{ throw new RangeError('late'); }}, 5); {NEVER} }}",
            "RangeError",
        ),
        (
            f"async () => {{ Promise.reject(new Error('late')); {NEVER} }}",
            "Runtime.UnhandledPromiseRejection",
        ),
        ("async () => ({ n: 1n })", "Runtime.MarshalError"),
        ("(e, c, done) => done(new RangeError('called back'))", "RangeError"),
        ("async () => { throw 'a string'; }", "string"),
    ],
)
def test_a_node_error_has_its_type(server: FunctionsServer, name: Name, source: str, error_type: str) -> None:
    case = Case(
        runtime="nodejs20.x", files={"app.js": f"exports.handler = {source};"}, error_type="", program="node"
    )
    create(server, function := name(), case)
    result, reply = server.invoke(function)
    assert (result["errorType"], reply["FunctionError"]) == (error_type, "Unhandled")


def test_a_bootstrap_that_is_missing_is_named(server: FunctionsServer, name: Name) -> None:
    case = Case(runtime="provided.al2", files={"app": "x"}, error_type="")
    create(server, function := name(), case)
    result, _ = server.invoke(function)
    assert result["errorType"] == "Runtime.InvalidEntrypoint"
    assert "Couldn't find valid bootstrap(s)" in result["errorMessage"]


@pytest.mark.parametrize("runtime", ["ruby3.3", "dotnet8", "java21", "go1.x", "nodejs16.x"])
def test_a_runtime_that_is_not_built_names_what_to_do(
    server: FunctionsServer, name: Name, runtime: str
) -> None:
    case = Case(runtime=runtime, files={"app": "x"}, error_type="")
    with pytest.raises(ClientError) as raised:
        create(server, name(), case)
    message = raised.value.response["Error"]["Message"]
    assert message.startswith(f"The runtime {runtime} cannot be run here: ")
