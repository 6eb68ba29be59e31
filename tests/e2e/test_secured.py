"""Each way to log in: mapping, poller, broker, function, destination; and again after a rotation."""

from __future__ import annotations

import io
import json
import os
import runpy
import signal
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.harness.processes import wait_until
from tests.harness.stack import POLLER_ENVIRON, Program
from tests.harness.up import REGION, Up, running_up
from tidemill_broker.auth.tls.issuing import Authority
from tidemill_local.secured.access import certificate_secret
from tidemill_local.secured.aws_setup import CA_SECRET, CERTIFICATE_SECRET, SCRAM_SECRET, secret_arn

pytestmark = pytest.mark.slow

ACCOUNT = "123456789012"
HANDLER = """
import base64

def handler(event, context):
    for records in event["records"].values():
        for record in records:
            assert base64.b64decode(record["value"]) != b"poison", "cannot digest this"
            print("took", record["offset"])
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(
        tmp_path_factory.mktemp("secured") / "data",
        *("--auth", "iam,scram,mtls,plain"),
        TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S="0.02",
        TIDEMILL_POLLER_RETRY_BACKOFF_MAX_S="0.1",
        TIDEMILL_POLLER_SECRET_REFRESH_S="0.3",
    ) as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A topic, a function that fails on poison, and a queue for what failed; a mapping between them."""

    up: Up
    name: str
    uuid: str
    queue_url: str
    mappings: Any  # the Lambda client of the poller that runs the mapping

    def await_failure(self, offset: int) -> None:
        """Until the record of that offset lies in the queue."""
        sqs = self.up.client("sqs")

        def failed() -> bool:
            messages = sqs.receive_message(QueueUrl=self.queue_url, WaitTimeSeconds=1).get("Messages", [])
            records = [json.loads(message["Body"])["KafkaBatchInfo"]["recordsInfo"] for message in messages]
            return any(about[f"{self.name}-0"]["firstRecordOffset"] == str(offset) for about in records)

        wait_until(failed, what=f"the failure record of offset {offset} of {self.name}")

    def await_new_connection(self) -> None:
        """Until the poller has noticed the rotated secret and reads the topic again."""

        def reads() -> bool:
            _, rotated, since = self.up.log.partition(f"connecting anew mapping={self.uuid}")
            return bool(rotated) and f"assigned topic={self.name} " in since

        wait_until(reads, what=f"{self.name} to be read with the new secret")

    def await_result(self, text: str) -> None:
        """Until the mapping's LastProcessingResult holds a text."""

        def told() -> bool:
            return text in self.mappings.get_event_source_mapping(UUID=self.uuid)["LastProcessingResult"]

        wait_until(told, what=f"the mapping's result to say {text!r}")


