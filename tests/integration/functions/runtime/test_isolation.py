"""Handlers that attack: the machine, the server and the other functions see nothing of it.

Where the server is root and the kernel lets it, each handler has a user, a file system and a /tmp of its own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.functions_server import ISOLATED, FunctionsServer, running
from tests.harness.processes import is_alive, wait_until
from tidemill_functions.runtime.census import processes

Name = Callable[[], str]

HANDLER = """
import ctypes, errno, http.client, json, os, pathlib, resource, socket, subprocess, sys, time
def attempt(call):
    try: return call()
    except OSError as error: return errno.errorcode.get(error.errno, type(error).__name__)
def fork_all():
    while True:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
def fill(size):
    with open("/tmp/full", "wb") as file:
        for _ in range(size): file.write(bytes(1 << 20))
def flood():
    for number in range(10_000_000): open(f"/tmp/{number}", "w").close()
def open_all():
    kept = []
    while True: kept.append(os.open("/dev/null", os.O_RDONLY))
def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    return connection.getresponse().read().decode()
def answer(port, request_id):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", b'"forged"')
    return connection.getresponse().status
def leave():
    if os.fork() == 0:
        os.setsid()
        print(f"left {os.getpid()}", flush=True)
        time.sleep(600)
    time.sleep(600)
