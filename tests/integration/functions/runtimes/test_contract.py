"""One contract for every runtime: the same cases, against a handler in each runtime's language.

docs/functions.md says of each case what it was held against: AWS's emulator, or AWS's documents.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.contract.cases import Case, zipped
from tests.harness.functions_server import FunctionsServer
from tests.harness.processes import is_alive, wait_until
from tidemill_functions.runtime.runtime_api import RESPONSE_BYTES_MAX

pytestmark = pytest.mark.timeout(600)  # the first run fetches and compiles what it needs

Make = Callable[..., str]
Name = Callable[[], str]

REQUEST_BYTES_MAX = 6 * 1024 * 1024
TAIL_BYTES_MAX = 4096


def tail_of(reply: dict[str, Any]) -> str:
    return base64.b64decode(reply["LogResult"]).decode(errors="replace")


# Results


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1.5,
        1e300,
        2**53 - 1,
        "",
        "é\u2028\U0001f600",
        'quote " backslash \\ line\n',
        [],
        [1, [2, [3, [None]]]],
        {},
        {"a": {"b": False}, "é": [None]},  # AWS's client for Java leaves members out that are null
        "x" * 1_000_000,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_every_kind_of_json_comes_back(server: FunctionsServer, function: str, value: Any) -> None:
    result, reply = server.invoke(function, value if value is not None else {"do": "env", "name": "NONE"})
    assert result == value
    assert reply["StatusCode"] == 200
    assert "FunctionError" not in reply


def test_a_call_without_a_payload_gives_an_empty_object(server: FunctionsServer, function: str) -> None:
    assert server.client.invoke(FunctionName=function)["Payload"].read() == b"{}"


def test_a_payload_that_is_no_json_never_reaches_the_handler(server: FunctionsServer, function: str) -> None:
    with pytest.raises(ClientError) as raised:
        server.client.invoke(FunctionName=function, Payload=b"{no json")
    assert raised.value.response["Error"]["Code"] == "InvalidRequestContentException"


def test_a_request_passes_up_to_the_limit(server: FunctionsServer, function: str) -> None:
    head, end = b'{"do": "length", "text": "', b'"}'
    room = REQUEST_BYTES_MAX - len(head) - len(end)
    reply = server.client.invoke(FunctionName=function, Payload=head + b"x" * room + end)
    assert int(reply["Payload"].read()) == room
    with pytest.raises(ClientError) as raised:
        server.client.invoke(FunctionName=function, Payload=head + b"x" * (room + 1) + end)
    assert raised.value.response["Error"]["Code"] == "RequestTooLargeException"


def test_a_result_passes_up_to_the_limit(server: FunctionsServer, function: str) -> None:
    result = server.invoke(function, {"do": "size", "count": RESPONSE_BYTES_MAX - 2})[0]
    assert len(result) == RESPONSE_BYTES_MAX - 2


def test_a_result_above_the_limit_is_an_error_and_the_next_call_runs(
    server: FunctionsServer, function: str
) -> None:
    result, reply = server.invoke(function, {"do": "size", "count": RESPONSE_BYTES_MAX - 1})
    assert (result["errorType"], reply["FunctionError"]) == ("Function.ResponseSizeTooLarge", "Unhandled")
    assert server.invoke(function, 1)[0] == 1


# Errors


def test_an_exception_has_its_type_and_message(server: FunctionsServer, function: str, case: Case) -> None:
    result, reply = server.invoke(function, {"do": "raise"})
    assert (result["errorType"], result["errorMessage"]) == (case.error_type, "boom é")
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")


def test_an_exception_has_the_members_of_awss_document(
    server: FunctionsServer, function: str, case: Case
) -> None:
    assert set(server.invoke(function, {"do": "raise"})[0]) == case.error_keys


def test_after_an_exception_the_process_goes_on(server: FunctionsServer, function: str) -> None:
    pid = server.invoke(function, {"do": "pid"})[0]
    server.invoke(function, {"do": "raise"})
    assert server.invoke(function, {"do": "pid"})[0] == pid


def test_a_result_that_is_no_json_is_an_error(server: FunctionsServer, function: str, case: Case) -> None:
    result, reply = server.invoke(function, {"do": "unserialisable"})
    assert (result["errorType"], reply["FunctionError"]) == (case.unserialisable_type, "Unhandled")
    assert server.invoke(function, 1)[0] == 1


def test_an_error_at_init_is_answered_to_every_call(server: FunctionsServer, make: Make, case: Case) -> None:
    function = make(Environment={"Variables": {"AT_INIT": "raise"}})
    for _ in range(2):
        result, reply = server.invoke(function)
        assert (result["errorType"], reply["FunctionError"]) == (case.init_error_type, "Unhandled")
        assert "at init é" in result["errorMessage"] or case.init_error_type == "Runtime.ExitError"


def test_an_exit_at_init_is_answered(server: FunctionsServer, make: Make) -> None:
    result, reply = server.invoke(make(Environment={"Variables": {"AT_INIT": "exit"}}))
    assert (result["errorType"], reply["FunctionError"]) == ("Runtime.ExitError", "Unhandled")
    assert "exit status 7" in result["errorMessage"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"do": "exit", "status": 3}, "exit status 3"),
        ({"do": "exit", "status": 0}, "exited without providing a reason"),
        ({"do": "signal", "number": 9}, "signal: killed"),
        ({"do": "signal", "number": 11}, ""),
    ],
    ids=["exit 3", "exit 0", "SIGKILL", "SIGSEGV"],
)
def test_an_end_is_named_and_the_next_call_runs(
    server: FunctionsServer, function: str, case: Case, event: dict[str, Any], reason: str
) -> None:
    result, reply = server.invoke(function, event)
    assert (result["errorType"], reply["FunctionError"]) == ("Runtime.ExitError", "Unhandled")
    assert (reason or case.segfault) in result["errorMessage"]
    assert server.invoke(function, 1)[0] == 1


def test_a_timeout_ends_the_process_and_the_next_call_runs(server: FunctionsServer, make: Make) -> None:
    function = make()
    pid = server.invoke(function, {"do": "pid"})[0]
    server.client.update_function_configuration(FunctionName=function, Timeout=1)
    result, reply = server.invoke(function, {"do": "sleep"})
    assert (result["errorType"], reply["FunctionError"]) == ("Sandbox.Timedout", "Unhandled")
    assert result["errorMessage"].endswith("Task timed out after 1.00 seconds")
    wait_until(lambda: not is_alive(pid))
    server.client.update_function_configuration(FunctionName=function, Timeout=40)
    assert server.invoke(function, 1)[0] == 1


def test_a_process_that_holds_too_much_memory_is_ended(
    server: FunctionsServer, function: str, case: Case
) -> None:
    result, reply = server.invoke(function, {"do": "hold"})
    assert reply["FunctionError"] == "Unhandled"
    assert result["errorType"] in case.out_of_memory
    assert server.invoke(function, 1)[0] == 1


# What a handler leaves behind


def test_what_a_handler_started_ends_with_its_process(server: FunctionsServer, function: str) -> None:
    child = server.invoke(function, {"do": "child"})[0]
    assert is_alive(child)
    server.invoke(function, {"do": "exit", "status": 1})
    wait_until(lambda: not is_alive(child))


def test_a_child_that_goes_on_does_not_hold_the_reply(server: FunctionsServer, make: Make) -> None:
    function = make()
    child = server.invoke(function, {"do": "child"}, LogType="Tail")[0]
    assert is_alive(child)
    assert server.invoke(function, 1)[0] == 1


def test_a_thread_that_goes_on_does_not_hold_the_reply(server: FunctionsServer, make: Make) -> None:
    function = make()
    assert server.invoke(function, {"do": "thread"})[0] is None
    assert server.invoke(function, 1)[0] == 1
    assert server.invoke(function, {"do": "exit", "status": 3})[0]["errorType"] == "Runtime.ExitError"


# What is printed


@pytest.mark.parametrize("text", ["printed", "é\U0001f600", "two\nlines"], ids=["ascii", "unicode", "lines"])
def test_what_is_printed_stands_in_the_tail(
    server: FunctionsServer, function: str, case: Case, text: str
) -> None:
    _, reply = server.invoke(function, {"do": "print", "text": text}, LogType="Tail")
    tail = tail_of(reply)
    assert text in (tail.replace("\r", "\n") if case.name == "node" else tail)
    assert "on error" in tail
    assert tail.index("START RequestId") < tail.index("on error") < tail.index("REPORT RequestId")


def test_a_last_line_without_an_end_stands_in_the_tail(server: FunctionsServer, function: str) -> None:
    _, reply = server.invoke(function, {"do": "print-unended"}, LogType="Tail")
    assert "no end of line" in tail_of(reply)


def test_the_tail_reports_duration_and_memory(server: FunctionsServer, make: Make, case: Case) -> None:
    function = make()  # whose process has held no payload of 6 MB
    _, reply = server.invoke(function, 1, LogType="Tail")
    request_id = reply["ResponseMetadata"]["RequestId"]
    report = re.search(
        rf"REPORT RequestId: {request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\t"
        rf"Memory Size: {case.memory_mb} MB\tMax Memory Used: (\d+) MB",
        tail_of(reply),
    )
    assert report is not None
    assert 0 < int(report[1]) <= case.memory_mb


def test_the_tail_is_the_last_4_kb(server: FunctionsServer, function: str) -> None:
    _, reply = server.invoke(function, {"do": "flood", "lines": 50}, LogType="Tail")
    log = base64.b64decode(reply["LogResult"])
    assert len(log) == TAIL_BYTES_MAX
    assert b"REPORT RequestId" in log


def test_100_mb_of_output_neither_block_nor_fail(server: FunctionsServer, function: str) -> None:
    assert server.invoke(function, {"do": "flood", "lines": 100_000})[0] is None
    assert server.invoke(function, 1)[0] == 1


def test_what_was_printed_in_bulk_is_all_there_before_the_reply(
    server: FunctionsServer, function: str
) -> None:
    server.invoke(function, {"do": "flood", "lines": 20_000})
    _, reply = server.invoke(function, {"do": "print", "text": "after it"}, LogType="Tail")
    assert "after it" in tail_of(reply)


# What a handler is told


def test_the_context_is_of_the_call(server: FunctionsServer, function: str, case: Case) -> None:
    (request_id, name, arn, memory_mb, version, group), reply = server.invoke(function, {"do": "context"})
    assert request_id == reply["ResponseMetadata"]["RequestId"]
    assert (name, memory_mb, version) == (function, case.memory_mb, "$LATEST")
    assert arn == f"arn:aws:lambda:us-east-1:123456789012:function:{function}"
    assert group == f"/aws/lambda/{function}"


def test_each_call_has_a_request_id_of_its_own(server: FunctionsServer, function: str) -> None:
    assert len({server.invoke(function, {"do": "context"})[0][0] for _ in range(3)}) == 3


def test_the_deadline_is_the_timeout_from_now(server: FunctionsServer, function: str) -> None:
    assert 0 < server.invoke(function, {"do": "left"})[0] <= 40_000


def test_the_client_context_reaches_the_handler(server: FunctionsServer, function: str) -> None:
    given = base64.b64encode(b'{"custom": {"key": "value"}}').decode()
    assert server.invoke(function, {"do": "client"}, ClientContext=given)[0] == {"key": "value"}
    assert server.invoke(function, {"do": "client"})[0] is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TABLE", "t é"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("TZ", ":UTC"),
        ("SECRET_OF_THE_SERVER", None),
        ("HOME", None),
    ],
)
def test_the_environment_is_lambdas_and_the_functions(
    server: FunctionsServer, function: str, variable: str, value: str | None
) -> None:
    assert server.invoke(function, {"do": "env", "name": variable})[0] == value


def test_the_environment_names_handler_memory_and_runtime(
    server: FunctionsServer, function: str, case: Case
) -> None:
    expected = {
        "_HANDLER": case.handler,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{case.runtime}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(case.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function,
    }
    for variable, value in expected.items():
        assert server.invoke(function, {"do": "env", "name": variable})[0] == value


def test_a_trace_header_reaches_the_handler(server: FunctionsServer, function: str) -> None:
    assert server.invoke(function, {"do": "trace"})[0].startswith("Root=1-")


# Files


def test_the_working_folder_is_the_task_root(server: FunctionsServer, function: str) -> None:
    assert server.invoke(function, {"do": "data"})[0] == "data é"


def test_temporary_files_stay_for_the_next_call_and_go_with_the_process(
    server: FunctionsServer, function: str
) -> None:
    server.invoke(function, {"do": "write", "text": "kept"})
    assert server.invoke(function, {"do": "read"})[0] == "kept"
    server.invoke(function, {"do": "exit", "status": 1})
    assert server.invoke(function, {"do": "read"})[0] is None


def test_a_layers_programs_are_on_the_path(server: FunctionsServer, make: Make, name: Name) -> None:
    program = zipped({"bin/of-the-layer": "#!/bin/sh\nprintf layered"})
    layer = server.client.publish_layer_version(LayerName=name(), Content={"ZipFile": program})
    function = make(Layers=[layer["LayerVersionArn"]])
    assert server.invoke(function, {"do": "program"})[0] == "layered"


def test_a_layers_libraries_come_after_the_task_roots(
    server: FunctionsServer, make: Make, name: Name
) -> None:
    layer = server.client.publish_layer_version(
        LayerName=name(), Content={"ZipFile": zipped({"lib/any.so": "x"})}
    )
    function = make(Layers=[layer["LayerVersionArn"]])
    folders = server.invoke(function, {"do": "env", "name": "LD_LIBRARY_PATH"})[0].split(":")
    root = server.invoke(function, {"do": "env", "name": "LAMBDA_TASK_ROOT"})[0]
    assert folders[:2] == [root, f"{root}/lib"]
    assert folders[-1].endswith("/lib")
    assert folders[-1] not in folders[:2]


def test_a_zips_own_libraries_are_found_without_a_layer(server: FunctionsServer, function: str) -> None:
    root = server.invoke(function, {"do": "env", "name": "LAMBDA_TASK_ROOT"})[0]
    folders = server.invoke(function, {"do": "env", "name": "LD_LIBRARY_PATH"})[0]
    assert folders == f"{root}:{root}/lib"


# Processes


def test_calls_at_once_run_in_processes_of_their_own(server: FunctionsServer, function: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda number: server.invoke(function, number)[0], range(12)))
    assert results == list(range(12))


def test_a_process_is_kept_for_the_next_call(server: FunctionsServer, function: str) -> None:
    assert len({server.invoke(function, {"do": "pid"})[0] for _ in range(3)}) == 1
