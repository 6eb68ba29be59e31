"""The examples of docs/security.md, cut out of it and run as they stand against the `up` that it tells of."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from tests.harness.processes import wait_until
from tests.harness.up import Up, clean_environ, running_up
from tests.oracles.apache_kafka import TOOL_FLAGS, VERSION, jars, jars_or_skip
from tests.oracles.secure_java import TOOLS, msk_iam_auth_jar

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
BIN = Path(sys.executable).parent
HANDLER = """
import base64

def handler(event, context):
    for records in event["records"].values():
        for record in records:
            print("got", base64.b64decode(record["value"]).decode())
"""
LIBRARIES = ("confluent-kafka", "aiokafka", "kafka-python")
WAYS = {"IAM": "by-iam", "SCRAM": "by-scram", "mTLS": "by-mtls", "PLAIN": "by-plain"}


def blocks(heading: str, language: str, page: str = PAGE) -> list[str]:
    """All code blocks of that language below a heading."""
    section = re.split(r"\n##+ ", page.split(f"# {heading}\n", 1)[1])[0]
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no {language} block below {heading!r}"
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader of the page stands."""
    home = tmp_path_factory.mktemp("snippets")
    (home / "app.py").write_text(HANDLER)
    return home


@pytest.fixture(scope="module")
def up(home: Path) -> Iterator[Up]:
    """What the page's first command starts, on other ports."""
    [command] = blocks("Turn it on", "sh")
    program, subcommand, *arguments = shlex.split(command)
    assert (program, subcommand) == ("tidemill", "up")
    with running_up(home / ".tidemill", *arguments) as running:
        running.cli("topic", "create", "orders")
        for function in WAYS.values():
            running.cli("function", "register", function, f"{home}/app.py:handler")
        yield running


def run(up: Up, command: list[str], folder: Path, **environ: str) -> str:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command,
        cwd=folder,
        env=clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"], **{"PATH": path} | environ),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def run_python(up: Up, home: Path, heading: str) -> str:
    [prelude] = blocks("Turn it on", "python prelude")
    return run(up, [sys.executable, "-c", "\n".join((prelude, *blocks(heading, "python")))], home)


@pytest.mark.parametrize("heading", WAYS)
def test_every_library_produces_and_a_mapping_reads(up: Up, home: Path, heading: str) -> None:
    """The section's Python for three libraries, its code for the mapping: the function gets all."""
    run_python(up, home, heading)
    if heading != "PLAIN":
        for script in blocks(heading, "sh"):
            run(up, ["bash", "-euc", script], home)
    expected = [f"got {library} over {heading}" for library in LIBRARIES]
    wait_until(
        lambda: all(line in up.cli("function", "logs", WAYS[heading], "-n", "100") for line in expected),
        what=f"{WAYS[heading]} to be given the records of {heading}",
    )


@pytest.mark.parametrize("mechanism", ["iam", "scram", "mtls", "plain"])
def test_the_java_configurations_are_those_that_up_writes(up: Up, mechanism: str) -> None:
    [shown] = re.findall(rf"```properties {mechanism}.java.properties\n(.*?)```", PAGE, re.DOTALL)
    written = (up.data_dir / "clients" / f"{mechanism}.java.properties").read_text()
    tls = up.data_dir / "tls"
    plain = written.replace(str(tls / "ca.pem"), "CA").replace(str(tls / "client.pem"), "CLIENT")
    plain = re.sub('password="[^"]+"', 'password="PASSWORD"', plain)

    assert set(shown.splitlines()) <= set(plain.splitlines())


@pytest.mark.kafka
def test_javas_tools_come_in_by_each(up: Up, home: Path) -> None:
    jars_or_skip()
    class_path = f"{jars(VERSION)}/*:{msk_iam_auth_jar()}/*"
    tool = home / "bin" / "kafka-topics.sh"
    tool.parent.mkdir()
    flags = shlex.join(["java", *TOOL_FLAGS, "-cp", class_path, f"{TOOLS}TopicCommand"])
    tool.write_text(f'#!/bin/sh\nexec {flags} "$@"\n')
    tool.chmod(0o700)
    [script] = blocks("Java's tools", "sh")
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"

    assert run(up, ["bash", "-euc", script], home, PATH=path).count("Topic: orders\tTopicId") == len(WAYS)


def test_librdkafka_takes_the_configurations_that_up_writes(up: Up) -> None:
    """IAM's lacks the callback that signs, as it says; the others need nothing more."""
    for mechanism in ("scram", "mtls", "plain"):
        text = (up.data_dir / "clients" / f"{mechanism}.librdkafka.properties").read_text()
        options: dict[str, Any] = dict(
            line.split("=", 1) for line in text.splitlines() if not line.startswith("#")
        )
        assert "orders" in AdminClient(options).list_topics(timeout=10).topics


def test_a_broker_alone_lets_in_whom_its_files_name(home: Path) -> None:
    [script] = blocks("The broker alone", "sh")
    script = re.sub(r"--listener (\w+)", r"--listener \1=0", script)
    script = script.replace(
        "tidemill broker --data-dir",
        "exec tidemill broker --control-port 0 --ready-file ready.json --data-dir",
    )
    environ = clean_environ(PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    with (home / "alone.log").open("wb") as log:
        process = subprocess.Popen(["bash", "-euc", script], cwd=home, env=environ, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: (home / "ready.json").exists() or process.poll() is not None,
            what="the broker to be ready",
        )
        assert process.poll() is None, (home / "alone.log").read_text()
        assert '"iam"' in (home / "ready.json").read_text()
    finally:
        process.terminate()
        process.wait(20)
