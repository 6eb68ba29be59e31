"""Lambda's own lines, in its two formats."""

from __future__ import annotations

import json

import pytest

from tidemill_functions.code.logging_config import logging_config
from tidemill_functions.runtime.platform_lines import PlatformLines, Report

REPORT = Report(request_id="r", duration_ms=1.234, init_ms=None, memory_mb=128, peak_mb=40)


def test_text_lines_are_lambdas() -> None:
    lines = PlatformLines(logging_config("f", None), version="7")
    assert lines.init_start("python:3.11.7") == "INIT_START Runtime Version: python:3.11.7\n"
    assert lines.start("r") == "START RequestId: r Version: 7\n"
    assert lines.end(REPORT) == (
        "END RequestId: r\nREPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\t"
        "Memory Size: 128 MB\tMax Memory Used: 40 MB\t\n"
    )
    assert lines.error("Task timed out\n") == "Task timed out\n"


@pytest.mark.parametrize(
    ("error_type", "status"),
    [
        ("", "success"),
        ("ValueError", "error"),
        ("Runtime.ExitError", "failure"),
        ("Sandbox.Timedout", "timeout"),
    ],
)
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARN"])
def test_json_events_say_how_it_ended_and_obey_the_level(error_type: str, status: str, level: str) -> None:
    config = logging_config("f", {"LogFormat": "JSON", "SystemLogLevel": level})
    lines = PlatformLines(config, version="$LATEST")
    report = Report(
        request_id="r", duration_ms=1.5, init_ms=100, memory_mb=128, peak_mb=40, error_type=error_type
    )
    events = [json.loads(line) for line in lines.end(report).splitlines()]
    expected = {
        "DEBUG": ["platform.runtimeDone", "platform.report"],
        "INFO": ["platform.runtimeDone", "platform.report"] if error_type else ["platform.report"],
        "WARN": ["platform.runtimeDone", "platform.report"] if error_type else [],
    }[level]
    assert [event["type"] for event in events] == expected
    assert {event["record"]["status"] for event in events} <= {status}
    assert bool(lines.start("r")) == (level != "WARN")
    assert lines.error("Task timed out\n") == ""
