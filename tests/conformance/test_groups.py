"""Consumer groups as their members live them: mixed libraries, cooperative, static, killed ones."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.conformance.conftest import KafkaLike
from tests.conformance.test_clients import produce
from tests.fakes.raw_kafka import RawKafka
from tests.harness.processes import wait_until
from tests.oracles.group_members import Member, MemberProcess, in_order
from tests.oracles.kafka_clients import LIBRARIES

FIND_COORDINATOR, DESCRIBE_GROUPS = 10, 15


def numbers(*members: Member) -> list[int]:
    return sorted(int(record.value or b"") for member in members for record in member.received)


def all_assigned(*members: Member) -> bool:
    """Whether six partitions are shared out evenly, each to one."""
    shares = [member.assigned for member in members]
    even = all(len(share) == 6 // len(members) for share in shares)
    return even and len(frozenset().union(*shares)) == 6


def test_three_libraries_share_one_group(kafka_like: KafkaLike, topic: str, group: str) -> None:
    """Each assigns alike under the name `range`, whoever leads."""
    where = kafka_like.bootstrap_servers
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(Member(library, where, [topic], group)) for library in LIBRARIES]
        wait_until(lambda: all_assigned(*members), what="two partitions each")
        produce("confluent-kafka", kafka_like, topic, range(600))
        wait_until(lambda: len(numbers(*members)) >= 600, what="every record")
    assert numbers(*members) == list(range(600))
    assert in_order(record for member in members for record in member.received)


@pytest.mark.parametrize(
    ("library", "assignor"),
    [
        ("aiokafka", "roundrobin"),
        ("aiokafka", "sticky"),
        ("kafka-python", "roundrobin"),
        ("kafka-python", "sticky"),
        ("confluent-kafka", "roundrobin"),
    ],
)
def test_every_assignor_shares_a_topic_out(
    library: str, assignor: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    where = kafka_like.bootstrap_servers
    with (
        Member(library, where, [topic], group, assignor) as first,
        Member(library, where, [topic], group, assignor) as second,
    ):
        wait_until(lambda: all_assigned(first, second), what="three partitions each")
        produce(library, kafka_like, topic, range(100))
        wait_until(lambda: len(numbers(first, second)) >= 100, what="every record")
    assert numbers(first, second) == list(range(100))


def test_members_that_come_and_go_lose_nothing(kafka_like: KafkaLike, topic: str, group: str) -> None:
    """Those who leave have committed; a record comes twice only if a rebalance refused its commit."""
    where = kafka_like.bootstrap_servers
    with (
        Member("confluent-kafka", where, [topic], group) as stayer,
        Member("aiokafka", where, [topic], group) as second,
    ):
        wait_until(lambda: all_assigned(stayer, second), what="three partitions each")
        produce("confluent-kafka", kafka_like, topic, range(300))
        second.leave()
        with Member("kafka-python", where, [topic], group) as third:
            produce("confluent-kafka", kafka_like, topic, range(300, 600))
            wait_until(lambda: set(numbers(stayer, second, third)) == set(range(600)), what="every record")


@pytest.mark.parametrize("library", ["confluent-kafka", "kafka-python"])
def test_a_cooperative_rebalance_leaves_what_does_not_move(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    """A third member takes one partition of each; the others are kept all the time."""
    where = kafka_like.bootstrap_servers
    kept: dict[int, set[Any]] = {}
    with (
        Member(library, where, [topic], group, "cooperative-sticky") as first,
        Member(library, where, [topic], group, "cooperative-sticky") as second,
    ):
        wait_until(lambda: all_assigned(first, second), what="three partitions each")
        before = {0: set(first.assigned), 1: set(second.assigned)}
        with Member(library, where, [topic], group, "cooperative-sticky") as third:

            def settled() -> bool:
                for index, member in enumerate((first, second)):
                    kept[index] = kept.get(index, before[index]) & member.assigned
                return all_assigned(first, second, third)

            wait_until(settled, what="two partitions each")
            produce(library, kafka_like, topic, range(120))
            wait_until(lambda: len(numbers(first, second, third)) >= 120, what="every record")
    assert [len(kept[0]), len(kept[1])] == [2, 2]
    assert numbers(first, second, third) == list(range(120))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_partitions_of_a_killed_member_are_taken_over(
    library: str, kafka_like: KafkaLike, topic: str, group: str
) -> None:
    """It had not committed: all that it read comes again, in order."""
    where = kafka_like.bootstrap_servers
    produce(library, kafka_like, topic, range(100))
    doomed = MemberProcess(library, where, topic, group)
    try:
        wait_until(lambda: len(doomed.received) == 100, what="every record at the first")
    finally:
        doomed.kill()
    with Member(library, where, [topic], group) as heir:
        wait_until(lambda: len(heir.received) >= 100, what="every record again")
    assert numbers(heir) == list(range(100))
    assert in_order(heir.received)


class Static:
    """A static member of librdkafka's; counts how often it was given partitions."""

    def __init__(self, where: str, topic: str, group: str, instance_id: str) -> None:
        self.assignments = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": where,
                "group.id": group,
                "group.instance.id": instance_id,
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 30_000,
                "heartbeat.interval.ms": 200,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        self._consumer.subscribe([topic], on_assign=self._assigned)

    def poll(self) -> Any:
        """The error of the next message or event, if there is one."""
        message = self._consumer.poll(0.05)
        return None if message is None else message.error()

    def partitions(self) -> frozenset[int]:
        return frozenset(place.partition for place in self._consumer.assignment())

    def close(self) -> None:
        """A static member does not leave by closing."""
        self._consumer.close()

    def _assigned(self, _consumer: Any, _partitions: list[TopicPartition]) -> None:
        self.assignments += 1


