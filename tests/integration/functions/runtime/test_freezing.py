"""Between invocations nothing of an environment runs: threads, children, and what left the process group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.harness.functions_server import FunctionsServer, running
from tests.harness.processes import wait_until

Name = Callable[[], str]

LEAKY = """
import os, subprocess, sys, threading, time
def count(path):
    number = 0
    while True:
        number += 1
        with open(path, "a") as file: file.write("x")
        time.sleep(0.001)
def handler(event, context):
    if event == "pid": return os.getpid()
    if event == "child": return subprocess.Popen(["sleep", "600"]).pid
    if event == "stray": return subprocess.Popen(["sleep", "600"], start_new_session=True).pid
    if isinstance(event, int):
        return open(f"/proc/{event}/stat").read().rpartition(")")[2].split()[0]
    if isinstance(event, str):
        threading.Thread(target=count, args=(event,), daemon=True).start()
    return event
"""


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_process_is_stopped_between_invocations_and_runs_in_them(
    server: FunctionsServer, name: Name
) -> None:
    server.create(function := name(), LEAKY)
    pid = server.invoke(function, "pid")[0]
    wait_until(lambda: is_stopped(pid))
    assert server.invoke(function, "pid")[0] == pid
    wait_until(lambda: is_stopped(pid))


def test_what_a_handler_started_is_stopped_with_it_in_its_group_or_not(
    server: FunctionsServer, name: Name
) -> None:
    server.create(function := name(), LEAKY)
    for kind in ("child", "stray"):
        started = server.invoke(function, kind)[0]
        wait_until(lambda started=started: is_stopped(started), what=f"a stopped {kind}")  # type: ignore[misc]  # bound
        assert server.invoke(function, started)[0] != "T"


def test_a_stopped_process_ends_with_its_function(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), LEAKY)
    pid = server.invoke(function, "pid")[0]
    wait_until(lambda: is_stopped(pid))
    server.client.delete_function(FunctionName=function)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_setting_lets_it_run_between_invocations(tmp_path: Path) -> None:
    with running(tmp_path / "data", {"TIDEMILL_FUNCTIONS_FREEZE": "false"}) as server:
        server.create("leaky", LEAKY)
        counted = tmp_path / "counted"
        server.invoke("leaky", str(counted))
        before = wait_until(lambda: counted.exists() and counted.stat().st_size)
        wait_until(lambda: counted.stat().st_size > before + 100)
