"""The scram listener as clients meet it: TLS, a login by each mechanism, and its end."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient
from moto.server import ThreadedMotoServer

from tests.fakes.kafka_frames import request, request_frame
from tests.fakes.raw_kafka import Disconnected, LoginFailed, RawKafka
from tests.fakes.sasl_client import ALICE, METADATA, PASSWORD
from tests.harness.processes import wait_until
from tests.harness.tls_broker import TlsBroker, tls_broker
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, salted_password

ALTER_USERS = 51
SALT = b"a salt of at least some length"
MECHANISMS = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]
LIFETIME_MS = 1_200


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    settings = {
        "sasl_enabled_mechanisms": ",".join(MECHANISMS),
        "connections_max_reauth_ms": str(LIFETIME_MS),
        "connection_failed_authentication_delay_ms": "1",
    }
    with tls_broker(tmp_path_factory.mktemp("sasl"), **settings) as started:
        add_user(started, ALICE, PASSWORD)
        yield started


def add_user(secure: TlsBroker, name: str, password: str) -> None:
    admin = RawKafka(secure.port("plaintext"))
    for number, mechanism in enumerate(SCRAM_NAMES, start=1):
        upsertion = {
            "name": name,
            "mechanism": number,
            "iterations": 4096,
            "salt": SALT,
            "salted_password": salted_password(mechanism, password, SALT, 4096),
        }
        admin.ask(ALTER_USERS, 0, upsertions=[upsertion])
    admin.close()


def connect(secure: TlsBroker) -> RawKafka:
    return RawKafka(secure.port("scram"), secure.trusting())


def test_a_login_opens_the_listener_and_nothing_else_does(secure: TlsBroker) -> None:
    connection = connect(secure)
    connection.login(ALICE, PASSWORD)
    assert connection.ask(METADATA, 12).brokers
    connection.close()
    with pytest.raises(LoginFailed, match="due to invalid credentials with SASL mechanism SCRAM-SHA-512"):
        connect(secure).login(ALICE, "wrong")
    with pytest.raises(Disconnected):
        connect(secure).ask(METADATA, 12)


def test_a_session_is_ended_by_time_though_its_client_says_nothing(secure: TlsBroker) -> None:
    connection = connect(secure)
    connection.login(ALICE, PASSWORD)
    began_s = time.monotonic()

    assert connection._stream.read(1) == b""
    assert LIFETIME_MS / 1000 - 0.1 <= time.monotonic() - began_s < LIFETIME_MS / 1000 + 20


def test_what_is_pipelined_behind_a_password_waits_for_its_answer(secure: TlsBroker) -> None:
    """PLAIN is checked in a thread; Kafka does not read on meanwhile, and neither do we."""
    frames = [
        request_frame(request(17, 1, mechanism="PLAIN")),
        request_frame(request(36, 2, auth_bytes=f"\0{ALICE}\0{PASSWORD}".encode())),
        request_frame(request(METADATA, 12)),
    ]
    connection = connect(secure)
    connection._socket.sendall(b"".join(len(each).to_bytes(4, "big") + each for each in frames))
    sizes = []
    for _ in frames:
        size = int.from_bytes(connection._stream.read(4), "big")
        sizes.append(len(connection._stream.read(size)))
    connection.close()

    assert len(sizes) == 3
    assert all(sizes)


def client_options(secure: TlsBroker, mechanism: str, password: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": f"localhost:{secure.port('scram')}",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": ALICE,
        "sasl.password": password,
        "ssl.ca.location": str(secure.tls_dir / "ca.pem"),
    }


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_logs_in_and_stays_over_renewals(secure: TlsBroker, mechanism: str) -> None:
    admin = AdminClient(client_options(secure, mechanism, PASSWORD))
    until_s = time.monotonic() + (2 * LIFETIME_MS / 1000 if mechanism == "SCRAM-SHA-512" else 0)
    assert admin.list_topics(timeout=10).brokers
    while time.monotonic() < until_s:
        assert admin.list_topics(timeout=10).brokers


def test_librdkafka_is_told_why_it_may_not(secure: TlsBroker) -> None:
    told: list[str] = []
    options = client_options(secure, "SCRAM-SHA-256", "wrong")
    options["error_cb"] = lambda error: told.append(str(error))
    admin = AdminClient(options)
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=1)
    admin.poll(0)

    assert any("due to invalid credentials with SASL mechanism SCRAM-SHA-256" in each for each in told)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_python_logs_in(secure: TlsBroker, mechanism: str) -> None:
    admin = KafkaAdminClient(
        bootstrap_servers=f"localhost:{secure.port('scram')}",
        security_protocol="SASL_SSL",
        ssl_cafile=str(secure.tls_dir / "ca.pem"),
        sasl_mechanism=mechanism,
        sasl_plain_username=ALICE,
        sasl_plain_password=PASSWORD,
    )
    assert isinstance(admin.list_topics(), list)
    admin.close()


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_aiokafka_logs_in(secure: TlsBroker, mechanism: str) -> None:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=f"localhost:{secure.port('scram')}",
        security_protocol="SASL_SSL",
        ssl_context=ssl.create_default_context(cafile=secure.tls_dir / "ca.pem"),
        sasl_mechanism=mechanism,
        sasl_plain_username=ALICE,
        sasl_plain_password=PASSWORD,
    )
    await admin.start()
    try:
        assert isinstance(await admin.list_topics(), list)
    finally:
        await admin.close()


def opens(secure: TlsBroker) -> bool:
    connection = connect(secure)
    try:
        connection.login(ALICE, PASSWORD)
    except LoginFailed:
        return False
    finally:
        connection.close()
    return True


def test_users_come_and_go_with_their_secrets(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live connection stays when its user goes; a new login fails once the secrets are read again."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    aws = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    aws.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    manager = boto3.client("secretsmanager", region_name="us-east-1")
    arn = manager.create_secret(
        Name="AmazonMSK_alice", SecretString=json.dumps({"username": ALICE, "password": PASSWORD})
    )["ARN"]

    settings = {
        "tidemill_scram_secrets": "on",
        "tidemill_scram_secrets_refresh_ms": "100",
        "connection_failed_authentication_delay_ms": "1",
    }
    try:
        with tls_broker(tmp_path_factory.mktemp("secrets"), **settings) as broker:
            wait_until(lambda: opens(broker), what="the user of the secret")
            live = connect(broker)
            live.login(ALICE, PASSWORD)
            manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
            wait_until(lambda: not opens(broker), what="the user to be gone")
            assert live.ask(METADATA, 12).brokers
            live.close()
            assert PASSWORD not in broker.broker.log
    finally:
        aws.stop()
