"""The contract suite's handlers under AWS's own emulator (RIE), started by our commands: it answers as we do.

RIE answers 502 for a runtime that ends and has no X-Amz-Function-Error; Lambda answers 200 and Unhandled.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.contract.cases import CASES, Case, require, zipped
from tests.harness.functions_server import ROLE, FunctionsServer, running
from tests.oracles import rie
from tidemill_functions.code.archive import unpack
from tidemill_functions.code.registry import Function, LocalCode
from tidemill_functions.runtimes.table import Runtimes
from tidemill_functions.settings import Settings

# Where the code lies: RIE runs it in its folder, ours unpacked.
_TASK_ROOT = re.compile(r"/[^\"]*/code/[^/\"]+/[0-9a-f]{32}/|/[^\"]*/task-root/")
_REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
pytestmark = pytest.mark.timeout(600)  # the first run fetches and compiles what it needs

CALLS: dict[str, Any] = {
    "an object": {"a": [1, -2.5, "é\u2028", True, {}]},
    "a string": "é",
    "null": {"do": "env", "name": "NONE"},
    "an exception": {"do": "raise"},
    "no JSON": {"do": "unserialisable"},
    "exit 3": {"do": "exit", "status": 3},
    "exit 0": {"do": "exit", "status": 0},
    "SIGKILL": {"do": "signal", "number": 9},
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    try:
        rie.binary()
    except rie.Unavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
    with running(tmp_path_factory.mktemp("data")) as server:
        yield server


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    require(found.program)
    return found


def both(
    ours: FunctionsServer, case: Case, folder: Path, environment: dict[str, str], stack: ExitStack
) -> tuple[int, str]:
    """RIE's port and our function, with the same code, command and variables."""
    task_root, name = folder / "task-root", folder.name
    code = zipped(case.files())
    unpack(code, task_root)
    own = {"LAMBDA_TASK_ROOT": str(task_root), "TMPDIR": str(folder), "_HANDLER": case.handler}
    settings = Settings(data_dir=folder / "runtimes")
    function = Function(
        name=name,
        arn="",
        handler=case.handler,
        runtime=case.runtime,
        timeout_s=40,
        memory_mb=case.memory_mb,
        code=LocalCode(folder=str(task_root)),
    )
    launch = Runtimes(settings).launch(function, task_root, None)
    variables = {**own, **launch.variables, **environment}
    port = stack.enter_context(rie.running(task_root, case.handler, variables, launch.command))
    ours.client.create_function(
        FunctionName=name,
        Runtime=case.runtime,
        Handler=case.handler,
        Role=ROLE,
        Timeout=40,
        MemorySize=case.memory_mb,
        Code={"ZipFile": code},
        Environment={"Variables": environment},
    )
    stack.callback(ours.client.delete_function, FunctionName=name)
    return port, name


def without_ids(body: bytes) -> Any:
    found = json.loads(_TASK_ROOT.sub("/var/task/", _REQUEST_ID.sub("ID", body.decode())))
    if isinstance(found, dict):
        found.pop(
            "stackTrace", None
        )  # the frames of the client: RIE's has awslambdaric, ours launch.py below
    return found


def answers(ours: FunctionsServer, port: int, name: str, payload: bytes) -> tuple[int, Any, Any, bool]:
    """RIE's status, RIE's body, our body, and whether we call it an error."""
    status, theirs = rie.invoke(port, payload)
    reply = ours.client.invoke(FunctionName=name, Payload=payload)
    failed = reply.get("FunctionError") == "Unhandled"
    return status, without_ids(theirs), without_ids(reply["Payload"].read()), failed


def test_results_and_errors_are_the_same(ours: FunctionsServer, case: Case, tmp_path: Path) -> None:
    """All in one process of RIE, which starts the runtime again after each end, as Lambda does."""
    with ExitStack() as stack:
        port, name = both(ours, case, tmp_path, {}, stack)
        for what, event in CALLS.items():
            status, theirs, own, failed = answers(ours, port, name, json.dumps(event).encode())
            assert own == theirs, what
            assert failed is (what not in ("an object", "a string", "null")), what
            assert status == (502 if "exit" in what or what == "SIGKILL" else 200), what


def test_an_error_at_init_is_the_same(ours: FunctionsServer, case: Case, tmp_path: Path) -> None:
    """Of a runtime that ends, as Go does at a panic, RIE answers an empty body and Lambda a document."""
    with ExitStack() as stack:
        port, name = both(ours, case, tmp_path, {"AT_INIT": "raise"}, stack)
        status, theirs = rie.invoke(port, b"{}")
        own, reply = ours.invoke(name)
        assert (status, reply["FunctionError"], own["errorType"]) == (502, "Unhandled", case.init_error_type)
        if own["errorType"] == "Runtime.ExitError":
            assert theirs == b""
        else:
            assert without_ids(json.dumps(own).encode()) == without_ids(theirs)


def test_a_result_above_the_limit_has_the_same_type(
    ours: FunctionsServer, case: Case, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        port, name = both(ours, case, tmp_path, {}, stack)
        event = json.dumps({"do": "size", "count": 6_291_556}).encode()
        _, theirs, own, failed = answers(ours, port, name, event)
        assert failed
        # RIE's sentence has its own sizes and a request id; Lambda's names the limit only.
        assert own["errorType"] == theirs["errorType"] == "Function.ResponseSizeTooLarge"
