"""Whole programs for end-to-end tests: a Kafka, an AWS (moto's server), functions and a poller.

Owns their start, kill -9 and restart on the same ports and data, and the clients that a user would take.
Knows the programs by their command lines only.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import ROOT, TidemillBroker
from tests.oracles.apache_kafka import ApacheKafka

REGION = "us-east-1"
ACCOUNT = "123456789012"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# Back-off short enough for tests, long enough that a retry is seen to wait.
POLLER_ENVIRON = {
    "TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S": "0.05",
    "TIDEMILL_POLLER_RETRY_BACKOFF_MAX_S": "0.4",
    "TIDEMILL_POLLER_TRACE_BUFFER_DELIVERIES": "64",
}


@dataclass(kw_only=True)
class Program:
    """One of our programs as a process. After its first start it keeps its port."""

    name: str
    module: str
    arguments: tuple[str, ...]
    environ: dict[str, str]
    run_dir: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has written to stderr, over all its starts."""
        return (self.run_dir / f"{self.name}.log").read_text(errors="replace")

    def start(self, *, timeout_s: float = 30.0) -> Program:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        ready = self.run_dir / f"{self.name}.json"
        ready.unlink(missing_ok=True)
        own = ["--port", str(self.port), "--ready-file", str(ready), *self.arguments]
        with (self.run_dir / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *own],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=_environ(self.environ),
            )
        deadline = time.monotonic() + timeout_s
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} did not start: {self.log[-2000:]}")
            time.sleep(0.005)
        self.port = json.loads(ready.read_text())["port"]
        return self

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self, *, timeout_s: float = 45.0) -> None:
        """SIGTERM and wait; a program that hangs is killed and the test told so."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not stop on SIGTERM: {self.log[-2000:]}") from None
        self.process = None

    def children(self, containing: str) -> list[int]:
        """Pids of its child processes with this text in their command line."""
        assert self.process is not None
        parent, found = self.process.pid, []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                ppid = int(status.read_text().rpartition(")")[2].split()[1])
                command = (status.parent / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, IndexError):
                continue  # it ended meanwhile
            if ppid == parent and containing in command:
                found.append(int(status.parent.name))
        return found


def _environ(added: dict[str, str]) -> dict[str, str]:
    """The test's environment without what the user's own AWS, OpenTelemetry or Tidemill set-up put there."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "OTEL_", "TIDEMILL_"))
    }
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**inherited, **nowhere, **CREDENTIALS, "AWS_REGION": REGION, "PYTHONUNBUFFERED": "1", **added}


