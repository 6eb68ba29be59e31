"""One Tidemill broker for all conformance tests; `kafka_like` is that and Apache Kafka in turn."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # documented there, made elsewhere

from tests.harness.acl_brokers import AclBroker, apache_kafka_with_acls, tidemill_with_acls
from tests.harness.deploying import Target
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import TidemillBroker
from tests.harness.up import running_up
from tests.oracles.apache_kafka import ApacheKafka, jars_or_skip
from tests.oracles.group_members import SHORT_SESSIONS

KafkaLike = TidemillBroker | ApacheKafka
PARTITIONS = 6


@pytest.fixture(scope="session")
def tidemill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TidemillBroker]:
    broker = TidemillBroker(data_dir=tmp_path_factory.mktemp("tidemill"), settings=SHORT_SESSIONS).start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One `up` that every tool deploys to, and leaves as it was."""
    with running_up(tmp_path_factory.mktemp("deployed")) as up:
        yield Target(up=up)


@pytest.fixture(params=["tidemill", pytest.param("kafka", marks=pytest.mark.kafka)])
def kafka_like(request: pytest.FixtureRequest) -> KafkaLike:
    """The broker under test, and the one that is right by definition."""
    name = "tidemill" if request.param == "tidemill" else "apache_kafka"
    broker: KafkaLike = request.getfixturevalue(name)
    return broker


@pytest.fixture(scope="session")
def kafka_with_acls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclBroker]:
    """Apache Kafka with its StandardAuthorizer, and whoever is logged in."""
    jars_or_skip()
    broker = apache_kafka_with_acls(tmp_path_factory.mktemp("kafka-acls"))
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def tidemill_with_logins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclBroker]:
    """Tidemill with a listener that asks for a login, and whoever is logged in."""
    broker = tidemill_with_acls(tmp_path_factory.mktemp("tidemill-acls"))
    yield broker
    broker.close()


@pytest.fixture
def topic(kafka_like: KafkaLike) -> str:
    """A new topic of six partitions."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka_like.bootstrap_servers})
    for made in admin.create_topics([NewTopic(name, PARTITIONS, 1)]).values():
        made.result(20)
    # Kafka's controller confirms before its broker knows.
    wait_until(lambda: name in admin.list_topics(timeout=10).topics, what=f"{name} in the metadata")
    return name


@pytest.fixture
def group() -> str:
    """The name of a group that nobody has used."""
    return f"group-{uuid.uuid4().hex[:8]}"
