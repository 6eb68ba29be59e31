"""Python functions: which interpreter runs them, and which packages they see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import ROLE, FunctionsServer, running, zip_of
from tidemill_functions.runtimes.python.interpreters import Interpreters

Name = Callable[[], str]
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Neither the image nor a package that pip installs brings it.
MISSING_IN_CI = ("3.14",)
OWN = f"python{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    """A server on a machine that has no Python but its own."""
    nowhere = str(tmp_path_factory.mktemp("nowhere"))
    with running(tmp_path_factory.mktemp("alone"), environment_without_pythons(nowhere)) as server:
        yield server


def environment_without_pythons(nowhere: str) -> dict[str, str]:
    return {"PATH": nowhere, "HOME": nowhere, "PYENV_ROOT": nowhere, "UV_PYTHON_INSTALL_DIR": nowhere}


def create(server: FunctionsServer, name: str, files: dict[str, str], **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.client.create_function(
        FunctionName=name,
        **{
            "Runtime": OWN,
            "Role": ROLE,
            "Handler": "app.handler",
            "Code": {"ZipFile": zip_of(files)},
            **members,
        },
    )
    return found


IMPORTS = """
import importlib
def handler(event, context):
    found = []
    for name in event:
        try:
            importlib.import_module(name)
            found.append(name)
        except ImportError:
            pass
    return found
"""


def test_a_handler_sees_what_lambda_brings_and_nothing_of_tidemill(
    server: FunctionsServer, name: Name
) -> None:
    create(server, function := name(), {"app.py": IMPORTS})
    brought = ["boto3", "botocore", "urllib3", "dateutil", "jmespath", "s3transfer", "six", "awslambdaric"]
    ours = [
        "tidemill",
        "tidemill_functions",
        "moto",
        "pydantic",
        "aiohttp",
        "uvloop",
        "orjson",
        "pip",
        "pytest",
    ]
    assert server.invoke(function, [*brought, *ours, "sqlite3", "ssl"])[0] == [*brought, "sqlite3", "ssl"]


def test_a_process_that_a_handler_starts_sees_the_same(server: FunctionsServer, name: Name) -> None:
    source = (
        "import subprocess, sys\n"
        "def handler(event, context):\n"
        "    return subprocess.run([sys.executable, '-c', f'import {event}']).returncode\n"
    )
    create(server, function := name(), {"app.py": source}, Timeout=30)
    assert [server.invoke(function, module)[0] for module in ("boto3", "tidemill_functions")] == [0, 1]


def test_the_task_root_goes_first_and_the_runtimes_packages_last(server: FunctionsServer, name: Name) -> None:
    source = (
        "import sys, json, os, boto3\n"
        "path = list(sys.path)\n"
        "def handler(event, context):\n"
        "    return [path, os.environ['LAMBDA_TASK_ROOT'], os.path.dirname(json.__path__[0]), boto3.MINE]\n"
    )
    create(server, function := name(), {"app.py": source, "boto3.py": "MINE = 'of the zip'\n"})
    path, task_root, library, mine = server.invoke(function)[0]
    assert path[0] == task_root
    packages = next(entry for entry in path if entry.endswith("/runtimes/python/packages"))
    assert path.index(library) < path.index(packages)
    assert mine == "of the zip"


@pytest.mark.parametrize(
    "module", ["simplejson", "awslambdaric", "runtime_client", "http", "logging", "bootstrap"]
)
def test_no_module_of_a_zip_shadows_what_the_runtime_needs(
    server: FunctionsServer, name: Name, module: str
) -> None:
    trap = "raise RuntimeError('shadowed')\n"
    create(server, function := name(), {"app.py": "def handler(e, c):\n    return e\n", f"{module}.py": trap})
    assert server.invoke(function, 1)[0] == 1
    create(server, broken := name(), {"app.py": "raise ValueError('at import')\n", f"{module}.py": trap})
    assert server.invoke(broken)[0]["errorType"] == "ValueError"


def test_names_of_an_interactive_python_are_there(server: FunctionsServer, name: Name) -> None:
    create(server, function := name(), {"app.py": "def handler(e, c):\n    exit(3)\n"})
    assert "exit status 3" in server.invoke(function)[0]["errorMessage"]


CONTRACT = """
import sys
def handler(event, context):
    if event == "raise": raise ValueError("boom")
    if event == "size": return "x" * 6_000_000
    if event == "unserialisable": return {1, 2}
    return [list(sys.version_info[:2]), event, context.get_remaining_time_in_millis() > 0]
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_version_that_was_asked_for_runs_the_function(
    server: FunctionsServer, name: Name, version: str
) -> None:
    major, minor = map(int, version.split("."))
    if Interpreters((), os.environ).find((major, minor)) is None:
        if os.environ.get("CI") and version not in MISSING_IN_CI:
            pytest.fail(f"there is no Python {version} here")
        pytest.skip(f"there is no Python {version} here")
    create(server, function := name(), {"app.py": CONTRACT}, Runtime=f"python{version}", Timeout=20)
    for event in ("é", [None, 1.5, {"a": True}], "x" * 1_000_000):
        assert server.invoke(function, event)[0] == [[major, minor], event, True]
    assert len(server.invoke(function, "size")[0]) == 6_000_000
    raised, reply = server.invoke(function, "raise")
    assert (raised["errorType"], raised["errorMessage"], len(raised["stackTrace"])) == (
        "ValueError",
        "boom",
        1,
    )
    assert reply["FunctionError"] == "Unhandled"
    assert server.invoke(function, "unserialisable")[0]["errorType"] == "Runtime.MarshalError"
    assert f"INIT_START Runtime Version: python:{version}." in server.log(function)


