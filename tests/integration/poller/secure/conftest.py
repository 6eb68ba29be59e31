"""One secured Apache Kafka and one Secrets Manager; users, topics and secrets are each test's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.fakes.certificates import Authority
from tests.integration.poller.secure.closed_kafka import ClosedKafka, closed_kafka
from tests.integration.poller.secure.msk import Msk, start_msk
from tests.integration.poller.secure.world import Secrets, SecureWorld
from tests.oracles.apache_kafka import jars_or_skip

PLANTED = "planted-"  # every password begins so


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[ClosedKafka]:
    jars_or_skip()
    directory = tmp_path_factory.mktemp("secure") / "kafka"
    broker = closed_kafka(directory, authority, plain_users={"paula": "planted-paula"})
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def secrets() -> Iterator[Secrets]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    yield Secrets(f"http://{host}:{port}")
    moto.stop()


@pytest.fixture(autouse=True)
def environment(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a poller's boto3 finds the secrets; other folders' tests find nothing of it."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture(scope="session")
def msk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Msk]:
    made = start_msk(tmp_path_factory.mktemp("msk"))
    yield made
    made.broker.stop()


@pytest.fixture
def untold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Whatever a test does: nothing that is logged, stored or listed here holds a secret."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    yield shown
    shown += [file.read_bytes().decode("latin-1") for file in (tmp_path / "poller").iterdir()]
    assert not [text for text in (caplog.text, *shown) if PLANTED in text or "PRIVATE KEY" in text]


@pytest.fixture
def world(kafka: ClosedKafka, secrets: Secrets, tmp_path: Path, untold: list[str]) -> SecureWorld:
    """A fleet on Apache Kafka."""
    return SecureWorld(kafka.bootstrap_servers, tmp_path / "poller", shown=untold)
