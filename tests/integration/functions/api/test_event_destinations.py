"""What becomes of an Event invocation's result: SQS, SNS, EventBridge, S3 and Lambda, on moto's server."""

from __future__ import annotations

import json
import socket
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import FunctionsServer, running
from tests.harness.moto_aws import ACCOUNT, Aws, environment
from tests.harness.processes import wait_until

ECHO = "def handler(event, context):\n    return {'got': event}\n"
FAILS = "def handler(event, context):\n    raise ValueError('no such order')\n"


def made(server: FunctionsServer, source: str, **destinations: str) -> tuple[str, str]:
    """A function with these destinations; its name and ARN."""
    name = f"f-{uuid.uuid4().hex[:8]}"
    arn = server.create(name, source)["FunctionArn"]
    server.client.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=1,
        DestinationConfig={side: {"Destination": to} for side, to in destinations.items()},
    )
    return name, arn


def test_a_success_is_recorded_in_the_queue_of_on_success(functions: FunctionsServer, aws: Aws) -> None:
    url, queue = aws.queue("success")
    name, arn = made(functions, ECHO, OnSuccess=queue, OnFailure=f"{queue}-other")
    _, reply = functions.invoke(name, {"x": 1}, InvocationType="Event")
    record = json.loads(aws.message(url)["Body"])
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": reply["ResponseMetadata"]["RequestId"],
            "functionArn": f"{arn}:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"x": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"got": {"x": 1}},
    }
    config = functions.client.get_function_event_invoke_config(FunctionName=name)
    assert config["DestinationConfig"]["OnSuccess"] == {"Destination": queue}


