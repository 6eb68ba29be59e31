"""The init of an environment: ten seconds, then once more within the function's own time-out."""

from __future__ import annotations

from pathlib import Path

from tests.harness.functions_server import running


def test_an_init_that_runs_out_of_time_is_begun_again_on_the_invocations_time(tmp_path: Path) -> None:
    source = (
        "import time\n"
        "time.sleep(2)\n"
        "def handler(event, context):\n"
        "    return context.get_remaining_time_in_millis()\n"
    )
    with running(tmp_path / "data", {"TIDEMILL_FUNCTIONS_INIT_TIMEOUT_S": "1"}) as server:
        server.create("slow", source, Timeout=60)
        assert server.invoke("slow")[0] < 58_000
        log = server.log("slow")
        assert log.count("INIT_START") == 2
        assert "Phase: init\tStatus: timeout" in log
        assert server.health()["cold_starts"] == 2


def test_an_init_that_runs_out_of_both_times_fails_the_invocation(tmp_path: Path) -> None:
    source = "import time\ntime.sleep(600)\ndef handler(event, context):\n    return event\n"
    with running(tmp_path / "data", {"TIDEMILL_FUNCTIONS_INIT_TIMEOUT_S": "0.2"}) as server:
        server.create("stuck", source, Timeout=1)
        document, reply = server.invoke("stuck")
        assert document["errorType"] == "Sandbox.Timedout"
        assert document["errorMessage"].endswith("Task timed out after 1.00 seconds")
        assert reply["FunctionError"] == "Unhandled"
        assert server.log("stuck").count("INIT_START") == 2
