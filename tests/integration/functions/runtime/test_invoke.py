"""What Invoke answers, for every way in which a handler can end."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import FunctionsServer, running
from tests.harness.processes import is_alive, wait_until
from tidemill_functions.api.invoke import EVENT_BYTES_MAX, REQUEST_BYTES_MAX
from tidemill_functions.runtime.runtime_api import RESPONSE_BYTES_MAX

Name = Callable[[], str]

ECHO = "def handler(event, context):\n    return event\n"
PID = "import os\ndef handler(event, context):\n    return os.getpid()\n"


def error_of(raised: pytest.ExceptionInfo[ClientError]) -> tuple[str, str, int]:
    response = raised.value.response
    about = response["Error"]
    return about["Code"], about["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_handler_gets_the_event_and_the_context_of_its_call(server: FunctionsServer, name: Name) -> None:
    source = (
        "def handler(event, context):\n"
        "    return [event, context.aws_request_id, context.function_name, context.invoked_function_arn,\n"
        "            context.memory_limit_in_mb, context.get_remaining_time_in_millis()]\n"
    )
    made = server.create(function := name(), source, MemorySize=256, Timeout=9)
    result, reply = server.invoke(function, {"a": [1, "é"]})
    event, request_id, own_name, arn, memory, left_ms = result
    assert event == {"a": [1, "é"]}
    assert request_id == reply["ResponseMetadata"]["RequestId"]
    assert (own_name, arn, memory) == (function, made["FunctionArn"], "256")
    assert 8000 < left_ms <= 9000
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in reply


def test_a_process_is_used_again(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), PID)
    assert len({server.invoke(function)[0] for _ in range(5)}) == 1


def test_an_exception_is_an_unhandled_error_with_awslambdarics_document(
    server: FunctionsServer, name: Name
) -> None:
    server.create(function := name(), "def handler(event, context):\n    raise ValueError('boom')\n")
    result, reply = server.invoke(function)
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    assert list(result) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (result["errorMessage"], result["errorType"]) == ("boom", "ValueError")
    assert result["requestId"] == reply["ResponseMetadata"]["RequestId"]


def test_a_timeout_kills_the_process_and_all_that_it_started(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    source = (
        "import os, pathlib, subprocess, time\n"
        "def handler(event, context):\n"
        "    if event == 'pid': return os.getpid()\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        f"    pathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "    time.sleep(600)\n"
    )
    server.create(function := name(), source, Timeout=1)
    result, reply = server.invoke(function)
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert reply["FunctionError"] == "Unhandled"
    assert result == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
    }
    pids = [int(pid) for pid in note.read_text().split()]
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert server.invoke(function, "pid")[0] not in pids


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("sys.exit(4)", "Runtime exited with error: exit status 4"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
        ("os.kill(os.getpid(), 11)", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_an_exit_is_told_and_the_next_call_has_a_new_process(
    server: FunctionsServer, name: Name, way: str, reason: str
) -> None:
    source = (
        f"import os, sys\ndef handler(event, context):\n    if event == 'end': {way}\n    return 'well'\n"
    )
    server.create(function := name(), source)
    result, reply = server.invoke(function, "end")
    assert reply["FunctionError"] == "Unhandled"
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert result == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: {reason}",
    }
    assert server.invoke(function)[0] == "well"


def test_kill_9_from_outside_fails_the_running_call_only(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    source = (
        "import os, pathlib, time\n"
        "def handler(event, context):\n"
        "    if event == 'quick': return os.getpid()\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    server.create(function := name(), source, Timeout=60)
    with ThreadPoolExecutor() as threads:
        running_call = threads.submit(server.invoke, function)
        wait_until(lambda: note.exists() and note.read_text())
        os.kill(int(note.read_text()), signal.SIGKILL)
        result, reply = running_call.result()
    assert reply["FunctionError"] == "Unhandled"
    assert result["errorType"] == "Runtime.ExitError"
    assert server.invoke(function, "quick")[0] != int(note.read_text())


def test_kill_9_of_an_idle_process_is_not_noticed_by_the_next_call(
    server: FunctionsServer, name: Name
) -> None:
    server.create(function := name(), PID)
    pid, _ = server.invoke(function)
    before = server.health()["environments"]
    os.kill(pid, signal.SIGKILL)
    # Who calls while it dies may be handed to it still, and is told of its end.
    wait_until(lambda: server.health()["environments"] < before)
    result, reply = server.invoke(function)
    assert "FunctionError" not in reply
    assert result != pid


@pytest.mark.parametrize(
    ("source", "handler", "error_type"),
    [
        ("import nothing_of_this_name", "app.handler", "Runtime.ImportModuleError"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError"),
        ("x = 1", "app.handler", "Runtime.HandlerNotFound"),
        ("x = 1", "app", "Runtime.MalformedHandlerName"),
        ("x = 1", "sys.handler", "Runtime.BuiltInModuleConflict"),
        ("raise ValueError('at import')", "app.handler", "ValueError"),
        ("import os; os._exit(7)", "app.handler", "Runtime.ExitError"),
    ],
)
def test_a_handler_that_can_not_be_loaded_says_so_each_time(
    server: FunctionsServer, name: Name, source: str, handler: str, error_type: str
) -> None:
    server.create(function := name(), source, handler)
    for _ in range(2):
        result, reply = server.invoke(function)
        assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
        assert result["errorType"] == error_type


def test_a_slow_import_is_not_counted_against_the_timeout(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), f"import time; time.sleep(1.2)\n{ECHO}", Timeout=1)
    assert server.invoke(function, "there")[0] == "there"


def test_a_result_that_is_no_json_is_a_marshal_error(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), "def handler(event, context):\n    return {1, 2}\n")
    result, _ = server.invoke(function)
    assert result["errorType"] == "Runtime.MarshalError"
    assert result["stackTrace"] == []


def test_results_pass_up_to_the_limit_and_not_above(server: FunctionsServer, name: Name) -> None:
    source = f"def handler(event, context):\n    return 'x' * ({RESPONSE_BYTES_MAX} - 2 + event)\n"
    server.create(function := name(), source, Timeout=30)
    result, _ = server.invoke(function, 0)
    assert len(result) == RESPONSE_BYTES_MAX - 2
    result, reply = server.invoke(function, 1)
    assert reply["FunctionError"] == "Unhandled"
    assert result == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert len(server.invoke(function, 0)[0]) == RESPONSE_BYTES_MAX - 2


@pytest.mark.parametrize(
    ("kind", "limit"), [("RequestResponse", REQUEST_BYTES_MAX), ("Event", EVENT_BYTES_MAX)]
)
def test_requests_pass_up_to_the_limit_and_not_above(
    server: FunctionsServer, name: Name, kind: str, limit: int
) -> None:
    server.create(function := name(), "def handler(event, context):\n    return len(event)\n", Timeout=30)
    payload = json.dumps("x" * (limit - 2)).encode()
    assert len(payload) == limit
    assert (
        server.client.invoke(FunctionName=function, Payload=payload, InvocationType=kind)["StatusCode"] < 300
    )
    with pytest.raises(ClientError) as raised:
        server.client.invoke(FunctionName=function, Payload=payload + b" ", InvocationType=kind)
    text = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
    assert error_of(raised) == ("RequestTooLargeException", text, 413)


def test_a_payload_that_is_no_json_is_rejected(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    with pytest.raises(ClientError) as raised:
        server.client.invoke(FunctionName=function, Payload=b"{not json")
    code, message, status = error_of(raised)
    assert (code, status) == ("InvalidRequestContentException", 400)
    assert message.startswith("Could not parse request body into json")


def test_no_payload_is_an_empty_event(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    assert server.client.invoke(FunctionName=function)["Payload"].read() == b"{}"


def test_a_dry_run_runs_nothing(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), "raise ValueError")
    assert server.invoke(function, InvocationType="DryRun")[1]["StatusCode"] == 204


def test_an_event_is_accepted_and_retried_twice(server: FunctionsServer, name: Name, tmp_path: Path) -> None:
    note = tmp_path / "attempts"
    source = (
        "def handler(event, context):\n"
        f"    with open({str(note)!r}, 'a') as file: print(context.aws_request_id, file=file)\n"
        "    raise ValueError(event)\n"
    )
    server.create(function := name(), source)
    _, reply = server.invoke(function, "e", InvocationType="Event")
    assert reply["StatusCode"] == 202
    wait_until(lambda: server.health()["events"] == 0)
    # Lambda keeps the request id from attempt to attempt.
    assert note.read_text().split() == [reply["ResponseMetadata"]["RequestId"]] * 3


def test_the_log_tail_is_the_end_of_this_calls_log(server: FunctionsServer, name: Name) -> None:
    source = (
        "import logging\nprint('at import')\n"
        "def handler(event, context):\n    print('x' * event)\n    logging.warning('hello')\n"
    )
    server.create(function := name(), source)
    _, reply = server.invoke(function, 10, LogType="Tail")
    lines = base64.b64decode(reply["LogResult"]).decode().splitlines()
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert lines[1:4] == ["at import", f"START RequestId: {request_id} Version: $LATEST", "x" * 10]
    assert lines[4].startswith("[WARNING]")
    assert lines[5] == f"END RequestId: {request_id}"
    assert lines[6].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert "Init Duration" in lines[6]
    _, reply = server.invoke(function, 5000, LogType="Tail")
    tail = base64.b64decode(reply["LogResult"])
    assert len(tail) == 4096
    assert b"REPORT RequestId: " in tail


def test_the_log_is_kept_for_the_function(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), "def handler(event, context):\n    print(event)\n")
    for number in range(3):
        server.invoke(function, f"line {number}")
    kept = server.log(function)
    assert [line for line in kept.splitlines() if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert kept.index("START") < kept.index("line 0") < kept.index("END") < kept.index("REPORT")


def test_a_log_can_be_followed(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), "def handler(event, context):\n    print(event)\n")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as follower:
        path = f"/_tidemill/functions/{function}/logs?lines=0&follow=1"
        follower.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        heard = follower.recv(65536)
        server.invoke(function, "something new")
        while b"something new" not in heard:
            more = follower.recv(65536)
            assert more
            heard += more


def test_the_trace_header_reaches_the_handler(server: FunctionsServer, name: Name) -> None:
    server.create(
        function := name(), "import os\ndef handler(e, c):\n    return os.environ['_X_AMZN_TRACE_ID']\n"
    )
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    path = f"/2015-03-31/functions/{function}/invocations"
    assert json.loads(server.post(path, b"{}", {"X-Amzn-Trace-Id": trace})) == trace
    assert json.loads(server.post(path, b"{}")).startswith("Root=1-")


def test_the_client_context_reaches_the_handler(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), "def handler(e, c):\n    return c.client_context.custom\n")
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    assert server.invoke(function, ClientContext=context)[0] == {"a": "b"}
    with pytest.raises(ClientError, match="Client context must be a valid Base64-encoded JSON object"):
        server.invoke(function, ClientContext="!")


def test_a_handlers_environment_is_lambdas_and_nothing_of_ours(server: FunctionsServer, name: Name) -> None:
    source = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
    server.create(function := name(), source, Environment={"Variables": {"TABLE": "t", "TZ": "Asia/Tokyo"}})
    found, _ = server.invoke(function)
    expected = {
        "_HANDLER": "app.handler",
        "AWS_LAMBDA_FUNCTION_NAME": function,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "TABLE": "t",
        "TZ": "Asia/Tokyo",
    }
    assert expected.items() <= found.items()
    others = {
        *expected,
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "TMPDIR",
        "LANG",
        "PATH",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "AWS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "_X_AMZN_TRACE_ID",
    }
    # LC_CTYPE is set by Python itself.
    assert found.keys() - others <= {"LC_CTYPE"}
    assert found["LAMBDA_TASK_ROOT"].startswith(str(server.data_dir))


def test_a_handler_starts_with_three_descriptors(server: FunctionsServer, name: Name) -> None:
    """A descriptor of the server's would let a handler write into its log, or end it."""
    source = (
        "import os\n"
        "def link(fd):\n"
        "    try: return os.readlink(f'/proc/self/fd/{fd}')\n"
        "    except OSError: return None\n"
        "found = {fd: link(fd) for fd in os.listdir('/proc/self/fd') if link(fd)}\n"
        "def handler(event, context):\n"
        "    return found\n"
    )
    server.create(function := name(), source)
    found, _ = server.invoke(function)
    assert found.keys() == {"0", "1", "2"}
    assert found["0"] == "/dev/null"
    assert found["1"] == found["2"]


