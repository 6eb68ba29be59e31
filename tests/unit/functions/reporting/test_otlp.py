"""Which exporters the environment asks for, and whose child a span is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tidemill_functions.reporting.otlp import caller_of, exporters, open_otlp

ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp")),
    ],
)
def test_the_standard_variables_decide(environ: dict[str, str], names: tuple[str, ...]) -> None:
    assert exporters(environ, "TRACES") == names


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1", True),
        (f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=0", False),
        (f"{ROOT};Parent=53995c3f42cd8ad8", False),
    ],
)
def test_the_callers_span_is_read_from_the_trace_header(header: str, *, sampled: bool) -> None:
    assert caller_of(header) == (0x5759E988BD862E3FE1BE46A994272793, 0x53995C3F42CD8AD8, sampled)


@pytest.mark.parametrize("header", ["", ROOT, "Parent=53995c3f42cd8ad8", "Root=1-0;Parent=1"])
def test_without_a_parent_there_is_no_caller(header: str) -> None:
    assert caller_of(header) is None


def test_an_unknown_exporter_is_named_and_none_is_opened(caplog: pytest.LogCaptureFixture) -> None:
    assert open_otlp({"OTEL_TRACES_EXPORTER": "zipkin"}) == []
    assert "no exporter is called zipkin: set OTEL_TRACES_EXPORTER to otlp, console or none" in caplog.text


def test_without_the_variables_the_sdk_is_not_even_imported() -> None:
    code = (
        "import sys, tidemill_functions.__main__\n"
        "from tidemill_functions.reporting.otlp import open_otlp\n"
        "assert open_otlp({}) == []\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
