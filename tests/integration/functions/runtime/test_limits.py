"""What one environment may use: memory, temporary files; and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.harness.functions_server import FunctionsServer, running
from tests.harness.processes import wait_until

Name = Callable[[], str]


def test_a_process_that_holds_more_memory_than_its_function_may_is_killed(
    server: FunctionsServer, name: Name
) -> None:
    source = (
        "import time\n"
        "def handler(event, context):\n"
        "    held = b'x' * (event << 20)\n"
        "    time.sleep(event and 60)\n"
    )
    server.create(function := name(), source, Timeout=60, MemorySize=128)
    document, reply = server.invoke(function, 200)
    assert reply["FunctionError"] == "Unhandled"
    assert document["errorType"] == "Runtime.OutOfMemory"
    assert document["errorMessage"].endswith("Runtime exited with error: signal: killed")
    assert "the function's memory is 128 MB" in server.log(function)
    assert server.invoke(function, 0)[0] is None


CHILD = """
import subprocess, sys, time
def handler(event, context):
    if event:
        child = f"held = b'x' * ({event} << 20); print(1, flush=True); import time; time.sleep(600)"
        started = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
        started.stdout.readline()
    if event > 500: time.sleep(600)
"""


def test_the_memory_of_what_a_handler_started_counts(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), CHILD, Timeout=60, MemorySize=512)
    document, _ = server.invoke(function, 600)
    assert document["errorType"] == "Runtime.OutOfMemory"
    assert "the function's memory is 512 MB" in server.log(function)


def test_the_report_tells_the_memory_of_what_a_handler_started(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), CHILD, Timeout=60, MemorySize=512)
    server.invoke(function, 200)

    def reported_mb() -> int:
        server.invoke(function, 0)
        return int(server.log(function).rpartition("Max Memory Used: ")[2].split()[0])

    wait_until(lambda: reported_mb() > 200)


def test_temporary_files_above_the_functions_storage_fail_the_invocation(
    server: FunctionsServer, name: Name
) -> None:
    source = (
        "import tempfile, time\n"
        "def handler(event, context):\n"
        "    with tempfile.NamedTemporaryFile() as file:\n"
        "        for _ in range(event): file.write(bytes(1 << 20))\n"
        "        file.flush(); time.sleep(event and 60)\n"
    )
    server.create(function := name(), source, Timeout=60)
    document, _ = server.invoke(function, 520)
    assert document["errorType"] == "Runtime.ExitError"
    assert "[Errno 28] No space left on device" in document["errorMessage"]
    assert "holds more than 512 MB" in server.log(function)
    assert server.invoke(function, 0)[0] is None


def test_each_environment_has_a_temporary_folder_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    source = (
        "import os, tempfile\n"
        "def handler(event, context):\n"
        "    open(tempfile.gettempdir() + '/kept', 'a').write('x')\n"
        "    if event: os._exit(1)\n"
        "    return tempfile.gettempdir(), os.path.getsize(tempfile.gettempdir() + '/kept')\n"
    )
    temporary = tmp_path / "data" / "tmp"
    with running(tmp_path / "data") as server:
        server.create("one", source)
        server.create("other", source)
        (folder, size), _ = server.invoke("one")
        assert (Path(folder).parent, size) == (temporary, 1)
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        assert server.invoke("one")[0] == [folder, 2]  # as warm environments on Lambda keep theirs
        assert server.invoke("other")[0][0] != folder
        server.invoke("one", "exit")
        wait_until(lambda: not Path(folder).exists())
        server.kill()
    with running(tmp_path / "data") as server:
        assert not temporary.exists()
        assert server.invoke("one")[0][1] == 1
    assert list(temporary.iterdir()) == []