def test_calls_at_once_run_at_once_each_in_a_process(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    source = (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "def handler(event, context):\n"
        "    (folder / str(os.getpid())).touch()\n"
        "    while len(list(folder.iterdir())) < 3: time.sleep(0.01)\n"
        "    return os.getpid()\n"
    )
    server.create(function := name(), source, Timeout=30)
    with ThreadPoolExecutor() as threads:
        pids = set(threads.map(lambda _: server.invoke(function)[0], range(3)))
    assert len(pids) == 3


def test_an_edit_of_code_in_place_is_picked_up(server: FunctionsServer, name: Name, tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(
        "import totals\ndef handler(event, context):\n    return totals.sum\n"
    )
    (tmp_path / "totals.py").write_text("sum = 1\n")
    server.register(function := name(), tmp_path / "orders.py")
    assert server.invoke(function)[0] == 1
    (tmp_path / "totals.py").write_text("sum = 2\n")
    wait_until(lambda: server.invoke(function)[0] == 2)


def test_invocations_above_the_limit_are_throttled_as_lambda_does(tmp_path: Path) -> None:
    go = tmp_path / "go"
    source = (
        "import pathlib, time\n"
        "def handler(event, context):\n"
        f"    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
    )
    with (
        running(tmp_path / "data", {"TIDEMILL_FUNCTIONS_MAX_ENVIRONMENTS": "2"}) as small,
        ThreadPoolExecutor() as threads,
    ):
        small.create("waits", source, Timeout=30)
        small.create("other", ECHO)
        assert small.invoke("other", "warm")[0] == "warm"
        calls = [threads.submit(small.invoke, "waits") for _ in range(2)]
        wait_until(lambda: small.health()["in_flight"] == 2)
        with pytest.raises(ClientError) as raised:
            small.invoke("other")
        assert error_of(raised) == ("TooManyRequestsException", "Rate Exceeded.", 429)
        assert raised.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"
        go.touch()
        # The warm process of the other function had to make room.
        assert [call.result()[1].get("FunctionError") for call in calls] == [None, None]
        assert small.invoke("other", "again")[0] == "again"


def test_a_web_page_can_not_call_functions(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    path = f"/2015-03-31/functions/{function}/invocations"
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
    ):
        with pytest.raises(urllib.error.HTTPError) as raised:
            server.post(path, b"{}", headers)
        assert raised.value.code == 403
    assert server.post(path, b"{}", {"Origin": "http://localhost:4580", "Host": "localhost"}) == b"{}"


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_a_trace_header_of_odd_bytes_ends_nothing(server: FunctionsServer, name: Name, kind: str) -> None:
    """It can not be passed on to the handler: an event's would end the server and all its events."""
    server.create(function := name(), ECHO)
    assert server.invoke(function, "warm")[0] == "warm"
    line = f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: h\r\n"
    odd = f"X-Amz-Invocation-Type: {kind}\r\nX-Amzn-Trace-Id: ".encode() + b"\xff\xfe\r\n"
    end = b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(line.encode() + odd + end)
        assert client.recv(65_536).split(b" ", 2)[1] in (b"200", b"202", b"400")
    wait_until(lambda: server.health()["events"] == 0)
    assert server.invoke(function, "still warm")[0] == "still warm"


def exchange(server: FunctionsServer, parts: list[bytes], replies: int) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
        heard = b""
        while heard.count(b"HTTP/1.1 ") < replies or not heard.endswith(b"}"):
            more = client.recv(65536)
            if not more:
                break
            heard += more
        return heard


def test_a_request_is_understood_in_whatever_pieces_it_comes(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    head = f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: localhost\r\n"
    whole = f'{head}Content-Length: 7\r\n\r\n{{"a":1}}'.encode()
    assert exchange(server, [bytes([byte]) for byte in whole], 1).endswith(b'{"a": 1}')
    # Two requests at once, and one in a form that only the general server reads.
    both = exchange(server, [whole + whole], 2)
    assert both.count(b'{"a": 1}') == 2
    chunked = f'{head}Transfer-Encoding: chunked\r\n\r\n7\r\n{{"a":1}}\r\n0\r\n\r\n'.encode()
    assert exchange(server, [whole + chunked], 2).count(b'{"a": 1}') == 2


def test_a_function_deleted_while_calls_wait_is_not_found(tmp_path: Path) -> None:
    with running(tmp_path / "data", {"TIDEMILL_FUNCTIONS_MAX_COLD_STARTS": "1"}) as slow:
        slow.create("slow", "import time; time.sleep(600)\n")
        found: list[str] = []

        def call() -> None:
            with pytest.raises(ClientError) as raised:
                slow.invoke("slow")
            found.append(error_of(raised)[0])

        calls = [threading.Thread(target=call) for _ in range(2)]
        for thread in calls:
            thread.start()
        wait_until(lambda: slow.health()["in_flight"] == 2)
        slow.client.delete_function(FunctionName="slow")
        for thread in calls:
            thread.join(timeout=30)
        assert found == ["ResourceNotFoundException"] * 2
        wait_until(lambda: slow.health()["environments"] == 0)