@pytest.fixture
def flow(up: Up, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Makes a flow from the members of a mapping that name its source."""
    made: list[Flow] = []

    def make(*, mappings: Any = None, **source: Any) -> Flow:
        name = request.node.name.replace("_", "-")[:40]
        functions = up.client("lambda")
        mappings = mappings or functions
        with zipfile.ZipFile(code := io.BytesIO(), "w") as archive:
            archive.writestr("app.py", HANDLER)
        functions.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=f"arn:aws:iam::{ACCOUNT}:role/any",
            Handler="app.handler",
            Code={"ZipFile": code.getvalue()},
        )
        queue_url = up.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        up.cli("topic", "create", name)
        uuid = mappings.create_event_source_mapping(
            FunctionName=name,
            Topics=[name],
            StartingPosition="TRIM_HORIZON",
            BatchSize=1,
            MaximumRetryAttempts=0,
            ProvisionedPollerConfig={"MinimumPollers": 1},
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}},
            **source,
        )["UUID"]
        made.append(Flow(up=up, name=name, uuid=uuid, queue_url=queue_url, mappings=mappings))
        return made[-1]

    yield make
    for each in made:
        each.mappings.delete_event_source_mapping(UUID=each.uuid)


def access(kind: str, secret: str) -> dict[str, str]:
    return {"Type": kind, "URI": secret_arn(secret, REGION, ACCOUNT)}


def client_options(up: Up, mechanism: str) -> dict[str, Any]:
    """What the client configuration that `up` has written says."""
    file = up.data_dir / "clients" / f"{mechanism}_python.py"
    options: dict[str, Any] = runpy.run_path(str(file))["confluent"]()
    return options | {"log_level": 0}


def produce(options: Mapping[str, Any], topic: str, *values: str) -> None:
    producer = Producer(dict(options))
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def logs_in(options: Mapping[str, Any]) -> bool:
    with suppress(Exception):
        return bool(AdminClient(dict(options)).list_topics(timeout=2).brokers)
    return False


def put_secret(up: Up, name: str, content: Mapping[str, str]) -> None:
    up.client("secretsmanager").put_secret_value(SecretId=name, SecretString=json.dumps(content))


def restart_broker(up: Up) -> None:
    """Kill it: every connection is gone, and whoever comes back has to log in anew."""
    before = up.pids["broker"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: up.pids["broker"] != before, what="the broker to be started again")


@pytest.fixture
def as_user(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a shell that has read iam.env."""
    for line in (up.data_dir / "clients" / "iam.env").read_text().splitlines():
        command, *assignments = line.split()
        if command == "export":
            for assignment in assignments:
                name, _, value = assignment.partition("=")
                monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("as_user")
def test_iam(up: Up, flow: Any) -> None:
    """The poller signs with the administrator's key: without the key it says so, with it again it goes on."""
    mine = flow(EventSourceArn=up.ready["cluster_arn"])
    produce(client_options(up, "iam"), mine.name, "good", "poison")
    mine.await_failure(1)
    identities = up.data_dir / "broker" / "identities.json"
    kept = identities.read_bytes()
    up.cli("broker", "identity", "remove", "test", "--file", str(identities))
    mine.await_result("PROBLEM: SASL authentication failed.")
    produce(client_options(up, "iam"), mine.name, "poison")
    identities.write_bytes(kept)
    mine.await_failure(2)
    produce(client_options(up, "iam"), mine.name, "good")
    mine.await_result("OK")


@pytest.fixture
def own_poller(up: Up, tmp_path: Path) -> Iterator[Program]:
    """A poller beside `up`'s, on the same endpoint, that asks a process for its credentials."""
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = cat {tmp_path / 'credentials.json'}\n")
    endpoint = up.ready["endpoint_url"]
    environ = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_CONFIG_FILE": str(config),
        "AWS_ENDPOINT_URL": endpoint,
        "TIDEMILL_POLLER_CA_FILE": str(up.data_dir / "tls" / "ca.pem"),
        **POLLER_ENVIRON,
    }
    arguments = ("--data-dir", str(tmp_path / "poller"))
    poller = Program(
        name="poller",
        module="tidemill_poller",
        arguments=arguments,
        environ=environ,
        run_dir=tmp_path / "run",
    )
    yield poller
    poller.kill()


def hand_out(up: Up, key_id: str, secret: str, process_file: Path) -> None:
    """Give the broker a key of the administrator's, and the poller's credential process the same."""
    identities = ("--file", str(up.data_dir / "broker" / "identities.json"))
    key = ("--access-key-id", key_id, "--secret-from-stdin")
    principal = f"arn:aws:iam::{ACCOUNT}:user/poller"
    up.cli("broker", "identity", "add", "--principal", principal, "--admin", *key, *identities, stdin=secret)
    # Near its end, so that botocore asks the process anew with every login.
    expires = datetime.now(UTC) + timedelta(minutes=9)
    content = {"Version": 1, "AccessKeyId": key_id, "SecretAccessKey": secret}
    process_file.write_text(json.dumps(content | {"Expiration": expires.isoformat()}))


