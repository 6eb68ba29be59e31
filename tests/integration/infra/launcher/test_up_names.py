"""Every command that takes a mapping or a function takes its function, its topic and the start of a UUID."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.harness.processes import wait_until
from tests.harness.up import TIDEMILL, Up, clean_environ, running_up
from tidemill_cli.main import app

SOURCE = "def handler(event, context):\n    if event == 'fail':\n        raise ValueError('no such order')\n"
# What else each command needs; all leave the mapping and the function as they are.
COMMANDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("mapping", "get"): (),
    ("mapping", "update"): ("--batch-size", "50"),
    ("mapping", "retry"): (),
    ("mapping", "watch"): ("--once",),
    ("function", "get"): (),
    ("function", "invoke"): (),
    ("function", "logs"): ("--wait", "0"),
}
# These end what they name, or need a partition that is stuck: what finds the name is the same.
DESTRUCTIVE = {("mapping", "delete"), ("mapping", "skip"), ("function", "delete")}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    (folder / "app.py").write_text(SOURCE)
    with running_up(folder) as started:
        started.cli("topic", "create", "parcels", "--partitions", "1")
        started.cli("function", "register", "orders", f"{folder}/app.py:handler")
        started.cli("mapping", "create", "orders", "--topic", "parcels")
        yield started


def test_every_command_that_names_one_is_tried_here() -> None:
    groups: Any = typer.main.get_command(app)
    found = {
        (group, name)
        for group in ("mapping", "function")
        for name, command in groups.commands[group].commands.items()
        for parameter in command.params
        if parameter.param_type_name == "argument" and parameter.metavar in ("MAPPING", "NAME")
    }
    assert found == COMMANDS.keys() | DESTRUCTIVE


def the_mapping(up: Up) -> dict[str, Any]:
    """The one of `parcels`, once no change of a mapping is going on: an update then is rejected."""

    def settled() -> dict[str, Any] | None:
        listed: list[dict[str, Any]] = json.loads(up.cli("mapping", "list", "--json"))
        return listed[0] if [one["State"] for one in listed] == ["Enabled"] else None

    return wait_until(settled, what="the one mapping, enabled")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("by", ["function", "arn", "topic", "uuid", "start of the uuid"])
def test_it_takes_each_kind_of_name(up: Up, command: tuple[str, str], by: str) -> None:
    mapping = the_mapping(up)
    name = {
        "function": "orders",
        "arn": mapping["FunctionArn"],
        "topic": "parcels",
        "uuid": mapping["UUID"],
        "start of the uuid": mapping["UUID"][:6],
    }[by]
    up.cli(*command, name, *COMMANDS[command])


@pytest.mark.parametrize("name", ["orders", "parcels"])
def test_the_list_of_a_functions_mappings_takes_them_too(up: Up, name: str) -> None:
    [mapping] = json.loads(up.cli("mapping", "list", "--function", name, "--json"))
    assert mapping["Topics"] == ["parcels"]


def test_what_names_nothing_is_said_in_one_sentence(up: Up) -> None:
    told = up.cli("function", "get", "nothing", status=1)
    assert told.startswith("error: No function is called 'nothing', and no mapping has it as its topic or")


def test_an_error_is_told_with_its_cause_first_and_the_command_for_the_whole(up: Up) -> None:
    told = up.cli("function", "invoke", "parcels", "--payload", '"fail"', status=1)
    assert told.splitlines() == [
        "error: ValueError: no such order (app.py:3 in handler)",
        "The whole of it: tidemill function logs orders",
    ]


def test_a_mapping_that_fails_shows_the_cause_and_the_command_for_the_whole(up: Up, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def handler(event, context):\n    raise KeyError('order')\n")
    up.cli("topic", "create", "stuck", "--partitions", "1")
    up.cli("function", "register", "bad", f"{tmp_path}/bad.py:handler")
    up.cli("mapping", "create", "bad", "--topic", "stuck")
    up.cli("topic", "produce", "stuck", "x")
    shown = wait_until(
        lambda: text if "KeyError" in (text := up.cli("mapping", "watch", "stuck", "--once")) else ""
    )
    assert "KeyError: 'order' (bad.py:2 in handler)" in shown
    assert "The whole of an error: tidemill function logs bad" in shown
    up.cli("mapping", "delete", "stuck")


def test_register_with_watch_prints_what_it_picked_up(up: Up, tmp_path: Path) -> None:
    (folder := tmp_path / "code").mkdir()
    module, output = folder / "edited.py", tmp_path / "output"
    module.write_text("def handler(event, context):\n    return 1\n")
    with output.open("w") as file:
        watch = subprocess.Popen(
            [TIDEMILL, "function", "register", "edited", f"{module}:handler", "--watch"],
            env=clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"]),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: f"Watching {folder.resolve()}." in output.read_text())
        module.write_text("def handler(event, context):\n    return 22\n")
        wait_until(lambda: "edited: picked up edited.py\n" in output.read_text())
        assert up.cli("function", "invoke", "edited") == "22\n"
        module.write_text("def handler(event, context):\n    return (333\n")
        wait_until(lambda: "edited.py cannot be imported: line 2: '(' was never closed" in output.read_text())
    finally:
        watch.kill()
        watch.wait()