def handler(event, context):
    do, *rest = event if isinstance(event, list) else [event]
    if do == "uid": return os.getuid(), os.getgid(), os.getgroups()
    if do == "where": return {"root": os.environ["LAMBDA_TASK_ROOT"], "pid": os.getpid(),
        "port": int(os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")[1]), "parent": os.getppid()}
    if do == "read": return attempt(lambda: pathlib.Path(rest[0]).read_bytes().decode(errors="replace")[:100])
    if do == "list": return attempt(lambda: os.listdir(rest[0]))
    if do == "write": return attempt(lambda: pathlib.Path(rest[0]).write_text("x"))
    if do == "chmod": return attempt(lambda: os.chmod(rest[0], 0o777))
    if do == "kill": return attempt(lambda: os.kill(rest[0], 9))
    if do == "ask": return attempt(lambda: ask(*rest))
    if do == "answer": return attempt(lambda: answer(*rest))
    if do == "fill": return attempt(lambda: fill(*rest))
    if do == "flood": return attempt(flood)
    if do == "fork": return attempt(fork_all)
    if do == "open": return attempt(open_all)
    if do == "leave": leave()
    if do == "exit": os._exit(1)
    return event
"""


@pytest.fixture(scope="module")
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    """One server whose handlers have users of their own."""
    if os.geteuid() != 0:
        pytest.skip("only root has other users' processes")
    with running(tmp_path_factory.mktemp("isolated"), ISOLATED) as server:
        server.create("probe", HANDLER)
        if server.invoke("probe", "uid")[0][0] == 0:
            pytest.skip("this machine lets root have no mounts of its own")
        yield server


@pytest.fixture
def function(isolated: FunctionsServer, name: Name) -> Iterator[str]:
    isolated.create(made := name(), HANDLER, Timeout=60)
    yield made
    isolated.client.delete_function(FunctionName=made)


@pytest.fixture
def victim(isolated: FunctionsServer, name: Name) -> Iterator[str]:
    isolated.create(made := name(), HANDLER, Timeout=60)
    yield made
    isolated.client.delete_function(FunctionName=made)


def do(server: FunctionsServer, function: str, *event: Any) -> Any:
    return server.invoke(function, list(event))[0]


def test_each_environment_has_a_user_of_its_own_in_no_group(
    isolated: FunctionsServer, function: str, victim: str
) -> None:
    (one, group, groups), (other, _, _) = do(isolated, function, "uid"), do(isolated, victim, "uid")
    assert one >= 2_000_000_000
    assert (group, groups) == (one, [])
    assert one != other


def test_another_functions_code_and_the_servers_data_are_out_of_sight(
    isolated: FunctionsServer, function: str, victim: str
) -> None:
    root = do(isolated, victim, "where")["root"]
    assert do(isolated, victim, "read", f"{root}/app.py").startswith("\nimport ctypes")
    assert do(isolated, function, "read", f"{root}/app.py") == "ENOENT"
    assert do(isolated, function, "list", str(isolated.data_dir / "functions")) == "ENOENT"
    assert do(isolated, function, "list", str(isolated.data_dir / "code")) == [function]


def test_the_environments_of_the_server_and_of_other_handlers_are_unreadable(
    isolated: FunctionsServer, function: str, victim: str
) -> None:
    where = do(isolated, victim, "where")
    for pid in (where["parent"], where["pid"]):
        assert do(isolated, function, "read", f"/proc/{pid}/environ") == "EACCES"
        assert do(isolated, function, "list", f"/proc/{pid}/fd") == "EACCES"
        assert do(isolated, function, "kill", pid) == "EPERM"
    own = do(isolated, function, "read", "/proc/self/environ")
    assert "SECRET_OF_THE_SERVER" not in own


def test_code_and_all_but_tmp_is_read_only(isolated: FunctionsServer, function: str) -> None:
    root = do(isolated, function, "where")["root"]
    assert do(isolated, function, "write", f"{root}/app.py") == "EROFS"
    assert do(isolated, function, "write", f"{root}/new") == "EROFS"
    assert do(isolated, function, "chmod", f"{root}/app.py") == "EROFS"
    assert do(isolated, function, "write", "/var/tmp/new") == "EROFS"
    assert do(isolated, function, "write", "/tmp/new") == 1


def test_tmp_is_its_own_of_its_size_and_empty_at_each_start(
    isolated: FunctionsServer, function: str, victim: str
) -> None:
    assert do(isolated, function, "fill", 100) is None
    assert do(isolated, function, "fill", 513) == "ENOSPC"
    assert "full" in do(isolated, function, "list", "/tmp")
    assert "full" not in do(isolated, victim, "list", "/tmp")
    assert not Path("/tmp/full").exists()
    do(isolated, function, "exit")
    assert "full" not in do(isolated, function, "list", "/tmp")


def test_files_without_content_fill_tmp_too(isolated: FunctionsServer, function: str) -> None:
    isolated.client.update_function_configuration(FunctionName=function, Timeout=120)
    assert do(isolated, function, "flood") == "ENOSPC"


def test_no_handler_takes_or_answers_another_ones_event(
    isolated: FunctionsServer, function: str, victim: str
) -> None:
    port = do(isolated, victim, "where")["port"]
    # The connection is closed before anything is read of it.
    hung_up = ("ECONNRESET", "EPIPE", "RemoteDisconnected")
    assert do(isolated, function, "ask", port) in hung_up
    assert do(isolated, function, "answer", port, "any") in hung_up
    assert do(isolated, victim, "goes on") == ["goes on"]


def test_a_fork_bomb_ends_at_lambdas_limit_and_leaves_nothing(
    isolated: FunctionsServer, function: str, victim: str
) -> None:
    isolated.client.update_function_configuration(FunctionName=function, MemorySize=10240)
    uid = do(isolated, function, "uid")[0]
    assert do(isolated, function, "fork") == "EAGAIN"
    assert do(isolated, victim, "goes on") == ["goes on"]
    do(isolated, function, "exit")
    wait_until(lambda: not any(process.uid == uid for process in processes().values()))
    assert do(isolated, function, "uid")[0] >= 2_000_000_000


def test_what_left_its_process_group_ends_with_a_timeout(isolated: FunctionsServer, function: str) -> None:
    isolated.client.update_function_configuration(FunctionName=function, Timeout=1)
    assert do(isolated, function, "leave")["errorType"] == "Sandbox.Timedout"
    log = isolated.log(function)
    assert "Task timed out after 1.00 seconds" in log
    pid = int(log.partition("left ")[2].split()[0])
    wait_until(lambda: not is_alive(pid))


def test_what_left_its_process_group_ends_with_a_server_that_is_killed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has other users' processes")
    with running(tmp_path / "data", ISOLATED) as server:
        server.create("leaves", HANDLER, Timeout=60)
        if server.invoke("leaves", "uid")[0][0] == 0:
            pytest.skip("this machine lets root have no mounts of its own")
        server.client.invoke(FunctionName="leaves", InvocationType="Event", Payload=b'"leave"')
        log = wait_until(lambda: found if "left " in (found := server.log("leaves")) else None)
        pid = int(log.partition("left ")[2].split()[0])
        server.kill()
    wait_until(lambda: not is_alive(pid))


def test_a_handler_opens_as_many_files_as_on_lambda(isolated: FunctionsServer, function: str) -> None:
    assert do(isolated, function, "open") == "EMFILE"


def test_code_that_is_unpacked_is_read_only_by_its_modes(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), HANDLER)
    root = Path(server.invoke(function, ["where"])[0]["root"])
    assert stat.S_IMODE((root / "app.py").stat().st_mode) == 0o444
    assert stat.S_IMODE(root.stat().st_mode) == 0o555
    server.client.delete_function(FunctionName=function)
    wait_until(lambda: not root.exists())


STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def handler(event, context):
    if event == "stay":
        for descriptor in range(3, 1024):
            try: os.close(descriptor)
            except OSError: pass
        time.sleep(600)
    if event == "print":
        for _ in range(100): os.write(1, b"x" * 1048575 + b"\\n")
    return event
"""


def test_a_handler_that_ignores_sigterm_and_closes_its_sockets_ends_at_its_deadline(
    server: FunctionsServer, name: Name
) -> None:
    server.create(function := name(), STUBBORN, Timeout=1)
    assert server.invoke(function, "stay")[0]["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 1.00 seconds" in server.log(function)
    assert server.invoke(function, "goes on")[0] == "goes on"


def test_a_hundred_megabytes_of_output_are_kept_in_bounds(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), STUBBORN, Timeout=60)
    server.create(other := name(), STUBBORN)
    assert server.invoke(function, "print")[0] == "print"
    assert server.invoke(other, "goes on")[0] == "goes on"
    logs = list((server.data_dir / "logs").glob(f"{function}.log*"))
    assert 0 < sum(log.stat().st_size for log in logs) < 16 << 20
    assert "REPORT RequestId" in server.log(function)