@pytest.mark.usefixtures("as_user")
def test_iam_with_a_new_key(up: Up, own_poller: Program, flow: Any, tmp_path: Path) -> None:
    """The key is rotated where the poller takes it from; with the old one gone, it comes with the new."""
    process_file = tmp_path / "credentials.json"
    hand_out(up, "TKIAFIRSTKEYFIRSTKEY", "the-first-secret", process_file)
    mappings = boto3.client(
        "lambda",
        endpoint_url=own_poller.start().url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    mine = flow(mappings=mappings, EventSourceArn=up.ready["cluster_arn"])
    produce(client_options(up, "iam"), mine.name, "good", "poison")
    mine.await_failure(1)
    hand_out(up, "TKIASECONDKEYSECONDK", "the-second-secret", process_file)
    identities = up.data_dir / "broker" / "identities.json"
    up.cli("broker", "identity", "remove", "TKIAFIRSTKEYFIRSTKEY", "--file", str(identities))
    produce(client_options(up, "iam"), mine.name, "poison")
    mine.await_failure(2)


def test_scram(up: Up, flow: Any) -> None:
    """A new password in the secret: the old one is of no use any more, and the poller comes with the new."""
    mine = flow(
        EventSourceArn=up.ready["cluster_arn"],
        SourceAccessConfigurations=[access("SASL_SCRAM_512_AUTH", SCRAM_SECRET)],
    )
    options = client_options(up, "scram")
    produce(options, mine.name, "good", "poison")
    mine.await_failure(1)
    rotated = options | {"sasl.password": "a new password"}
    put_secret(up, SCRAM_SECRET, {"username": "tidemill", "password": "a new password"})
    wait_until(lambda: logs_in(rotated), what="the new password to be good")
    assert not logs_in(options)
    mine.await_new_connection()
    restart_broker(up)
    produce(rotated, mine.name, "poison")
    mine.await_failure(2)
    put_secret(up, SCRAM_SECRET, {"username": "tidemill", "password": str(options["sasl.password"])})


def test_basic_auth(up: Up, flow: Any) -> None:
    """A self-managed source over SASL/PLAIN, with the CA in a secret too."""
    paula = {"username": "paula", "password": "the first password"}
    up.client("secretsmanager").create_secret(Name="AmazonMSK_paula", SecretString=json.dumps(paula))
    options = client_options(up, "plain") | {"sasl.username": "paula", "sasl.password": "the first password"}
    wait_until(lambda: logs_in(options), what="the new user to be known")
    servers = [up.ready["listeners"]["scram"]]
    mine = flow(
        SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}},
        SourceAccessConfigurations=[
            access("BASIC_AUTH", "AmazonMSK_paula"),
            access("SERVER_ROOT_CA_CERTIFICATE", CA_SECRET),
        ],
    )
    produce(options, mine.name, "good", "poison")
    mine.await_failure(1)
    rotated = options | {"sasl.password": "the second password"}
    put_secret(up, "AmazonMSK_paula", paula | {"password": "the second password"})
    mine.await_new_connection()
    wait_until(lambda: logs_in(rotated), what="the second password to be good")
    produce(rotated, mine.name, "poison")
    mine.await_failure(2)


def test_mtls(up: Up, flow: Any, tmp_path: Path) -> None:
    """A certificate that ACLs have revoked stops the mapping; a new one in the secret lets it go on."""
    mine = flow(
        EventSourceArn=up.ready["cluster_arn"],
        SourceAccessConfigurations=[access("CLIENT_CERTIFICATE_TLS_AUTH", CERTIFICATE_SECRET)],
    )
    options = client_options(up, "mtls")
    produce(options, mine.name, "good", "poison")
    mine.await_failure(1)
    admin = AdminClient(options)
    rules = {"rotated": AclPermissionType.ALLOW, "client": AclPermissionType.DENY}
    bindings = [
        AclBinding(
            ResourceType.TOPIC,
            mine.name,
            ResourcePatternType.LITERAL,
            f"User:CN={name}",
            "*",
            AclOperation.ALL,
            permission,
        )
        for name, permission in rules.items()
    ]
    for created in admin.create_acls(bindings).values():
        created.result(10)
    mine.await_result("PROBLEM: Cluster failed to authorize Lambda.")
    file = Authority.open(up.data_dir / "tls").issue_client("rotated")
    ca = (up.data_dir / "tls" / "ca.pem").read_text()
    put_secret(up, CERTIFICATE_SECRET, certificate_secret(file.read_text(), ca))
    files = {"ssl.certificate.location": str(file), "ssl.key.location": str(file)}
    produce(options | files, mine.name, "poison")
    mine.await_failure(2)
    original = (up.data_dir / "tls" / "client.pem").read_text()
    put_secret(up, CERTIFICATE_SECRET, certificate_secret(original, ca))
