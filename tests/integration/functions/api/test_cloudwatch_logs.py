"""Functions' logs in CloudWatch Logs of the AWS in use, in both formats; and while it is away."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import ROLE, FunctionsServer, running, zip_of
from tests.harness.moto_aws import Aws, environment, running_moto
from tests.harness.processes import wait_until

LOGS = """
import logging
logger = logging.getLogger()
def handler(event, context):
    print("printed")
    logger.debug("at debug")
    logger.info("at info")
    logger.warning("at warning")
    if event == "fail":
        raise ValueError("no such order")
    return [context.log_group_name, context.log_stream_name]
"""


def events(aws: Aws, group: str, *, with_line: str) -> list[dict[str, Any]]:
    """Wait for a message with this text; all events of the group, in order."""
    client = aws.client("logs")

    def read() -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = client.filter_log_events(logGroupName=group)["events"]
        except client.exceptions.ResourceNotFoundException:
            return []
        return found if any(with_line in event["message"] for event in found) else []

    return wait_until(read, what=f"{with_line!r} in {group}")


def new_name() -> str:
    return f"f-{uuid.uuid4().hex[:8]}"


def test_each_line_is_an_event_of_the_environments_stream(functions: FunctionsServer, aws: Aws) -> None:
    functions.create(name := new_name(), LOGS)
    (group, stream), _ = functions.invoke(name)
    functions.invoke(name, "fail")
    found = events(aws, f"/aws/lambda/{name}", with_line="no such order")
    assert group == f"/aws/lambda/{name}"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert {event["logStreamName"] for event in found} == {stream}
    kinds = [event["message"].split()[0] for event in found]
    assert kinds[:6] == ["INIT_START", "START", "printed", "[WARNING]", "END", "REPORT"]
    [error] = [event["message"] for event in found if "no such order" in event["message"]]
    # The whole traceback is one event, as on Lambda.
    assert error.startswith("[ERROR] ValueError: no such order\nTraceback (most recent call last):\n")


def test_json_logs_have_levels_and_lambdas_own_events(functions: FunctionsServer, aws: Aws) -> None:
    name, group = new_name(), f"/own/{uuid.uuid4().hex[:8]}"
    config = {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "WARN",
        "SystemLogLevel": "DEBUG",
        "LogGroup": group,
    }
    made = functions.create(name, LOGS, LoggingConfig=config)
    assert made["LoggingConfig"] == config
    (told, stream), _ = functions.invoke(name)
    functions.invoke(name, "fail")
    assert told == group
    found = events(aws, group, with_line='"status":"error"')
    assert {event["logStreamName"] for event in found} == {stream}
    documents = [json.loads(event["message"]) for event in found if event["message"].startswith("{")]
    by_type: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        by_type.setdefault(document.get("type", document.get("level")), []).append(document)
    assert by_type["platform.initStart"][0]["record"]["initializationType"] == "on-demand"
    assert by_type["platform.start"][0]["record"]["version"] == "$LATEST"
    cold, failed = by_type["platform.report"]
    assert (cold["record"]["status"], failed["record"]["status"]) == ("success", "error")
    assert failed["record"]["errorType"] == "ValueError"
    assert cold["record"]["metrics"].keys() == {
        "durationMs",
        "billedDurationMs",
        "memorySizeMB",
        "maxMemoryUsedMB",
        "initDurationMs",
    }
    assert "initDurationMs" not in failed["record"]["metrics"]
    assert [one["record"]["status"] for one in by_type["platform.runtimeDone"]] == ["success", "error"]
    assert [one["message"] for one in by_type["WARNING"]] == [
        "at warning",
        "at warning",
    ]
    assert "INFO" not in by_type
    assert by_type["ERROR"][0]["errorMessage"] == "no such order"


def test_a_system_level_leaves_lambdas_own_events_out(functions: FunctionsServer, aws: Aws) -> None:
    name = new_name()
    functions.create(name, LOGS, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "WARN"})
    functions.invoke(name)
    functions.invoke(name, "fail")
    found = events(aws, f"/aws/lambda/{name}", with_line="platform.report")
    types = [json.loads(one["message"]).get("type") for one in found if one["message"].startswith("{")]
    assert [kind for kind in types if kind] == ["platform.runtimeDone", "platform.report"]


def test_levels_belong_to_the_json_format(functions: FunctionsServer) -> None:
    name = new_name()
    with pytest.raises(ClientError, match="ApplicationLogLevel applies to the log format JSON only"):
        functions.create(name, LOGS, LoggingConfig={"ApplicationLogLevel": "DEBUG"})
    functions.create(name, LOGS, LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"})
    changed = functions.client.update_function_configuration(
        FunctionName=name, LoggingConfig={"LogGroup": "/other"}
    )
    assert changed["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "DEBUG",
        "SystemLogLevel": "INFO",
        "LogGroup": "/other",
    }
    changed = functions.client.update_function_configuration(
        FunctionName=name, LoggingConfig={"LogFormat": "Text"}
    )
    assert changed["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/other"}


def test_while_aws_is_away_lines_are_dropped_counted_and_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = "def handler(event, context):\n    print(('x' * 99 + '\\n') * event, end='')\n"
    with socket.create_server(("127.0.0.1", 0)) as unused:
        away = f"http://127.0.0.1:{unused.getsockname()[1]}"
    seen = ""

    def log() -> str:
        nonlocal seen
        seen += capfd.readouterr().err
        return seen

    with running(tmp_path, environment(away)) as server:
        server.create("talks", source, Timeout=30, MemorySize=512)
        server.invoke("talks", 1)
        wait_until(lambda: "cloudwatch logs takes no log lines" in log())
        for _ in range(6):
            server.invoke("talks", 10_000)  # a megabyte: the buffer has room for four
        assert server.invoke("talks", 0)[1]["StatusCode"] == 200
    wait_until(lambda: "log lines not sent to cloudwatch logs before the stop" in log())
    assert log().count("cloudwatch logs takes no log lines") == 1
    [lines] = re.findall(r"before the stop lines=(\d+)", log())
    assert int(lines) >= 60_000


def test_lines_are_sent_once_aws_is_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with running_moto() as aws, running(tmp_path, environment(aws.url)) as server:
        server.create("orders", LOGS)
        server.invoke("orders")
        events(aws, "/aws/lambda/orders", with_line="REPORT")
        # As a restart of the embedded AWS, which forgets everything.
        aws.client("logs").delete_log_group(logGroupName="/aws/lambda/orders")
        (_, stream), _ = server.invoke("orders")
        found = events(aws, "/aws/lambda/orders", with_line="REPORT")
    assert {event["logStreamName"] for event in found} == {stream}
    assert "cloudwatch logs takes no log lines" not in capfd.readouterr().err


def test_console_lines_of_node_are_json_documents_at_their_levels(functions: FunctionsServer) -> None:
    if shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing")
        pytest.skip("node is missing")
    source = (
        "exports.handler = async () => {\n"
        "  console.log('left out'); console.warn('a', { b: 1 }); console.error(new TypeError('no'));\n"
        "};\n"
    )
    functions.client.create_function(
        FunctionName=(name := new_name()),
        Runtime="nodejs20.x",
        Role=ROLE,
        Handler="app.handler",
        Timeout=20,
        Code={"ZipFile": zip_of({"app.js": source})},
        LoggingConfig={"LogFormat": "JSON", "ApplicationLogLevel": "WARN", "SystemLogLevel": "WARN"},
    )
    _, reply = functions.invoke(name)
    warned, failed = (json.loads(line) for line in functions.log(name).splitlines())
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert (warned["level"], warned["message"], warned["requestId"]) == ("WARN", "a { b: 1 }", request_id)
    assert (failed["level"], failed["errorType"], failed["errorMessage"]) == ("ERROR", "TypeError", "no")