def test_a_failure_is_recorded_and_its_event_goes_to_the_dead_letter_queue_too(
    functions: FunctionsServer, aws: Aws
) -> None:
    failures, failure_queue = aws.queue("failures")
    letters, letter_queue = aws.queue("letters")
    name, _ = made(functions, FAILS, OnFailure=failure_queue)
    changed = functions.client.update_function_configuration(
        FunctionName=name, DeadLetterConfig={"TargetArn": letter_queue}
    )
    assert changed["DeadLetterConfig"] == {"TargetArn": letter_queue}
    _, reply = functions.invoke(name, {"x": 2}, InvocationType="Event")
    record = json.loads(aws.message(failures)["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert record["responsePayload"]["errorMessage"] == "no such order"
    letter = aws.message(letters)
    assert json.loads(letter["Body"]) == {"x": 2}
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes == {
        "RequestID": reply["ResponseMetadata"]["RequestId"],
        "ErrorCode": "200",
        "ErrorMessage": "no such order",
    }


def test_topics_event_buses_and_buckets_take_records(functions: FunctionsServer, aws: Aws) -> None:
    url, queue = aws.queue("subscribed")
    topic = aws.client("sns").create_topic(Name="results")["TopicArn"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    name, _ = made(functions, FAILS, OnFailure=topic)
    functions.invoke(name, 1, InvocationType="Event")
    published = json.loads(json.loads(aws.message(url)["Body"])["Message"])
    assert published["requestContext"]["condition"] == "RetriesExhausted"

    events = aws.client("events")
    bus = events.create_event_bus(Name="results")["EventBusArn"]
    events.put_rule(Name="all", EventBusName="results", EventPattern=json.dumps({"source": ["lambda"]}))
    events.put_targets(Rule="all", EventBusName="results", Targets=[{"Id": "q", "Arn": queue}])
    name, arn = made(functions, ECHO, OnSuccess=bus)
    functions.invoke(name, 2, InvocationType="Event")
    event = json.loads(aws.message(url)["Body"])
    assert event["detail-type"] == "Lambda Function Invocation Result - Success"
    assert (event["resources"], event["detail"]["requestPayload"]) == ([bus, f"{arn}:$LATEST"], 2)

    aws.client("s3").create_bucket(Bucket="results")
    name, _ = made(functions, FAILS, OnFailure="arn:aws:s3:::results")
    functions.invoke(name, 3, InvocationType="Event")
    objects = wait_until(lambda: aws.client("s3").list_objects_v2(Bucket="results").get("Contents"))
    assert objects[0]["Key"].startswith(f"aws/lambda/async/{name}/")
    body = aws.client("s3").get_object(Bucket="results", Key=objects[0]["Key"])["Body"].read()
    assert json.loads(body)["requestPayload"] == 3


def test_a_function_of_this_server_takes_records(functions: FunctionsServer, tmp_path: Path) -> None:
    note = tmp_path / "note"
    writes = f"import json\ndef handler(e, c):\n    open({str(note)!r}, 'w').write(json.dumps(e) + '\\n')\n"
    _, receiver = made(functions, writes)
    name, _ = made(functions, ECHO, OnSuccess=receiver)
    functions.invoke(name, "hello", InvocationType="Event")
    wait_until(lambda: note.exists() and note.read_text().endswith("\n"))
    assert json.loads(note.read_text())["responsePayload"] == {"got": "hello"}


def test_a_missing_queue_is_named_in_the_log_and_the_event_is_kept_aside(
    aws: Aws, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:missing"
    with running(tmp_path, environment(aws.url)) as server:
        name, _ = made(server, FAILS, OnFailure=queue)
        server.invoke(name, {"kept": True}, InvocationType="Event")
        wait_until(lambda: server.health()["events"] == 0)
    [aside] = (tmp_path / "events" / "undelivered").glob("*.event")
    assert aside.read_bytes().endswith(b'{"kept": true}')
    log = capfd.readouterr().err
    assert "event result rejected request_id=" in log
    assert f"destination={queue}" in log
    assert f"event kept file={aside}" in log


def test_a_result_that_was_not_sent_survives_kill_9_and_is_sent_once_aws_is_back(
    aws: Aws, tmp_path: Path
) -> None:
    url, queue = aws.queue("late")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        away = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with running(tmp_path, environment(away)) as server:
        name, _ = made(server, FAILS, OnFailure=queue)
        server.invoke(name, {"late": 1}, InvocationType="Event")
        wait_until(lambda: [path for path in events(tmp_path) if b'"targets":[{' in path.read_bytes()])
        server.kill()
    with running(tmp_path, environment(aws.url)) as server:
        record = json.loads(aws.message(url)["Body"])
        assert record["requestPayload"] == {"late": 1}
        assert record["requestContext"]["approximateInvokeCount"] == 2
        wait_until(lambda: server.health()["events"] == 0)
        assert not events(tmp_path)


def events(data_dir: Path) -> list[Path]:
    return list((data_dir / "events").glob("*.event"))


def test_what_takes_no_results_is_rejected(functions: FunctionsServer) -> None:
    name, _ = made(functions, ECHO)
    of = {"FunctionName": name}
    for side, arn in (
        ("OnSuccess", "arn:aws:s3:::bucket"),
        ("OnFailure", f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/s"),
        ("OnFailure", f"arn:aws:sqs:us-east-1:{ACCOUNT}:q.fifo"),
    ):
        with pytest.raises(ClientError, match=r"InvalidParameterValueException.*"):
            functions.client.put_function_event_invoke_config(
                **of, DestinationConfig={side: {"Destination": arn}}
            )
    with pytest.raises(ClientError, match="DeadLetterConfig"):
        functions.client.update_function_configuration(
            **of, DeadLetterConfig={"TargetArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f"}
        )


def test_a_payload_that_nests_deep_does_not_end_the_server(functions: FunctionsServer, aws: Aws) -> None:
    url, queue = aws.queue("deep")
    name, _ = made(functions, "def handler(event, context):\n    return 'done'\n", OnSuccess=queue)
    deep = "[" * 300 + "]" * 300
    functions.client.invoke(FunctionName=name, Payload=deep, InvocationType="Event")
    assert f'"requestPayload":{deep}' in aws.message(url)["Body"]
