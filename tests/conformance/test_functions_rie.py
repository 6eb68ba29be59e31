"""The same handler under AWS's own emulator (RIE) and under ours: what RIE answers, we answer too.

Where they are known to differ the test says how, and who is right: RIE answers 502 for a runtime that ends,
and has no X-Amz-Function-Error; Lambda itself answers 200 and says Unhandled.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness.functions_server import FunctionsServer, running, zip_of
from tests.oracles import rie

APP = """
import os, sys
def echo(event, context): return event
def boom(event, context): raise ValueError("boom")
def unserialisable(event, context): return {1, 2}
def leave(event, context): sys.exit(event)
def vanish(event, context): os._exit(event)
def too_large(event, context): return "x" * 7_000_000
def deadline(event, context): return context.get_remaining_time_in_millis() > 0
def unicode(event, context): return "é\\u2028" + event
"""
# Where the code lies: RIE runs it in its folder, ours unpacked.
_TASK_ROOT = re.compile(r"/[^\"]*/code/under-test/[0-9a-f]{32}/|/[^\"]*/handlers0/")
_REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Pair = Callable[[str], tuple[int, FunctionsServer]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("handlers")
    (made / "app.py").write_text(APP)
    (made / "broken.py").write_text("def handler(:\n")
    (made / "raises.py").write_text("raise KeyError('at import')\n")
    return made


@pytest.fixture(scope="module")
def pair(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Gives, for a handler, RIE's port and our server with a function `under-test`."""
    try:
        rie.binary()
    except rie.Unavailable as reason:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(reason))
    with running(tmp_path_factory.mktemp("data")) as ours, ExitStack() as emulators:

        def start(handler: str) -> tuple[int, FunctionsServer]:
            emulators.close()
            port = emulators.enter_context(rie.running(folder, handler))
            with suppress(ours.client.exceptions.ResourceNotFoundException):
                ours.client.delete_function(FunctionName="under-test")
            # From a zip: what runs in place must have its handler, and some of these have none.
            zipped = zip_of({file.name: file.read_text() for file in folder.glob("*.py")})
            ours.create("under-test", "", handler, Code={"ZipFile": zipped}, Timeout=20)
            return port, ours

        yield start


def answers(pair: Pair, handler: str, payload: bytes) -> tuple[int, Any, Any, bool]:
    """RIE's status, RIE's body, our body, both without request ids, and whether we call it an error."""
    port, ours = pair(handler)
    status, theirs = rie.invoke(port, payload)
    reply = ours.client.invoke(FunctionName="under-test", Payload=payload)
    body = reply["Payload"].read()
    assert reply["StatusCode"] == 200
    return status, without_ids(theirs), without_ids(body), reply.get("FunctionError") == "Unhandled"


def without_ids(body: bytes) -> Any:
    return json.loads(_TASK_ROOT.sub("/var/task/", _REQUEST_ID.sub("ID", body.decode())))


@pytest.mark.parametrize(
    ("handler", "payload"),
    [
        ("app.echo", b'{"a": [1, 2.5, null, "\xc3\xa9"]}'),
        ("app.echo", json.dumps("x" * 1_000_000).encode()),
        ("app.unicode", b'"abc"'),
        ("app.deadline", b"{}"),
    ],
)
def test_results_are_the_same(pair: Pair, handler: str, payload: bytes) -> None:
    status, theirs, ours, failed = answers(pair, handler, payload)
    assert (status, failed) == (200, False)
    assert ours == theirs


@pytest.mark.parametrize("handler", ["app.boom", "app.unserialisable"])
def test_errors_of_the_handler_are_the_same_documents(pair: Pair, handler: str) -> None:
    status, theirs, ours, failed = answers(pair, handler, b"{}")
    assert (status, failed) == (200, True)
    assert ours == theirs


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [
        ("nothing.handler", "Runtime.ImportModuleError"),
        ("broken.handler", "Runtime.UserCodeSyntaxError"),
        ("app.missing", "Runtime.HandlerNotFound"),
        ("raises.handler", "KeyError"),
    ],
)
def test_errors_at_import_are_the_same_documents(pair: Pair, handler: str, error_type: str) -> None:
    status, theirs, ours, failed = answers(pair, handler, b"{}")
    assert (status, failed) == (502, True)
    assert ours["errorType"] == error_type
    assert ours == theirs


@pytest.mark.parametrize(
    ("handler", "payload"), [("app.leave", b"4"), ("app.vanish", b"3"), ("app.leave", b"0")]
)
def test_a_runtime_that_ends_is_told_in_the_same_words(pair: Pair, handler: str, payload: bytes) -> None:
    status, theirs, ours, failed = answers(pair, handler, payload)
    assert (status, failed) == (502, True)
    assert ours == theirs


def test_a_result_above_the_limit_has_the_same_type(pair: Pair) -> None:
    status, theirs, ours, failed = answers(pair, "app.too_large", b"{}")
    assert (status, failed) == (502, True)
    # RIE's sentence has its own sizes and a request id; Lambda's names the limit only.
    assert ours["errorType"] == theirs["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_payload_that_is_no_json_is_rejected_before_it_runs(pair: Pair) -> None:
    """RIE hands it to the runtime, which answers Runtime.UnmarshalError; Lambda refuses the request."""
    port, ours = pair("app.echo")
    assert json.loads(rie.invoke(port, b"{no json")[1])["errorType"] == "Runtime.UnmarshalError"
    with pytest.raises(ours.client.exceptions.InvalidRequestContentException):
        ours.client.invoke(FunctionName="under-test", Payload=b"{no json")


def test_a_timeout_is_an_error_document_here_and_a_sentence_there(folder: Path, pair: Pair) -> None:
    """RIE answers 200 with plain text; Lambda answers the document that ours has."""
    (folder / "sleeps.py").write_text("import time\ndef handler(event, context): time.sleep(60)\n")
    _, ours = pair("sleeps.handler")
    ours.client.update_function_configuration(FunctionName="under-test", Timeout=1)
    body, reply = ours.invoke("under-test")
    with rie.running(folder, "sleeps.handler", {"AWS_LAMBDA_FUNCTION_TIMEOUT": "1"}) as port:
        status, theirs = rie.invoke(port, b"{}")
    assert (status, theirs) == (200, b"Task timed out after 1.00 seconds")
    assert reply["FunctionError"] == "Unhandled"
    assert body["errorType"] == "Sandbox.Timedout"
    assert body["errorMessage"].endswith("Task timed out after 1.00 seconds")
