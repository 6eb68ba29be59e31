"""The whole tour against the one endpoint: by boto3 alone, by the AWS CLI, by our own command line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.harness.processes import wait_until
from tests.harness.up import Up, clean_environ, running_up

TIDEMILL = str(Path(sys.executable).with_name("tidemill"))
AWS_CLI = str(Path(sys.executable).with_name("aws"))
HANDLER = """
import base64

def handler(event, context):
    for records in event.get("records", {}).values():
        for record in records:
            value = base64.b64decode(record["value"])
            print("got", value.decode())
            if value == b"poison":
                raise ValueError("poison")
    return {"seen": sorted(event)}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(
        tmp_path_factory.mktemp("up"),
        TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S="0.02",
        TIDEMILL_POLLER_RETRY_BACKOFF_MAX_S="0.05",
    ) as running:
        yield running


def zipped(source: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("app.py", source)
    return archive.getvalue()


def produce(servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value, b"key")
    assert producer.flush(20) == 0


def test_the_whole_tour_by_boto3_alone(up: Up) -> None:
    """Zip, queue, mapping, records: the poison record alone is in the queue; the mapping can be deleted."""
    functions, sqs, kafka = up.client("lambda"), up.client("sqs"), up.client("kafka")
    function_arn = functions.create_function(
        FunctionName="tour",
        Runtime="python3.11",
        Role="arn:aws:iam::123456789012:role/any",
        Handler="app.handler",
        Code={"ZipFile": zipped(HANDLER)},
    )["FunctionArn"]
    queue_url = sqs.create_queue(QueueName="tour-failures")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    cluster_arn = kafka.list_clusters_v2()["ClusterInfoList"][0]["ClusterArn"]
    assert cluster_arn == up.ready["cluster_arn"]
    servers = kafka.get_bootstrap_brokers(ClusterArn=cluster_arn)["BootstrapBrokerString"]
    assert servers == up.ready["bootstrap_servers"]
    produce(servers, "tour", [b"one", b"two", b"poison", b"three"])
    mapping = functions.create_event_source_mapping(
        FunctionName="tour",
        EventSourceArn=cluster_arn,
        Topics=["tour"],
        StartingPosition="TRIM_HORIZON",
        ProvisionedPollerConfig={"MinimumPollers": 1},
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": attributes["Attributes"]["QueueArn"]}},
    )
    assert mapping["FunctionArn"] == function_arn

    def receive() -> Any:
        return sqs.receive_message(QueueUrl=queue_url).get("Messages")

    [message] = wait_until(receive, what="the failure record")
    failure = json.loads(message["Body"])
    assert failure["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert failure["requestContext"]["functionArn"] == function_arn
    [(partition, about)] = failure["KafkaBatchInfo"]["recordsInfo"].items()
    assert partition == "tour-0"
    assert (about["firstRecordOffset"], about["lastRecordOffset"]) == ("2", "2")
    wait_until(
        lambda: "got three" in up.cli("function", "logs", "tour"),
        what="the record behind the poison to be handled",
    )
    assert functions.delete_event_source_mapping(UUID=mapping["UUID"])["State"] == "Deleting"

    def gone() -> bool:
        try:
            functions.get_event_source_mapping(UUID=mapping["UUID"])
        except functions.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_until(gone, what="the mapping to be gone")


def test_other_aws_services_answer_behind_the_same_endpoint(up: Up) -> None:
    """S3 with its virtual hosts off and on, SNS, DynamoDB, Secrets Manager, KMS and STS."""
    s3 = up.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a/b c%2F", Body=b"x" * 100_000)
    assert s3.get_object(Bucket="bucket", Key="a/b c%2F")["Body"].read() == b"x" * 100_000
    assert up.client("sns").create_topic(Name="t")["TopicArn"].endswith(":123456789012:t")
    assert up.client("dynamodb").list_tables()["TableNames"] is not None
    secrets = up.client("secretsmanager")
    secrets.create_secret(Name="AmazonMSK_x", SecretString="{}")
    assert secrets.get_secret_value(SecretId="AmazonMSK_x")["SecretString"] == "{}"
    assert up.client("kms").list_keys()["Keys"] is not None
    assert up.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_the_aws_cli_works_with_the_endpoint_alone(up: Up) -> None:
    """AWS_ENDPOINT_URL is all that the AWS CLI needs for Lambda, MSK and STS."""
    environ = clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"], AWS_PAGER="")

    def aws(*arguments: str) -> Any:
        ran = subprocess.run(
            [AWS_CLI, *arguments, "--output", "json"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(ran.stdout)

    clusters = aws("kafka", "list-clusters-v2")["ClusterInfoList"]
    assert [cluster["ClusterArn"] for cluster in clusters] == [up.ready["cluster_arn"]]
    brokers = aws("kafka", "get-bootstrap-brokers", "--cluster-arn", up.ready["cluster_arn"])
    assert brokers["BootstrapBrokerString"] == up.ready["bootstrap_servers"]
    assert "EventSourceMappings" in aws("lambda", "list-event-source-mappings")


def test_our_own_command_line_does_the_tour(up: Up, tmp_path: Path) -> None:
    """Register, invoke, topic, mapping, watch, logs, delete: each for people and with --json for scripts."""
    (tmp_path / "app.py").write_text(HANDLER)
    up.cli("function", "register", "cli", f"{tmp_path}/app.py:handler", "--timeout", "20")
    names = [function["FunctionName"] for function in json.loads(up.cli("function", "list", "--json"))]
    assert "cli" in names
    assert json.loads(up.cli("function", "invoke", "cli", "--payload", '{"a": 1}')) == {"seen": ["a"]}
    assert "got" not in up.cli("function", "logs", "cli", "-n", "5")
    up.cli("topic", "create", "cli-topic", "--partitions", "2", "--config", "retention.ms=60000000")
    assert "cli-topic" in json.loads(up.cli("topic", "list", "--json"))
    placed = json.loads(up.cli("topic", "produce", "cli-topic", "one", "poison", "--key", "k", "--json"))
    assert sum(placed["records"].values()) == 2
    about = json.loads(up.cli("topic", "describe", "cli-topic", "--json"))
    assert about["configs"] == {"retention.ms": "60000000"}
    assert sum(partition["end"] for partition in about["partitions"]) == 2
    lines = up.cli("topic", "tail", "cli-topic", "--from-beginning", "-n", "2", "--json").splitlines()
    assert [json.loads(line)["value"] for line in lines] == ["one", "poison"]
    flags = ("--bisect", "--retries", "1", "--min-pollers", "1", "--json")
    uuid = json.loads(up.cli("mapping", "create", "cli", "--topic", "cli-topic", *flags))["UUID"]

    def settled() -> Any:
        seen = json.loads(up.cli("mapping", "watch", uuid, "--once", "--json"))
        partitions = seen["status"]["partitions"]
        return seen if sum(p["committed"] for p in partitions if p["committed"] > 0) == 2 else None

    seen = wait_until(settled, what="both records to be settled")
    assert len(seen["deliveries"]) == 1
    assert "poison" in up.cli("mapping", "watch", uuid, "--once")
    assert uuid in up.cli("mapping", "list")
    updated = json.loads(up.cli("mapping", "update", uuid, "--batch-size", "7", "--json"))
    assert updated["BatchSize"] == 7
    up.cli("mapping", "delete", uuid)
    up.cli("function", "delete", "cli")


def test_a_log_that_is_empty_is_waited_for_and_a_dropped_record_is_in_the_list(
    up: Up, tmp_path: Path
) -> None:
    """`function logs` says that it waits; `mapping list` says what was lost; both take no flag for it."""
    (tmp_path / "app.py").write_text(HANDLER)
    up.cli("function", "register", "lossy", f"{tmp_path}/app.py:handler")
    assert up.cli("function", "logs", "lossy", "--wait", "0") == ""
    environ = clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"], PYTHONUNBUFFERED="1")
    command = [TIDEMILL, "function", "logs", "lossy"]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as logs:
        assert logs.stderr is not None
        assert logs.stderr.readline() == (
            "lossy has no log of an invocation yet: waiting up to 60 s for one.\n"
        )
        flags = ("--retries", "0", "--min-pollers", "1", "--json")
        uuid = json.loads(up.cli("mapping", "create", "lossy", "--topic", "lossy", *flags))["UUID"]
        up.cli("topic", "produce", "lossy", "poison")
        said, _ = logs.communicate(timeout=60)
    assert "ValueError: poison" in said
    assert said.splitlines()[-1].startswith("REPORT RequestId:")

    def dropped() -> bool:
        rows = up.cli("mapping", "list", "--function", "lossy").splitlines()
        return rows[1].endswith("1 record dropped, no destination")

    wait_until(dropped, what="the list to say that a record was dropped")
    assert json.loads(up.cli("mapping", "get", "lossy", "--json"))["UUID"] == uuid
    assert json.loads(up.cli("mapping", "get", uuid[:8], "--json"))["UUID"] == uuid
    up.cli("mapping", "delete", "lossy")
    up.cli("function", "delete", "lossy")


def test_a_record_that_a_partition_is_stuck_at_is_skipped_by_hand(up: Up, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANDLER)
    up.cli("function", "register", "stuck", f"{tmp_path}/app.py:handler")
    up.cli("topic", "create", "stuck", "--partitions", "1")
    up.cli("mapping", "create", "stuck", "--topic", "stuck")
    up.cli("topic", "produce", "stuck", "poison")

    wait_until(lambda: "retrying" in up.cli("mapping", "watch", "stuck", "--once"), what="the attempts")
    skipped = json.loads(up.cli("mapping", "skip", "stuck", "--partition", "stuck-0", "--json"))
    assert (skipped["partition"], skipped["offset"]) == ("stuck-0", 0)
    up.cli("topic", "produce", "stuck", "next")

    wait_until(lambda: "got next" in up.cli("function", "logs", "stuck"), what="the record behind it")
    nothing = up.cli("mapping", "skip", "stuck", "--partition", "stuck-0", status=1)
    assert (
        nothing == "error: Partition stuck-0 does not wait to try a record again: there is nothing to skip.\n"
    )
    up.cli("mapping", "delete", "stuck")
    up.cli("function", "delete", "stuck")


def test_a_rejection_is_one_sentence_and_status_1(up: Up) -> None:
    """AWS's own words, without a traceback."""
    said = up.cli("mapping", "get", "00000000-0000-4000-8000-000000000000", status=1)
    assert said.startswith("error: ResourceNotFoundException: ")
    assert "Traceback" not in said
    flags = ("nobody", "--topic", "orders", "--retries", "1")
    refused = "Unsupported 'maximumRetryAttempts' parameter for given event source mapping type."
    assert up.cli("mapping", "create", *flags, status=1).splitlines() == [
        f"error: InvalidParameterValueException: {refused}",
        "hint: Lambda takes this only in provisioned mode: add --min-pollers 1 (ProvisionedPollerConfig).",
    ]
    assert up.cli("topic", "describe", "no-such-topic", status=1) == (
        "error: There is no topic no-such-topic.\nhint: Create it: tidemill topic create no-such-topic\n"
    )
    assert up.cli("function", "logs", "nobody", status=1).startswith("error: No function is called 'nobody'")


def test_a_function_is_invoked_with_the_event_that_its_mapping_sends(up: Up, tmp_path: Path) -> None:
    note = tmp_path / "events"
    (tmp_path / "notes.py").write_text(
        "import json\n"
        "def handler(event, context):\n"
        f"    print(json.dumps(event), file=open({str(note)!r}, 'a'))\n"
    )

    def tidemill(*arguments: str) -> str:
        environ = clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"])
        done = subprocess.run(
            [TIDEMILL, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tidemill("topic", "create", "noted")
    tidemill("topic", "produce", "noted", "a", "b", "c", "--key", "k", "--header", "h=v")
    tidemill("function", "register", "notes", f"{tmp_path / 'notes.py'}:handler")
    tidemill("mapping", "create", "notes", "--topic", "noted")
    wait_until(lambda: note.exists() and note.read_text().endswith("\n"))
    sent = note.read_text()
    printed = tidemill("function", "event", "--topic", "noted", "--offset", "0", "--count", "10")
    assert json.loads(printed) == json.loads(sent)
    tidemill("function", "invoke", "notes", "--from-topic", "noted", "--offset", "1", "--count", "1")
    invoked = json.loads(note.read_text().splitlines()[-1])
    assert invoked["records"]["noted-0"] == json.loads(sent)["records"]["noted-0"][1:2]
    assert (
        "No partition"
        in subprocess.run(
            [TIDEMILL, "mapping", "retry", "notes"],
            env=clean_environ(AWS_ENDPOINT_URL=up.ready["endpoint_url"]),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stderr
    )
