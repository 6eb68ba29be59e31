"""Brokers that want to know who is there: ours, and a real Apache Kafka with the same listeners and users.

Both have `plaintext` (where ANONYMOUS is a super user and makes the users), `tls` (a client's certificate is
required), and `scram` (SCRAM and PLAIN over TLS); ours has `iam` too. Certificates are `init-tls`'s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from tests.harness.tidemill_broker import ROOT, TidemillBroker
from tests.oracles.apache_kafka import ApacheKafka
from tests.oracles.secure_apache_kafka import DELAY, SecureApacheKafka, set_password

USER, PASSWORD = "alice", "pencil,=ü-secret"
PLAIN_USERS = {USER: PASSWORD}
ACCESS_KEY_ID, SECRET_KEY, SESSION_TOKEN = (
    "TKIATESTSUITE0000001",
    "Sj+3kLm/secret+Of+The/Tests",
    "IQoJ+b3Jp/Z2lu==",
)
REGION = "eu-west-1"
IDENTITIES = "identities.json"  # in our broker's data directory


def make_certificates(directory: Path) -> Path:
    """A CA with certificates for the broker and the client CN=client, by our own command."""
    command = [sys.executable, "-m", "tidemill_broker", "init-tls", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env={**os.environ})
    assert done.returncode == 0, f"init-tls ended with {done.returncode}: {done.stderr or done.stdout}"
    return directory


@dataclass(frozen=True, kw_only=True)
class SecureBroker:
    """A running one: where each listener is, and the folder of certificates that it trusts."""

    broker: TidemillBroker | ApacheKafka
    bootstrap: dict[str, str]
    certificates: Path

    @property
    def ca(self) -> str:
        return str(self.certificates / "ca.pem")


def start_tidemill(directory: Path, certificates: Path) -> SecureBroker:
    """Start ours with all its listeners."""
    write_identities(directory / "data" / IDENTITIES)
    listeners = ("plaintext", "tls", "scram", "iam")
    broker = TidemillBroker(
        data_dir=directory,
        settings={
            **DELAY,
            "ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
            "super.users": "User:ANONYMOUS",
        },
        flags=(*(f"--listener={name}=0" for name in listeners), f"--tls-dir={certificates}"),
        environment={"AWS_REGION": REGION},
    ).start()
    ports = broker.ready["listeners"]
    made = SecureBroker(
        broker=broker,
        bootstrap={name: f"localhost:{ports[name]}" for name in listeners},
        certificates=certificates,
    )
    make_users(made.bootstrap["plaintext"])
    return made


def write_identities(file: Path, **statements: list[dict[str, Any]]) -> None:
    """An administrator of kafka-cluster, with temporary credentials as a role's session has them.

    And users with long-term keys: access key id = statements of their policy; all have the same secret.
    """
    everything = {"Effect": "Allow", "Action": "kafka-cluster:*", "Resource": "*"}
    role = "arn:aws:sts::123456789012:assumed-role/tests/run-1"
    identities = [_identity(ACCESS_KEY_ID, role, [everything]) | {"sessionToken": SESSION_TOKEN}] + [
        _identity(key, f"arn:aws:iam::123456789012:user/{key}", theirs) for key, theirs in statements.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.touch(0o600)
    draft.write_text(json.dumps({"version": 1, "identities": identities}))
    draft.rename(file)


def _identity(access_key_id: str, arn: str, statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "accessKeyId": access_key_id,
        "secretAccessKey": SECRET_KEY,
        "principalArn": arn,
        "policies": [{"Version": "2012-10-17", "Statement": statements}],
    }


def make_users(bootstrap: str) -> None:
    """Give the user salted keys of both mechanisms, by Kafka's own API."""
    set_password(AdminClient({"bootstrap.servers": bootstrap}), USER, PASSWORD)


def start_kafka(directory: Path, certificates: Path) -> SecureBroker:
    """Start Apache Kafka with the listeners that it knows."""
    broker = SecureApacheKafka(data_dir=directory, certificates=certificates, plain_users=PLAIN_USERS).start()
    made = SecureBroker(broker=broker, bootstrap=broker.servers, certificates=certificates)
    make_users(made.bootstrap["plaintext"])
    return made
