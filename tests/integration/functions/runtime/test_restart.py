"""The server may be killed at any instant: no process outlives it, and no function is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections import Counter
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


def test_an_event_that_was_accepted_survives_kill_9_with_its_attempts(tmp_path: Path) -> None:
    note, go, data = tmp_path / "calls", tmp_path / "go", tmp_path / "data"
    source = (
        "import pathlib, time\n"
        "def handler(event, context):\n"
        f"    with open({str(note)!r}, 'a') as file: print(context.aws_request_id, event, file=file)\n"
        f"    while event == 'waits' and not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "    if event == 'fails': raise ValueError\n"
    )
    # The second attempt of what fails comes at once, the third after the restart alone.
    with running(data, {"TIDEMILL_FUNCTIONS_EVENT_RETRY_DELAYS_S": "[0, 600]"}) as server:
        server.create("orders", source, Timeout=60)
        ids = {
            event: server.invoke("orders", event, InvocationType="Event")[1]["ResponseMetadata"]["RequestId"]
            for event in ("waits", "fails")
        }
        wait_until(lambda: note.exists() and len(note.read_text().splitlines()) == 3)
        wait_until(
            lambda: any('"attempts":2' in file.read_text() for file in (data / "events").glob("*.event"))
        )
        server.kill()
    for file in (data / "events").glob("*.event"):  # as if the 600 s were over
        file.write_text(re.sub(r'"retry_at_ms":\d+', '"retry_at_ms":0', file.read_text()))
    go.touch()
    with running(data) as server:
        wait_until(lambda: server.health()["events"] == 0)
    calls = Counter(note.read_text().splitlines())
    assert calls == {f"{ids['waits']} waits": 2, f"{ids['fails']} fails": 3}
    assert list((data / "events").iterdir()) == []


def test_a_stop_keeps_events_for_the_next_start(tmp_path: Path) -> None:
    note, data = tmp_path / "calls", tmp_path / "data"
    source = (
        f"def handler(event, context):\n    with open({str(note)!r}, 'a') as file: print(event, file=file)\n"
    )
    with running(data) as server:
        server.create("orders", source)
        server.client.put_function_concurrency(FunctionName="orders", ReservedConcurrentExecutions=0)
        server.invoke("orders", "kept", InvocationType="Event")
    with running(data) as server:
        assert server.health()["events"] == 1
        server.client.delete_function_concurrency(FunctionName="orders")
        wait_until(lambda: server.health()["events"] == 0)
    assert note.read_text() == "kept\n"


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
