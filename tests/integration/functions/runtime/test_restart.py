"""The server may be killed at any instant: no process outlives it, and no function is lost."""

from __future__ import annotations

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness.functions_server import running
from tests.harness.processes import is_alive, wait_until

ECHO = "def handler(event, context):\n    return event\n"


def test_functions_survive_kill_9_and_no_handler_does(tmp_path: Path) -> None:
    note, data = tmp_path / "pids", tmp_path / "data"
    source = (
        "import os, pathlib, subprocess, time\n"
        "def handler(event, context):\n"
        "    if event: return event\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        f"    pathlib.Path({str(note)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "    time.sleep(600)\n"
    )
    (tmp_path / "local.py").write_text(ECHO)
    with running(data) as server, ThreadPoolExecutor() as threads:
        made = server.create("sleeps", source, Timeout=60, Environment={"Variables": {"KEY": "value"}})
        server.register("local", tmp_path / "local.py")
        threads.submit(server.client.invoke, FunctionName="sleeps")
        wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
        server.kill()
        pids = [int(pid) for pid in note.read_text().split()]
        wait_until(lambda: not any(is_alive(pid) for pid in pids))
    # What a crash in the middle of an upload would leave:
    (data / "code" / "sleeps" / "half").mkdir()
    (data / "code" / "never-created" / "half").mkdir(parents=True)
    (data / "functions" / "sleeps.tmp").write_text("{")
    with running(data) as server:
        found = server.client.get_function_configuration(FunctionName="sleeps")
        assert found["Environment"] == {"Variables": {"KEY": "value"}}
        assert found["RevisionId"] == made["RevisionId"]
        assert server.invoke("sleeps", "back")[0] == "back"
        assert server.invoke("local", "back")[0] == "back"
        assert len(list((data / "code" / "sleeps").iterdir())) == 2
        assert not (data / "code" / "never-created").exists()


def test_a_stop_lets_running_calls_end_and_leaves_no_process(tmp_path: Path) -> None:
    note, go = tmp_path / "pid", tmp_path / "go"
    source = (
        "import os, pathlib, time\n"
        "def handler(event, context):\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
        f"    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "    return 'done'\n"
    )
    with running(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        server.create("slow", source, Timeout=60)
        call = threads.submit(server.invoke, "slow")
        wait_until(lambda: note.exists() and note.read_text())
        os.kill(server.pid, signal.SIGTERM)
        go.touch()
        assert call.result()[0] == "done"
        assert server.process.wait(timeout=30) == 0
        assert not is_alive(int(note.read_text()))


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    source = (
        "import os, pathlib, time\n"
        "def handler(event, context):\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    with running(tmp_path / "data") as server, ThreadPoolExecutor() as threads:
        server.create("slow", source, Timeout=600)
        call = threads.submit(server.invoke, "slow")
        wait_until(lambda: note.exists() and note.read_text())
        os.kill(server.pid, signal.SIGTERM)
        # Delivered apart, so that the second is not merged into the first.
        wait_until(lambda: not _is_pending(server.pid, signal.SIGTERM))
        os.kill(server.pid, signal.SIGINT)
        assert server.process.wait(timeout=30) == 130
        assert call.exception() is not None
        wait_until(lambda: not is_alive(int(note.read_text())))


def test_unused_processes_end(tmp_path: Path) -> None:
    with running(tmp_path, {"TIDEMILL_FUNCTIONS_IDLE_S": "0.1"}) as server:
        server.create("once", ECHO)
        server.invoke("once")
        wait_until(lambda: server.health()["environments"] == 0)
        assert server.invoke("once", "again")[0] == "again"


def _is_pending(pid: int, number: int) -> bool:
    """Whether a signal waits to be delivered to a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = next(line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending, 16) & (1 << (number - 1)))


def test_every_call_is_answered_once_however_processes_die(tmp_path: Path) -> None:
    """Processes end in calls and between them; each call has its own result or a Runtime.ExitError."""
    source = (
        "import os\n"
        "def handler(event, context):\n"
        "    if event % 7 == 3: os._exit(1)\n"
        "    if event % 7 == 5: os.kill(os.getpid(), 9)\n"
        "    return [event, os.getpid()]\n"
    )
    with running(tmp_path) as server, ThreadPoolExecutor(8) as threads:
        server.create("dies", source, Timeout=30)

        def call(number: int) -> tuple[object, bool]:
            result, reply = server.invoke("dies", number)
            if number % 10 == 0 and "FunctionError" not in reply:
                # From outside, too: it may be idle, or busy with another call by now.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(result[1], signal.SIGKILL)
            return result, "FunctionError" in reply

        answers = list(threads.map(call, range(70)))
        for number, (result, failed) in enumerate(answers):
            if number % 7 in (3, 5):
                assert failed
            if failed:
                assert isinstance(result, dict)
                assert result["errorType"] == "Runtime.ExitError"
            else:
                assert isinstance(result, list)
                assert result[0] == number
        health = server.health()
        assert health["in_flight"] == 0
        assert health["environments"] <= 8
