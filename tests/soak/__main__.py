"""`make soak`: minutes of traffic over IAM, SCRAM and mTLS while what may fail does; then the books are done.

Each acknowledged record must have been taken, in its key's order, and each poison record named in the queue.
"""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.harness.processes import is_alive, wait_until
from tests.harness.recording import SOURCE, Proof
from tests.harness.up import REGION, Up, running_up
from tidemill_broker.auth.tls.issuing import Authority
from tidemill_local.secured.access import certificate_secret
from tidemill_local.secured.aws_setup import CERTIFICATE_SECRET, SCRAM_SECRET, secret_arn

ACCOUNT = "123456789012"
ACCESS = {
    "iam": [],
    "scram": [{"Type": "SASL_SCRAM_512_AUTH", "URI": secret_arn(SCRAM_SECRET, REGION, ACCOUNT)}],
    "mtls": [{"Type": "CLIENT_CERTIFICATE_TLS_AUTH", "URI": secret_arn(CERTIFICATE_SECRET, REGION, ACCOUNT)}],
}
ROUNDS_PER_S, KEYS, PARTITIONS, POISON = 12, 20, 4, 1 / 1500


class Flow(threading.Thread):
    """One mechanism's topic, function, mapping and queue; as a thread, its producer."""

    def __init__(self, up: Up, kind: str) -> None:
        super().__init__(daemon=True)
        self.name, self.up, self.ended = f"soak-{kind}", up, threading.Event()
        self.proof = Proof(up.data_dir.parent / kind)
        self.good, self.poison = set[tuple[int, int]](), set[tuple[int, int]]()
        self.named = set[tuple[int, int]]()
        self.proof.directory.mkdir()
        (up.data_dir.parent / f"{kind}.py").write_text(SOURCE)
        up.cli("topic", "create", self.name, "--partitions", str(PARTITIONS))
        up.cli("function", "register", self.name, f"{up.data_dir.parent / kind}.py:handler")
        variables = {"PROOF_DIR": str(self.proof.directory), "PARTIAL": "1"}
        self.lambdas, self.sqs = up.client("lambda"), up.client("sqs")
        self.lambdas.update_function_configuration(
            FunctionName=self.name, Environment={"Variables": variables}
        )
        self.queue = self.sqs.create_queue(QueueName=self.name)["QueueUrl"]
        self.uuid = self.lambdas.create_event_source_mapping(
            FunctionName=self.name,
            Topics=[self.name],
            StartingPosition="TRIM_HORIZON",
            EventSourceArn=up.ready["cluster_arn"],
            SourceAccessConfigurations=ACCESS[kind],
            MaximumRetryAttempts=1,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            ProvisionedPollerConfig={"MinimumPollers": 1},
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name}"}},
        )["UUID"]
        options = runpy.run_path(str(up.data_dir / "clients" / f"{kind}_python.py"))["confluent"]()
        # One request at a time keeps the order; idempotence would make a removed right fatal.
        more = {"acks": "all", "max.in.flight": 1, "log_level": 0, "reconnect.backoff.max.ms": 500}
        self.producer = Producer(options | more)

    def run(self) -> None:
        number = 0
        while not self.ended.wait(1 / ROUNDS_PER_S):
            number = self.round(number, POISON)
        for _ in range(PARTITIONS):  # whatever was the last delivery, this one is OK
            number = self.round(number, 0)

    def round(self, number: int, poison: float) -> int:
        for key in range(KEYS):
            value = f"{number} poison" if random.random() < poison else str(number)
            self.producer.produce(self.name, value, f"{self.name}-{key}", on_delivery=self.delivered)
        self.producer.poll(0)
        return number + 1

    def delivered(self, error: Any, message: Any) -> None:
        if error is None:
            kept = self.poison if b"poison" in message.value() else self.good
            kept.add((message.partition(), message.offset()))

    def is_settled(self) -> bool:
        """Empty the queue; whether all is accounted for."""
        received = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in received:
            [(where, about)] = json.loads(message["Body"])["KafkaBatchInfo"]["recordsInfo"].items()
            offsets = range(int(about["firstRecordOffset"]), int(about["lastRecordOffset"]) + 1)
            self.named |= {(int(where.rpartition("-")[2]), offset) for offset in offsets}
            self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return not received and not self.lost() and self.result() == "OK"

    def lost(self) -> set[tuple[int, int]]:
        return (self.good - self.proof.offsets_done(self.name)) | (self.poison - self.named)

    def result(self) -> str:
        return str(self.lambdas.get_event_source_mapping(UUID=self.uuid)["LastProcessingResult"])

    def out_of_order(self) -> Iterator[str]:
        last: dict[str, int] = {}
        for partition in range(PARTITIONS):
            rows = self.proof.done(f"{self.name}-{partition}")
            for key, value in dict.fromkeys((key, int(value)) for _, key, value in rows):
                if value < last.get(key, -1):
                    yield f"{key}: {value} came after {last[key]}"
                last[key] = value