@dataclass(kw_only=True)
class Stack:
    """Everything between a topic and a destination. `kafka` is our broker or a real Apache Kafka."""

    data_dir: Path
    kafka: TidemillBroker | ApacheKafka
    aws: Program
    functions: Program
    poller: Program
    mappings: list[str] = field(default_factory=list)

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client that talks to the program which owns the service."""
        url = {"lambda": self.poller.url}.get(service, self.aws.url)
        return self._client(service, url, **options)

    @property
    def functions_client(self) -> Any:
        """The Lambda client for functions; `client("lambda")` is for mappings."""
        return self._client("lambda", self.functions.url)

    def create_function(self, name: str, source: str, environment: dict[str, str] | None = None) -> str:
        """A function from a zip with one module; its ARN."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as bundle:
            bundle.writestr("handler.py", source)
        reply = self.functions_client.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Handler="handler.handler",
            Role=f"arn:aws:iam::{ACCOUNT}:role/any",
            Timeout=20,
            Environment={"Variables": environment or {}},
            Code={"ZipFile": archive.getvalue()},
        )
        return str(reply["FunctionArn"])

    def create_queue(self, name: str) -> str:
        """A queue's ARN."""
        sqs = self.client("sqs")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        reply = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(reply["Attributes"]["QueueArn"])

    def received(self, queue_name: str) -> list[dict[str, Any]]:
        """Bodies of what lies in the queue; takes them out."""
        sqs = self.client("sqs")
        url, bodies = sqs.get_queue_url(QueueName=queue_name)["QueueUrl"], []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def create_mapping(self, function: str, topic: str, **fields: Any) -> str:
        """A mapping from the start of a topic; its UUID, once it is enabled."""
        source: dict[str, Any]
        if isinstance(self.kafka, TidemillBroker):
            source = {"EventSourceArn": self.kafka.ready["cluster_arn"]}
        else:
            source = {
                "SelfManagedEventSource": {
                    "Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [self.kafka.bootstrap_servers]}
                },
                "SourceAccessConfigurations": [
                    {"Type": "VPC_SUBNET", "URI": "subnet:subnet-0123456789abcdef0"},
                    {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-0123456789abcdef0"},
                ],
            }
        request = {"StartingPosition": "TRIM_HORIZON", "Topics": [topic], **source, **fields}
        reply = self.client("lambda").create_event_source_mapping(FunctionName=function, **request)
        self.mappings.append(str(reply["UUID"]))
        self.wait_for_state(reply["UUID"], "Enabled")
        return str(reply["UUID"])

    def delete_mappings(self) -> None:
        """Ask for the end of every mapping that was made here: they read no more while the next test runs."""
        client = self.client("lambda")
        while self.mappings:
            with suppress(client.exceptions.ResourceNotFoundException):
                client.delete_event_source_mapping(UUID=self.mappings.pop())

    def wait_for_state(self, uuid: str, state: str) -> dict[str, Any]:
        """The mapping, once it is in that state."""
        client = self.client("lambda")

        def read() -> dict[str, Any] | None:
            found: dict[str, Any] = client.get_event_source_mapping(UUID=uuid)
            return found if found["State"] == state else None

        return wait_until(read, what=f"mapping {uuid} to be {state}")

    def status(self, uuid: str, what: str = "status") -> Any:
        """What `/_tidemill/mappings/{uuid}/…` of the poller answers."""
        url = f"{self.poller.url}/_tidemill/mappings/{uuid}/{what}"
        with urllib.request.urlopen(url, timeout=5) as reply:
            return json.load(reply)

    def logs(self) -> str:
        """The ends of all logs, for the message of a failure."""
        programs = (self.functions, self.poller)
        return "\n".join(f"--- {program.name}\n{program.log[-3000:]}" for program in programs)

    def _client(self, service: str, url: str, **options: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
            **options,
        )


def poller_program(
    data_dir: Path,
    kafka: TidemillBroker | ApacheKafka,
    aws: Program,
    functions: Program,
    *,
    name: str = "poller",
) -> Program:
    """A poller with a store of its own under `name`; `environ` may be changed before it starts."""
    environ = {"AWS_ENDPOINT_URL": aws.url, "AWS_ENDPOINT_URL_LAMBDA": functions.url, **POLLER_ENVIRON}
    if isinstance(kafka, TidemillBroker):
        environ["AWS_ENDPOINT_URL_KAFKA"] = f"http://127.0.0.1:{kafka.ready['control_port']}"
    return Program(
        name=name,
        module="tidemill_poller",
        arguments=("--data-dir", str(data_dir / name)),
        environ=environ,
        run_dir=data_dir / "run",
    )


@contextmanager
def running(data_dir: Path, kafka: TidemillBroker | ApacheKafka) -> Iterator[Stack]:
    """Start everything around a Kafka that runs already; leaves no process behind."""
    run_dir = data_dir / "run"
    with ExitStack() as closing:
        aws = Program(
            name="aws",
            module="tidemill_local.aws",
            arguments=("--account-id", ACCOUNT),
            environ={},
            run_dir=run_dir,
        )
        closing.callback(aws.kill)
        aws.start()
        functions = Program(
            name="functions",
            module="tidemill_functions",
            arguments=("--data-dir", str(data_dir / "functions")),
            environ={
                "AWS_ENDPOINT_URL": aws.url,
                "TIDEMILL_FUNCTIONS_FIRST_UID": "0",
            },  # handlers write files for tests
            run_dir=run_dir,
        )
        closing.callback(functions.kill)
        functions.start()
        poller = poller_program(data_dir, kafka, aws, functions)
        stack = Stack(data_dir=data_dir, kafka=kafka, aws=aws, functions=functions, poller=poller)
        closing.callback(stack.poller.kill)
        stack.poller.start()
        yield stack
        # A clean stop at the end of every module: a program that hangs on SIGTERM fails the tests.
        stack.poller.stop()
        functions.stop()
