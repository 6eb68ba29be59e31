"""Two real clusters, started once: our own broker and Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracles.apache_kafka import ApacheKafka, jars_or_skip
from tests.oracles.tidemill_broker import TidemillBroker


@pytest.fixture(scope="session")
def tidemill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = TidemillBroker(data_dir=tmp_path_factory.mktemp("tidemill")).start()
    yield broker.bootstrap_servers
    broker.stop()


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    jars_or_skip()
    kafka = ApacheKafka(data_dir=tmp_path_factory.mktemp("kafka")).start()
    yield kafka.bootstrap_servers
    kafka.stop()


@pytest.fixture(
    params=[pytest.param("tidemill"), pytest.param("apache", marks=pytest.mark.kafka)],
)
def bootstrap_servers(request: pytest.FixtureRequest) -> str:
    """Each test runs against both."""
    servers: str = request.getfixturevalue(request.param)
    return servers
