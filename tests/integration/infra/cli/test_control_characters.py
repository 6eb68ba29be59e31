"""What records, handlers and callers write does not control the terminal of who reads it.

Every command that shows other people's text is run on a real stack, on a pseudo-terminal and into a pipe.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import sys
import threading
import tty
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web

from tests.fakes.http_thread import serving
from tests.harness.processes import wait_until
from tests.harness.up import Up, clean_environ, running_up
from tidemill_cli.main import main

pytestmark = pytest.mark.slow

# OSC sets the title, CSI clears the screen, C1's CSI does too, the rest reorder what is read or overwrite it.
EVIL = "<\x1b]0;title\x07\x1b[2J\x9b2J\u202egnp\u2066x\u2069\r\x7f\x08>"
SPELLED = r"<\x1b]0;title\x07\x1b[2J\x9b2J\u202egnp\u2066x\u2069\x0d\x7f\x08>"
HANDLER = f"""
import sys
EVIL = {EVIL!r}

def handler(event, context):
    print("printed", EVIL, flush=True)
    if "records" in event:
        raise RuntimeError("raised " + EVIL)
    return {{"got": EVIL}}
"""
UUID = "4f6f3bd0-0e9a-4b0c-8a55-000000000000"
DANGEROUS = ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\u2066", "\u2069", "\r", "\x07", "\x7f", "\x08")

COMMANDS = {
    "function logs": ("function", "logs", "evil", "--wait", "0"),
    "function get": ("function", "get", "evil"),
    "function list": ("function", "list"),
    "function invoke --log": ("function", "invoke", "evil", "--log"),
    "topic tail": ("topic", "tail", "evil", "--from-beginning", "-n", "1"),
    "topic describe": ("topic", "describe", "evil"),
    "topic list": ("topic", "list"),
    "mapping list": ("mapping", "list"),
    "mapping get": ("mapping", "get", "evil"),
    "mapping watch": ("mapping", "watch", "evil", "--once"),
    "an error": ("mapping", "get", EVIL),
    "AWS's error": ("function", "get", f"no{EVIL}such"),
    "Kafka's error": ("topic", "describe", EVIL),
}
SHOWS_IT = {"function logs", "function invoke --log", "topic tail", "mapping watch"}
WITH_JSON = tuple(name for name in COMMANDS if "error" not in name and name != "function logs")
FAILS = {"an error": 1, "AWS's error": 1, "Kafka's error": 1}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("evil")
    code = directory / "evil.py"
    code.write_text(HANDLER)
    with running_up(directory / "data") as running:
        running.cli("function", "register", "evil", f"{code}:handler")
        running.cli("topic", "create", "evil")
        running.cli("topic", "produce", "evil", EVIL, "--key", EVIL, "--header", f"h={EVIL}")
        running.cli("mapping", "create", "evil", "--topic", "evil", "--group", "g", "--tag", "k=v")
        wait_until(
            lambda: "raised" in running.cli("mapping", "watch", "evil", "--once"),
            timeout_s=60,
            what="the handler to fail",
        )
        yield running


def shown_by(url: str, arguments: tuple[str, ...], *, where: str) -> tuple[int, str]:
    """Run the command in this process on a pseudo-terminal or a pipe; its status and all that it wrote."""
    reading, writing = pty.openpty() if where == "terminal" else os.pipe()
    if where == "terminal":
        tty.setraw(writing)  # or the terminal itself adds \r
    taken: list[bytes] = []

    def take() -> None:
        while chunk := _read(reading):
            taken.append(chunk)

    thread = threading.Thread(target=take)
    thread.start()
    environ = clean_environ(AWS_ENDPOINT_URL=url, TERM="xterm-256color")
    stream = io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), encoding="utf-8", write_through=True)
    try:
        with (
            patch.dict(os.environ, environ, clear=True),
            patch.object(sys, "stdin", io.StringIO()),
            redirect_stdout(stream),
            redirect_stderr(stream),
        ):
            status = _status(arguments)
    finally:
        stream.close()
        thread.join(10)
        os.close(reading)
    return status, b"".join(taken).decode()


def _status(arguments: tuple[str, ...]) -> int:
    try:
        return main(list(arguments))
    except SystemExit as ended:  # the programs end so themselves
        return int(ended.code or 0)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux: the other end of a terminal is closed
        return b""


@pytest.mark.parametrize("where", ["terminal", "pipe"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_spells_control_characters_out(up: Up, name: str, where: str) -> None:
    status, shown = shown_by(up.ready["endpoint_url"], COMMANDS[name], where=where)
    assert status == FAILS.get(name, 0), shown
    if name == "function invoke --log" and where == "pipe":
        payload, _, shown = shown.partition("\n")  # a pipe gets the payload as the function gave it
        assert json.loads(payload) == {"got": EVIL}
    assert [text for text in DANGEROUS if text in shown] == []
    if name in SHOWS_IT:
        # A traceback's line is cut at its ends of lines, and \r is one.
        flat = "".join(shown.replace("│", "").split())
        assert SPELLED.partition(r"\x0d")[0] in flat


@pytest.mark.parametrize("where", ["terminal", "pipe"])
@pytest.mark.parametrize("name", WITH_JSON)
def test_json_stays_json_and_harmless(up: Up, name: str, where: str) -> None:
    arguments = [argument for argument in COMMANDS[name] if argument != "--log"]
    status, shown = shown_by(up.ready["endpoint_url"], (*arguments, "--json"), where=where)
    assert status == 0, shown
    assert [text for text in DANGEROUS if text in shown] == []
    document: Any = json.loads(shown)
    if name == "topic tail":
        assert (document["key"], document["value"], document["headers"]) == (EVIL, EVIL, [["h", EVIL]])
    if name == "function invoke --log":
        assert json.loads(document["Payload"]) == {"got": EVIL}


@pytest.mark.parametrize("where", ["terminal", "pipe"])
@pytest.mark.parametrize(
    "arguments",
    [
        (EVIL,),
        (f"--{EVIL}",),
        ("mapping", EVIL),
        ("mapping", "list", f"--{EVIL}"),
        ("mapping", "list", EVIL),
        ("mapping", "watch", "--trees", EVIL, "evil"),
        ("topic", "create", "--partitions", EVIL, "evil"),
        ("function", "invoke", f"--{EVIL}=1"),
        ("up", "--port", EVIL),
        ("demo", f"--{EVIL}"),
        ("broker", f"--{EVIL}"),
        ("broker", "--set", EVIL),
        ("broker", "--listener", EVIL),
        ("broker", "init-tls", f"--{EVIL}"),
        ("poller", f"--{EVIL}"),
        ("functions", "--port", EVIL),
    ],
    ids=lambda arguments: " ".join(arguments).replace(EVIL, "EVIL"),
)
def test_a_mistake_on_the_command_line_is_spelled_out(arguments: tuple[str, ...], where: str) -> None:
    status, shown = shown_by("http://127.0.0.1:1", arguments, where=where)
    assert status == 2, shown
    assert [text for text in DANGEROUS if text in shown] == []
    assert shown.strip()


def test_the_log_of_up_spells_them_out(up: Up) -> None:
    request = {"FunctionName": "evil", "Payload": b"{}"}
    reply = up.client("lambda").invoke(**request, LogType="Tail")
    assert EVIL.partition("\r")[0] in base64.b64decode(reply["LogResult"]).decode()
    assert [text for text in DANGEROUS if text in up.log] == []


@pytest.mark.parametrize("where", ["terminal", "pipe"])
@pytest.mark.parametrize("arguments", [("mapping", "list"), ("mapping", "get", UUID)], ids=" ".join)
def test_a_mapping_s_result_is_spelled_out(arguments: tuple[str, ...], where: str) -> None:
    """A poller's result quotes brokers and destinations; this one is another's, and says what it likes."""
    mapping = {"UUID": UUID, "State": "Enabled", "Topics": [EVIL], "LastProcessingResult": EVIL}

    async def answer(request: web.Request) -> web.Response:
        listed = request.path.rstrip("/").endswith("event-source-mappings")
        return web.json_response({"EventSourceMappings": [mapping]} if listed else mapping)

    def application() -> web.Application:
        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        return app

    with serving(application) as url:
        status, shown = shown_by(url, arguments, where=where)
        assert status == 0, shown
        assert [text for text in DANGEROUS if text in shown] == []
        assert SPELLED.partition(r"\x0d")[0] in shown
        status, shown = shown_by(url, (*arguments, "--json"), where=where)
        assert [text for text in DANGEROUS if text in shown] == []
        found = json.loads(shown)
        assert (found[0] if isinstance(found, list) else found)["LastProcessingResult"] == EVIL
