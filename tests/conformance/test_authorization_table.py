"""Every API times every right, on Tidemill and on Apache Kafka's StandardAuthorizer: the same verdicts.

The table is `tests/harness/authorization_table.py`; the unit tests ask the same of the handlers, and of IAM.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest

from tests.fakes.record_batches import batch
from tests.harness.acl_brokers import AclBroker, Rule, apache_kafka_with_acls, tidemill_with_acls
from tests.harness.authorization_table import CASES, Case
from tests.harness.authorization_world import World
from tests.harness.processes import wait_until
from tests.oracles.apache_kafka import ApacheKafka, jars_or_skip
from tidemill_broker.auth.authorizer import CLUSTER_NAME, ResourceType

PRODUCE, OFFSET_COMMIT, FIND_COORDINATOR, CREATE_TOPICS = 0, 8, 10, 19
READ: Final = 3
SOON: Final = timedelta(seconds=10)
# Both brokers allow everybody what no ACL names: somebody else's ACLs on everything end that.
WALLS: Final = [
    Rule(int(kind), CLUSTER_NAME if kind is ResourceType.CLUSTER else "*", "User:nobody", READ)
    for kind in (
        ResourceType.TOPIC,
        ResourceType.GROUP,
        ResourceType.CLUSTER,
        ResourceType.TRANSACTIONAL_ID,
    )
]
# What Kafka answers while it makes something that the question needs; its clients ask again.
NOT_YET: Final = ("=14", "=15", "=16")
SAYS_NOTHING: Final = "nothing"
# Creating, deleting, widening and configuring topics, deleting groups and offsets.
CHANGING: Final = (19, 20, 33, 37, 42, 47)
# The records are of another year.
KEPT: Final = [{"name": "retention.ms", "value": "-1"}]


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A broker with a user for each verdict of the table, and a world where the request changes it."""

    broker: AclBroker
    worlds: Mapping[str, World]

    def ask(self, case: Case, which: str) -> str | None:
        """What the user is answered; None while Kafka is still making what the question needs."""
        verdict = f"{case}: {which}"
        world = self.worlds[verdict]
        members: dict[str, Any] = world.filled(case.request)
        said = world.verdict(self.broker.user(_user(verdict)).ask(case.key, case.version, **members))
        return None if any(code in said for code in NOT_YET) else said or SAYS_NOTHING


@pytest.fixture(scope="module", params=["tidemill", pytest.param("kafka", marks=pytest.mark.kafka)])
def laid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laid]:
    """The broker under test, then the one that is right by definition."""
    if request.param == "tidemill":
        broker = tidemill_with_acls(tmp_path_factory.mktemp("tidemill-table"))
    else:
        jars_or_skip()
        broker = apache_kafka_with_acls(tmp_path_factory.mktemp("kafka-table"))
    broker.settle()
    if request.param == "kafka":
        wait_until(partial(_coordinates_transactions, broker), what="the coordinator of transactions")
    yield Laid(broker=broker, worlds=worlds_in(broker))
    broker.close()


def _coordinates_transactions(broker: AclBroker) -> bool:
    """Kafka makes its topic at the first question."""
    return not broker.root.ask(FIND_COORDINATOR, 3, key="any", key_type=1).error_code


def worlds_in(broker: AclBroker) -> dict[str, World]:
    """Make all worlds and grant all rights; each verdict has its own user."""
    verdicts = {f"{case}: {which}": (case, which) for case in CASES for which in case.expected}
    suffixes = {
        verdict: f"-{number}" if _changes(case) else "-shared"
        for number, (verdict, (case, _)) in enumerate(verdicts.items())
    }
    made = _made(broker, sorted(set(suffixes.values())))
    worlds = {verdict: made[suffix] for verdict, suffix in suffixes.items()}
    granted = (
        Rule(
            int(right.resource_type),
            worlds[verdict].name(right.part),
            f"User:{_user(verdict)}",
            int(right.operation),
        )
        for verdict, (case, which) in verdicts.items()
        for right in case.granted(which)
    )
    broker.hold([*WALLS, *granted])
    return worlds


def _changes(case: Case) -> bool:
    """Whether the request, once it is granted, leaves less or more than there was."""
    return case.key in CHANGING or "creates" in case.name


def _user(verdict: str) -> str:
    return f"user-{zlib.crc32(verdict.encode())}"


def _made(broker: AclBroker, suffixes: list[str]) -> dict[str, World]:
    names = [f"orders{suffix}" for suffix in suffixes]
    asked = [{"name": name, "num_partitions": 1, "replication_factor": 1, "configs": KEPT} for name in names]
    topics = broker.root.ask(CREATE_TOPICS, 7, timeout=SOON, topics=asked).topics
    ids = {topic.name: topic.topic_id for topic in topics}
    # Kafka's controller confirms before its broker knows, and before that leads.
    wait_until(lambda: _are_written(broker, names), what="records in all topics")
    worlds = {
        suffix: World(suffix=suffix, orders_id=ids[name])
        for suffix, name in zip(suffixes, names, strict=True)
    }
    for world in worlds.values():
        wait_until(partial(_is_committed, broker, world), what=f"an offset of {world.name('crew')}")
    return worlds


def _are_written(broker: AclBroker, names: list[str]) -> bool:
    data = [{"name": name, "partition_data": [{"index": 0, "records": batch()}]} for name in names]
    replies = broker.root.ask(PRODUCE, 9, acks=-1, timeout=SOON, topic_data=data).responses
    return not any(reply.partition_responses[0].error_code for reply in replies)


def _is_committed(broker: AclBroker, world: World) -> bool:
    place = {"partition_index": 0, "committed_offset": 1, "committed_leader_epoch": -1}
    reply = broker.root.ask(
        OFFSET_COMMIT,
        8,
        group_id=world.name("crew"),
        generation_id_or_member_epoch=-1,
        topics=[{"name": world.name("orders"), "partitions": [place]}],
    )
    return not reply.topics[0].partitions[0].error_code


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_acls_grant_is_what_is_done(laid: Laid, case: Case) -> None:
    ours = {} if isinstance(laid.broker.broker, ApacheKafka) else case.ours
    for which, expected in case.expected.items():
        said = wait_until(partial(laid.ask, case, which), what="a verdict")
        assert said == (ours.get(which, expected) or SAYS_NOTHING), which