def test_a_version_that_is_missing_is_rejected_with_what_there_is(alone: FunctionsServer) -> None:
    missing = next(version for version in VERSIONS if f"python{version}" != OWN)
    with pytest.raises(ClientError) as raised:
        create(alone, "missing", {"app.py": CONTRACT}, Runtime=f"python{missing}")
    message = raised.value.response["Error"]["Message"]
    assert message.startswith(f"The runtime python{missing} needs a Python {missing}, and this machine has ")
    assert f"{sys.version.split()[0]} (" in message
    assert "TIDEMILL_FUNCTIONS_NEAREST_PYTHON=true" in message


def test_the_nearest_runs_it_where_that_is_allowed_and_is_named(tmp_path: Path) -> None:
    missing = next(version for version in VERSIONS if f"python{version}" != OWN)
    environment = environment_without_pythons(str(tmp_path)) | {"TIDEMILL_FUNCTIONS_NEAREST_PYTHON": "true"}
    with running(tmp_path / "data", environment) as server:
        create(server, "near", {"app.py": CONTRACT}, Runtime=f"python{missing}")
        assert server.invoke("near", 1)[0][0] == list(sys.version_info[:2])
        note = server.client.get_function(FunctionName="near")["Configuration"]["RuntimeVersionConfig"][
            "Error"
        ]
        assert note["Message"].startswith(f"python{missing} is run by Python {sys.version.split()[0]} (")


def test_an_interpreter_can_be_named_in_the_settings(tmp_path: Path) -> None:
    named = tmp_path / "my python"
    named.symlink_to(Path(sys.executable).resolve())
    settings = {"TIDEMILL_FUNCTIONS_PYTHONS": json.dumps([str(named)])}
    with running(tmp_path / "data", settings) as server:
        create(server, "named", {"app.py": "import sys\ndef handler(e, c):\n    return sys.executable\n"})
        assert server.invoke("named")[0] == str(named)


def project(folder: Path) -> Path:
    """A project with a virtual environment that has one package; its handler lies below."""
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (next(venv.glob("lib/python*/site-packages")) / "orderlib.py").write_text("TOTAL = 7\n")
    (folder / "src").mkdir()
    (folder / "src" / "orders.py").write_text(
        "import sys, boto3, orderlib\n"
        "from tidemill import function\n"
        "def handler(event, context):\n    return [orderlib.TOTAL, sys.prefix]\n"
    )
    return folder / "src" / "orders.py"


def test_code_in_place_runs_in_the_venv_of_its_project(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    made = server.register(function := name(), project(tmp_path))
    assert made["Runtime"] == OWN
    assert server.invoke(function)[0] == [7, str(tmp_path / ".venv")]


def test_code_in_place_without_a_project_sees_what_lambda_brings_and_the_trigger(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    (tmp_path / "orders.py").write_text(IMPORTS)
    server.register(function := name(), tmp_path / "orders.py")
    assert server.invoke(function, ["boto3", "tidemill", "moto", "pydantic"])[0] == ["boto3", "tidemill"]


def test_the_callers_virtual_env_and_a_named_python_are_used(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    (folder := tmp_path / "project").mkdir()
    orders, venv = project(folder), folder / ".venv"
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(orders.read_text())
    server.register(function := name(), elsewhere, virtual_env=str(venv))
    assert server.invoke(function)[0][0] == 7
    server.register(function, elsewhere, python=str(venv / "bin" / "python"))
    assert server.invoke(function)[0][0] == 7
    with pytest.raises(urllib.error.HTTPError) as raised:
        server.register(function, elsewhere, python="/nowhere/python")
    assert "is no Python that runs functions" in json.loads(raised.value.read())["error"]


@pytest.mark.parametrize("way", ["option", "active"])
def test_the_command_line_hands_on_the_interpreter(
    server: FunctionsServer, name: Name, tmp_path: Path, way: str
) -> None:
    (folder := tmp_path / "project").mkdir()
    orders, venv = project(folder), folder / ".venv"
    (tmp_path / "elsewhere.py").write_text(orders.read_text())
    arguments = ["--python", str(venv / "bin" / "python")] if way == "option" else []
    active = {} if way == "option" else {"VIRTUAL_ENV": str(venv)}
    command = [sys.executable, "-m", "tidemill_cli.main", "function", "register", function := name()]
    subprocess.run(
        [*command, "elsewhere.py:handler", "--endpoint-url", server.url, *arguments],
        cwd=tmp_path,
        env={**{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}, **active},
        check=True,
    )
    assert server.invoke(function)[0] == [7, str(venv)]


def test_a_decorated_module_is_read_by_the_interpreter_of_its_project(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    orders = project(tmp_path)
    declared = (
        f"@function(name={(made := name())!r})\ndef decorated(event, context):\n    return orderlib.TOTAL\n"
    )
    orders.write_text(orders.read_text() + declared)
    command = [sys.executable, "-m", "tidemill_cli.main", "function", "register", str(orders)]
    subprocess.run([*command, "--endpoint-url", server.url], cwd=tmp_path, check=True)
    assert server.invoke(made)[0] == 7
