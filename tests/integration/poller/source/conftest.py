"""Two real clusters, started once: our own broker and Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.apache_kafka import ApacheKafka


@pytest.fixture(scope="session")
def tidemill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    broker = TidemillBroker(data_dir=tmp_path_factory.mktemp("tidemill")).start()
    yield broker.bootstrap_servers
    broker.stop()


@pytest.fixture
def apache(apache_kafka: ApacheKafka) -> str:
    return apache_kafka.bootstrap_servers


@pytest.fixture(
    params=[pytest.param("tidemill"), pytest.param("apache", marks=pytest.mark.kafka)],
)
def bootstrap_servers(request: pytest.FixtureRequest) -> str:
    """Each test runs against both."""
    servers: str = request.getfixturevalue(request.param)
    return servers