def test_a_static_member_restarts_without_a_rebalance(kafka_like: KafkaLike, topic: str, group: str) -> None:
    where = kafka_like.bootstrap_servers
    first, second = Static(where, topic, group, "one"), Static(where, topic, group, "two")

    def share() -> bool:
        first.poll()
        second.poll()
        return len(first.partitions()) == len(second.partitions()) == 3

    wait_until(share, what="three partitions each")
    assigned, mine = first.assignments, second.partitions()
    second.close()
    second = Static(where, topic, group, "two")
    wait_until(share, what="the same shares again")
    until = time.monotonic() + 1
    while time.monotonic() < until:  # long enough for a rebalance to be noticed, were there one
        share()
    assert second.partitions() == mine
    assert first.assignments == assigned
    first.close()
    second.close()


def test_a_second_holder_of_a_static_id_fences_the_first(
    kafka_like: KafkaLike, topic: str, group: str
) -> None:
    where = kafka_like.bootstrap_servers
    first = Static(where, topic, group, "one")
    wait_until(lambda: (first.poll(), len(first.partitions()) == 6)[1], what="all partitions")
    second = Static(where, topic, group, "one")
    faults = []

    def fenced() -> bool:
        second.poll()
        fault = first.poll()
        faults.extend([] if fault is None else [fault])
        return bool(faults) and len(second.partitions()) == 6

    wait_until(fenced, what="the first to be fenced")
    assert "FENCED" in f"{faults[0].name()} {faults[0]}".upper()
    first.close()
    second.close()


def coordinates(client: RawKafka, group: str) -> bool:
    """Whether the coordinator has loaded the offsets topic, which a first question makes."""
    client.ask(FIND_COORDINATOR, 3, key=group, key_type=0)
    return not client.ask(DESCRIBE_GROUPS, 5, groups=[group]).groups[0].error_code


def test_offsets_are_altered_and_groups_deleted_by_an_administrator(
    kafka_like: KafkaLike, topic: str, group: str
) -> None:
    # confluent-kafka ends the process, now and then, when its administrator is told that it loads.
    client = RawKafka(int(kafka_like.bootstrap_servers.rpartition(":")[2]))
    wait_until(lambda: coordinates(client, group), what="the coordinator")
    client.close()
    admin = AdminClient({"bootstrap.servers": kafka_like.bootstrap_servers})
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 7), TopicPartition(topic, 1, 8)])
    admin.alter_consumer_group_offsets([wanted])[group].result(40)
    held = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(40)
    assert {(place.partition, place.offset) for place in held.topic_partitions} == {(0, 7), (1, 8)}
    listed = admin.list_consumer_groups().result(40)
    assert group in {each.group_id for each in listed.valid}
    admin.delete_consumer_groups([group])[group].result(40)
    listed = admin.list_consumer_groups().result(40)
    assert group not in {each.group_id for each in listed.valid}
