"""Brokers that want to know who is there: ours, and a real Apache Kafka with the same listeners and users.

Both have `plaintext` (where ANONYMOUS is a super user and makes the users), `tls` (a client's certificate is
required), and `scram` (SCRAM and PLAIN over TLS); ours has `iam` too. Certificates are `init-tls`'s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, made elsewhere
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.oracles.apache_kafka import ApacheKafka, free_port_pair
from tests.oracles.tidemill_broker import ROOT, TidemillBroker

USER, PASSWORD = "alice", "pencil,=ü-secret"
ACCESS_KEY_ID, SECRET_KEY, SESSION_TOKEN = (
    "TKIATESTSUITE0000001",
    "Sj+3kLm/secret+Of+The/Tests",
    "IQoJ+b3Jp/Z2lu==",
)
REGION = "eu-west-1"
IDENTITIES = "identities.json"  # in our broker's data directory
# So that two runs of the suite never meet, and no test waits for what is meant to slow a guesser down.
SETTINGS = {"connection.failed.authentication.delay.ms": "10"}
PROTOCOLS = "PLAINTEXT:PLAINTEXT,TLS:SSL,SCRAM:SASL_SSL,CONTROLLER:PLAINTEXT"
_PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_{}="{}";'
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def make_certificates(directory: Path) -> Path:
    """A CA with certificates for the broker and the client CN=client, by our own command."""
    command = [sys.executable, "-m", "broker", "init-tls", str(directory)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env={**os.environ})
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
            **SETTINGS,
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
    admin = AdminClient({"bootstrap.servers": bootstrap})
    mechanisms = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    wishes = [
        UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
        for mechanism in mechanisms
    ]
    for wish in wishes:  # one user may stand in a request once
        for made in admin.alter_user_scram_credentials([wish]).values():
            made.result(20)


def start_kafka(directory: Path, certificates: Path) -> SecureBroker:
    """Start Apache Kafka with the listeners that it knows."""
    broker = SecureApacheKafka(data_dir=directory, certificates=certificates).start()
    made = SecureBroker(
        broker=broker,
        bootstrap={name: f"localhost:{port}" for name, port in broker.listeners.items()},
        certificates=certificates,
    )
    make_users(made.bootstrap["plaintext"])
    return made


@dataclass(kw_only=True)
class SecureApacheKafka(ApacheKafka):
    """Apache Kafka with listeners named as ours."""

    certificates: Path
    listeners: dict[str, int] = field(default_factory=dict)

    def start(self, *, timeout_s: float = 60) -> SecureApacheKafka:
        self.port = free_port_pair()
        tls = free_port_pair()
        self.listeners = {"plaintext": self.port, "tls": tls, "scram": tls + 1}
        super().start(timeout_s=timeout_s)
        return self

    def _server(self) -> dict[str, str]:
        plain = super()._server()
        places = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in self.listeners.items())
        mechanisms = {
            "scram-sha-256": _SCRAM,
            "scram-sha-512": _SCRAM,
            "plain": _PLAIN.format(USER, _quoted()),
        }
        secure: dict[str, Any] = {
            **SETTINGS,
            "listeners": f"{places},CONTROLLER://127.0.0.1:{self.port + 1}",
            "advertised.listeners": places.replace("127.0.0.1", "localhost"),
            "listener.security.protocol.map": PROTOCOLS,
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.certificates / "broker.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.certificates / "ca.pem",
            "listener.name.tls.ssl.client.auth": "required",
            **{f"listener.name.scram.{name}.sasl.jaas.config": login for name, login in mechanisms.items()},
        }
        return {**plain, **{name: str(value) for name, value in secure.items()}}


def _quoted() -> str:
    """The password as a Java properties file spells it, inside a JAAS string."""
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in PASSWORD)
