"""Clients' own ways to ACLs, against Tidemill and Apache Kafka: they do the same, and are told the same."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, made elsewhere
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from kafka.admin import ACL, ACLFilter, KafkaAdminClient, ResourcePattern, ResourcePatternFilter
from kafka.admin import ACLOperation as Operation
from kafka.admin import ACLPermissionType as Permission
from kafka.admin import ACLResourcePatternType as PatternType
from kafka.admin import ResourceType as Type

from tests.harness.acl_brokers import AclBroker
from tests.oracles.apache_kafka import run_tool

pytestmark = pytest.mark.kafka

Seen = TypeVar("Seen")
Both = tuple[AclBroker, AclBroker]
TIMEOUT_S = 20
ACL_COMMAND = "org.apache.kafka.tools.AclCommand"
COMMANDS = (
    "--add --allow-principal User:alice --allow-host 10.0.0.1 --consumer --topic flights --group crew",
    "--add --deny-principal User:CN=bob,O=x --operation All --topic fli --resource-pattern-type prefixed",
    "--list --topic flights --resource-pattern-type match",
    "--remove --force --allow-principal User:alice --allow-host 10.0.0.1 --operation Read --topic flights",
    "--list",
)


@pytest.fixture
def both(tidemill_with_logins: AclBroker, kafka_with_acls: AclBroker) -> Both:
    """Tidemill, and Apache Kafka, which is right by definition; neither has any ACL yet."""
    brokers = (tidemill_with_logins, kafka_with_acls)
    for broker in brokers:
        broker.hold([])
    return brokers


def on_both(brokers: Both, use: Callable[[AclBroker], Seen]) -> list[Seen]:
    """What a client saw on each, at the same time: the tools take theirs to start."""
    with ThreadPoolExecutor(len(brokers)) as pool:
        return list(pool.map(use, brokers))


def test_kafka_acls_prints_the_same(both: Both) -> None:
    def use(broker: AclBroker) -> list[list[str]]:
        printed = []
        for command in COMMANDS:
            where = ("--bootstrap-server", broker.bootstrap_servers)
            done = run_tool(ACL_COMMAND, *where, *command.split())
            assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
            printed.append(sorted(filter(None, map(str.strip, done.stdout.splitlines()))))
        return printed

    ours, kafka = on_both(both, use)
    assert ours == kafka
    assert any("operation=READ, permissionType=ALLOW" in line for line in kafka[0])


def binding(name: str, pattern: ResourcePatternType, operation: AclOperation) -> AclBinding:
    user, host, allow = "User:alice", "*", AclPermissionType.ALLOW
    return AclBinding(ResourceType.TOPIC, name, pattern, user, host, operation, allow)


def test_confluent_kafka_sees_the_same(both: Both) -> None:
    literal, prefixed = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    bindings = [
        binding("flights", literal, AclOperation.READ),
        binding("fli", prefixed, AclOperation.ALL),
        binding("*", literal, AclOperation.DESCRIBE_CONFIGS),
    ]
    matching = AclBindingFilter(
        ResourceType.TOPIC,
        "flights",
        ResourcePatternType.MATCH,
        None,  # type: ignore[arg-type]  # None is any
        None,  # type: ignore[arg-type]  # the same
        AclOperation.ANY,
        AclPermissionType.ANY,
    )

    def use(broker: AclBroker) -> list[object]:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        for _ in range(2):  # again is no error
            assert [each.result(TIMEOUT_S) for each in admin.create_acls(bindings).values()] == [None] * 3
        listed = admin.describe_acls(matching).result(TIMEOUT_S)
        (deleted,) = admin.delete_acls([matching]).values()
        left = admin.describe_acls(matching).result(TIMEOUT_S)
        bad = AclBinding(
            ResourceType.BROKER, "x", literal, "User:a", "*", AclOperation.READ, AclPermissionType.ALLOW
        )
        (refused,) = admin.create_acls([bad]).values()
        try:
            refused.result(TIMEOUT_S)
        except KafkaException as error:
            refusal = error.args[0].str()
        return [
            *(sorted(map(str, each)) for each in (listed, deleted.result(TIMEOUT_S), left)),
            refusal,
        ]

    ours, kafka = on_both(both, use)
    assert ours == kafka
    assert [len(each) for each in kafka[:3] if isinstance(each, list)] == [3, 3, 0]


def test_kafka_python_sees_the_same(both: Both) -> None:
    flights = ResourcePattern(Type.TOPIC, "flights")
    acls = [
        ACL("User:alice", "*", Operation.READ, Permission.ALLOW, flights),
        ACL("User:bob", "10.0.0.1", Operation.ALL, Permission.DENY, flights),
        ACL("User:*", "*", Operation.DESCRIBE, Permission.ALLOW, ResourcePattern(Type.GROUP, "*")),
    ]
    every = ACLFilter(
        None, None, Operation.ANY, Permission.ANY, ResourcePatternFilter(Type.ANY, None, PatternType.ANY)
    )

    def use(broker: AclBroker) -> list[object]:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        try:
            created = admin.create_acls(acls)
            listed, listing_error = admin.describe_acls(every)
            ((_, deleted, deleting_error),) = admin.delete_acls([every])
            left, _ = admin.describe_acls(every)
        finally:
            admin.close()
        several = (created["succeeded"], created["failed"], listed, deleted, left)
        return [listing_error, deleting_error, *(sorted(map(repr, each)) for each in several)]

    ours, kafka = on_both(both, use)
    assert ours == kafka
    assert [len(each) for each in kafka[2:] if isinstance(each, list)] == [3, 0, 3, 3, 0]