class Trouble:
    """Each method is one blow, and leaves all as it was."""

    def __init__(self, up: Up, scram: Producer) -> None:
        self.up, self.scram, self.number = up, scram, 0
        self.secrets, self.tls = up.client("secretsmanager"), up.data_dir / "tls"

    def kill(self, program: str) -> None:
        before = self.up.pids[program]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self.up.pids.get(program, before) != before, what=f"{program} to be back")

    def kill_broker(self) -> None:
        self.kill("broker")

    def kill_poller(self) -> None:
        self.kill("poller")

    def kill_functions(self) -> None:
        self.kill("functions")

    def rotate_password(self) -> None:
        self.number += 1
        secret = {"username": "tidemill", "password": f"the password {self.number}"}
        self.secrets.put_secret_value(SecretId=SCRAM_SECRET, SecretString=json.dumps(secret))
        self.scram.set_sasl_credentials(*secret.values())

    def rotate_certificate(self) -> None:
        self.number += 1
        file = Authority.open(self.tls).issue_client(f"client{self.number}")
        secret = certificate_secret(file.read_text(), (self.tls / "ca.pem").read_text())
        self.secrets.put_secret_value(SecretId=CERTIFICATE_SECRET, SecretString=json.dumps(secret))

    def renew_the_brokers_certificate(self) -> None:
        self.up.cli("broker", "init-tls", str(self.tls), "--renew")

    def remove_the_iam_key_for_a_while(self) -> None:
        identities = self.up.data_dir / "broker" / "identities.json"
        kept = identities.read_bytes()
        self.up.cli("broker", "identity", "remove", "test", "--file", str(identities))
        time.sleep(3)
        identities.write_bytes(kept)

    def unauthenticated(self) -> None:
        ports = [int(servers.rpartition(":")[2]) for servers in self.up.ready["listeners"].values()]
        with ExitStack() as stack, suppress(OSError):
            for number in range(300):
                connection = stack.enter_context(
                    socket.create_connection(("127.0.0.1", ports[number % len(ports)]), 2)
                )
                connection.sendall(random.randbytes(number % 3 * 100))
            time.sleep(4)


def vitals(pids: dict[str, int]) -> str:
    """Resident MiB and open files of each program."""
    return "  ".join(
        f"{name} {int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * 4 // 1024} MiB"
        f" {len([*Path(f'/proc/{pid}/fd').iterdir()])} fds"
        for name, pid in pids.items()
    )


def main(seconds: float) -> int:
    """Run for so long; 0 if the books are right."""
    home = Path(tempfile.mkdtemp(prefix="tidemill-soak-"))
    began, wrong = time.monotonic(), list[str]()
    with running_up(home / "data", "--auth", "iam,scram,mtls") as up:
        for line in (up.data_dir / "clients" / "iam.env").read_text().splitlines():
            if line.startswith("export "):
                os.environ |= dict(pair.split("=", 1) for pair in line.split()[1:])
        flows = [Flow(up, kind) for kind in ACCESS]
        trouble = Trouble(up, flows[1].producer)
        for flow in flows:
            flow.start()
        blows: list[Any] = []
        while time.monotonic() < began + seconds:
            time.sleep(random.uniform(5, 15))
            if not blows:
                names = [name for name in vars(Trouble) if name != "kill" and name[0] != "_"]
                blows = [getattr(trouble, name) for name in random.sample(names, len(names))]
            blow = blows.pop()
            blow()
            print(f"{time.monotonic() - began:4.0f} s {blow.__name__:30} {vitals(up.pids)}", flush=True)
        for flow in flows:
            flow.ended.set()
            flow.join()
            if left := flow.producer.flush(40):
                wrong.append(f"{flow.name}: {left} records were never answered")
        for flow in flows:
            with suppress(AssertionError):
                wait_until(flow.is_settled, what=flow.name)
            print(f"{flow.name}: {len(flow.good)} good, {len(flow.poison)} poison, {flow.result()}")
            wrong += [f"{flow.name}: lost {at}" for at in sorted(flow.lost())[:5]] + [*flow.out_of_order()][
                :5
            ]
            if flow.result() != "OK":
                wrong.append(f"{flow.name}: {flow.result()}")
        pids = up.pids.values()
        up.stop()
        wrong += [f"process {pid} outlived up" for pid in pids if is_alive(pid)]
        wrong += [line for line in up.log.splitlines() if "Traceback" in line]
    print(f"{home}/data/up.log", *wrong or ["all is accounted for"], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(60 * float(sys.argv[1])))
