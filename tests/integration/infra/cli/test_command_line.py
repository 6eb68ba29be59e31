"""The command line without any program running: its shape, its help, its one-sentence rejections."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tidemill_cli.main import app, main

PROGRAMS = (("broker",), ("poller",), ("functions",))

COMMANDS = {
    (): ("up", "broker", "poller", "functions", "function", "mapping", "topic", "demo", "import", "export"),
    ("up",): ("--data-dir", "--port", "--kafka-port", "--aws-endpoint-url", "--ready-file"),
    ("import",): ("--file", "--from-uuid", "--profile", "--region", "--from-endpoint-url", "--dry-run"),
    ("export",): ("--as", "--function", "--event-source-arn", "--bootstrap"),
    ("demo",): ("--flights", "--keep"),
    ("function",): ("register", "list", "invoke", "event", "logs", "delete"),
    ("mapping",): ("create", "list", "get", "update", "delete", "retry", "watch"),
    ("topic",): ("create", "list", "describe", "produce", "tail"),
}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """An endpoint where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return url


@pytest.mark.parametrize(("command", "names"), COMMANDS.items())
def test_names_and_flags_stay(
    command: tuple[str, ...], names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """People script these."""
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in names:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", shown), name


def every_command(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from every_command(command, (*path, name))


# `tidemill aws` hands its options on, --help too: the AWS CLI's help is not ours.
NOT_OURS = (*PROGRAMS, ("aws",))
EVERY_COMMAND = [path for path in every_command(typer.main.get_command(app)) if path[:1] not in NOT_OURS]


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_no_option_is_cut_at_80_columns(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found: Any = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    names = [*getattr(found, "commands", ()), *(flag for each in found.params for flag in each.opts)]
    for name in names:
        if name.startswith("-") or name in getattr(found, "commands", ()):
            assert re.search(rf"(?<![\w-]){name}(?![\w-])", shown), name
    assert "…" not in shown.replace("subnet-1 …", "")
    assert "..." not in re.sub(r"(\]|value)\.\.\.", "", shown)
    assert max(map(len, shown.splitlines())) <= 80


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tidemill {version('tidemill')}\n"


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("broker", ("--host", "--port", "--data-dir", "--set", "--control-port", "--ready-file")),
        ("poller", ("--port", "--data-dir")),
        ("functions", ("--port", "--data-dir")),
    ],
)
def test_programs_get_their_arguments_untouched(
    program: str, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """`tidemill broker --help` is the broker's own help."""
    with pytest.raises(SystemExit) as ended:
        main([program, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in flags)


@pytest.mark.parametrize(
    "command",
    [
        ("function", "list"),
        ("function", "logs", "f"),
        ("mapping", "list"),
        ("mapping", "create", "f", "--topic", "orders"),
        ("mapping", "watch", "4f6f3bd0-0e9a-4b0c-8a55-000000000000"),
        ("topic", "list"),
    ],
)
def test_an_endpoint_that_does_not_answer_is_named_with_the_fix(
    command: tuple[str, ...], nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Connection refused is one sentence, a hint and status 1."""
    assert main(command) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: Cannot reach {nowhere}")
    assert hint.startswith(
        "hint: Is `tidemill up` running? Start it, or name another endpoint with --endpoint-url"
    )


def test_a_kafka_that_does_not_answer_is_named_with_the_fix(
    capsys: pytest.CaptureFixture[str], nowhere: str
) -> None:
    servers = nowhere.removeprefix("http://")
    assert main(["topic", "list", "--bootstrap-servers", servers]) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error == f"error: Cannot reach Kafka at {servers}."
    assert "--bootstrap-servers" in hint


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("function", "register", "f", "app.py"), "'app.py' names no handler."),
        (("function", "register", "f", "nowhere/app.py:handler"), "There is no file nowhere/app.py."),
        (("function", "register", "nowhere/app.py"), "nowhere/app.py does not exist"),
        (("function", "register", "app"), "app is not a Python file."),
        (("function", "register", "f", "{dir}/app.py:handler", "--env", "TABLE"), "--env takes NAME=VALUE"),
        (("function", "invoke", "f", "--payload", "@nowhere.json"), "Cannot use nowhere.json"),
        (("mapping", "create", "--from", "{dir}/bad.json"), "is not JSON"),
        (("mapping", "create", "--from", "{dir}/list.json"), "must hold one JSON object"),
        (
            ("mapping", "create", "f", "--cluster-arn", "arn:x", "--bootstrap", "a:1"),
            "A mapping reads one cluster",
        ),
        (("mapping", "update", "4f6f3bd0-0e9a-4b0c-8a55-000000000000"), "Nothing to change."),
        (("function", "list", "--endpoint-url", "localhost:4580"), "'localhost:4580' is not a URL."),
        (("function", "logs", "f", "--endpoint-url", "nowhere"), "'nowhere' is not a URL."),
        (("function", "logs", "no such function"), "Cannot reach"),
        (("up", "--data-dir", "{dir}/app.py"), "choose another directory with --data-dir"),
        (("demo", "--flights", "some"), "--flights takes a number above 0 or `all`"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, status 1, and what to do."""
    (tmp_path / "app.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    assert main([part.replace("{dir}", str(tmp_path)) for part in command]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert sentence in said


def test_an_unknown_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--no-such-flag"]) == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_a_port_beyond_the_last_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--port", "99999"]) == 2
    assert "65535" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`tidemill topic --help | head -1` ends without a traceback."""
    program = "import sys; from tidemill_cli.main import main; sys.exit(main(['up', '--help']))"
    read, write = os.pipe()
    os.close(read)
    # Unbuffered: the write itself fails, not the flush at the end.
    ended = subprocess.run(
        [sys.executable, "-u", "-c", program], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("program", ["broker", "functions", "poller"])
def test_a_program_that_cannot_start_says_why(program: str, tmp_path: Path) -> None:
    """A port in use, a port beyond the last, a profile that is not there: a sentence, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = _rejection(program, str(taken.getsockname()[1]), tmp_path)
    assert "address already in use" in said.lower()
    assert "give another --port" in said
    assert "65535" in _rejection(program, "99999", tmp_path)
    if program == "poller":
        assert "correct AWS_PROFILE" in _rejection(program, "0", tmp_path, AWS_PROFILE="no-such-profile")


def _rejection(program: str, port: str, data_dir: Path, **environ: str) -> str:
    command = [sys.executable, "-m", "tidemill_cli.main", program]
    command += ["--port", port, "--data-dir", str(data_dir)]
    ended = subprocess.run(
        command + ["--control-port", "0"] * (program == "broker"),
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode in {1, 2}
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_terminal_without_utf_8_gets_the_table_all_the_same() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tidemill_cli.main", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0
    assert b"Traceback" not in ended.stderr
