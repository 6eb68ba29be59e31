"""ACLs on Tidemill and on Apache Kafka's StandardAuthorizer: the same requests, and the same answers."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.raw_kafka import Disconnected, RawKafka
from tests.harness.acl_brokers import (
    ANY_ACL,
    CREATE_ACLS,
    DELETE_ACLS,
    DESCRIBE_ACLS,
    DESCRIBE_GROUPS,
    INIT_PRODUCER_ID,
    AclBroker,
    Rule,
)
from tidemill_broker.protocol.errors import ErrorCode

METADATA, CREATE_TOPICS, DESCRIBE_CLUSTER = 3, 19, 60
TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID, TOKEN, USER = range(2, 8)
ANY, MATCH, LITERAL, PREFIXED = range(1, 5)
DENY, ALLOW = 2, 3
ALL, READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE = range(2, 9)
DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE = 10, 11, 12
ALICE = "User:alice"
OK = (ErrorCode.none, "")
UNKNOWN_CODE = 99


@pytest.fixture(params=["tidemill", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> AclBroker:
    """The broker under test, then the one that is right by definition; neither has any ACL yet."""
    name = "tidemill_with_logins" if request.param == "tidemill" else "kafka_with_acls"
    chosen: AclBroker = request.getfixturevalue(name)
    chosen.hold([])
    return chosen


def acl(**changed: Any) -> dict[str, Any]:
    """One ACL of CreateAcls: alice may read the topic flights, but for what is changed."""
    return Rule(TOPIC, "flights", ALICE, READ).creation() | changed


def invalid(message: str) -> tuple[ErrorCode, str]:
    return (ErrorCode.invalid_request, message)


NO_COLON = " (no colon is present separating the principal type from the principal name)"
ONLY_CLUSTER = invalid("The only valid name for the CLUSTER resource is kafka-cluster")
CREATIONS: list[tuple[dict[str, Any], tuple[ErrorCode, str]]] = [
    ({}, OK),
    ({"resource_pattern_type": PREFIXED}, OK),
    ({"resource_name": "*"}, OK),
    ({"resource_name": "*", "resource_pattern_type": PREFIXED}, OK),
    ({"resource_name": "a b/! ✈"}, OK),
    ({"resource_name": "x" * 300}, OK),
    ({"resource_name": ""}, invalid("Invalid empty resource name")),
    ({"resource_type": UNKNOWN_CODE}, invalid("Invalid resourceType UNKNOWN")),
    ({"resource_type": -1, "operation": -1}, invalid("Invalid resourceType UNKNOWN")),
    ({"resource_pattern_type": UNKNOWN_CODE, "operation": -1}, invalid("Invalid patternType UNKNOWN")),
    ({"operation": UNKNOWN_CODE, "permission_type": 9}, invalid("Invalid operation UNKNOWN")),
    ({"permission_type": 9, "principal": "a"}, invalid("Invalid permissionType UNKNOWN")),
    ({"resource_name": "", "resource_type": UNKNOWN_CODE}, invalid("Invalid empty resource name")),
    ({"principal": "alice"}, invalid(f"Could not parse principal from `alice`{NO_COLON}")),
    ({"principal": ""}, invalid(f"Could not parse principal from ``{NO_COLON}")),
    ({"principal": ":"}, OK),
    ({"principal": "User:"}, OK),
    ({"principal": "IAM:a:b"}, OK),
    ({"host": ""}, OK),
    ({"host": "not an address"}, OK),
    ({"resource_type": CLUSTER}, ONLY_CLUSTER),
    ({"resource_type": CLUSTER, "resource_name": "*"}, ONLY_CLUSTER),
    ({"resource_type": CLUSTER, "resource_name": ""}, ONLY_CLUSTER),
    (
        {"resource_type": CLUSTER, "resource_name": "kafka", "resource_pattern_type": PREFIXED},
        ONLY_CLUSTER,
    ),
    ({"resource_type": CLUSTER, "resource_name": "kafka-cluster"}, OK),
    ({"resource_type": CLUSTER, "resource_name": "kafka-cluster", "resource_pattern_type": PREFIXED}, OK),
    ({"resource_type": GROUP, "operation": IDEMPOTENT_WRITE}, OK),
    ({"resource_type": TRANSACTIONAL_ID, "operation": 15}, OK),
    ({"resource_type": TOKEN, "operation": DESCRIBE}, OK),
    ({"resource_type": USER, "operation": 13, "resource_name": "User:bob"}, OK),
]


def test_acls_that_can_be_and_cannot_be(broker: AclBroker) -> None:
    """Each by itself, in Kafka's order of checks, and none keeps the others of its request from being."""
    creations = [acl(**changed) for changed, _ in CREATIONS]
    results = broker.root.ask(CREATE_ACLS, 3, creations=creations).results
    assert [(each.error_code, each.error_message) for each in results] == [told for _, told in CREATIONS]
    made = sum(told == OK for _, told in CREATIONS)
    assert len(broker.rules()) == made


@pytest.mark.parametrize("version", [1, 2, 3])
def test_creating_twice_is_no_error(broker: AclBroker, version: int) -> None:
    creations = [acl(), acl(), acl(operation=WRITE)]
    for _ in range(2):
        results = broker.root.ask(CREATE_ACLS, version, creations=creations).results
        assert [(each.error_code, each.error_message) for each in results] == [OK] * 3
    assert len(broker.rules()) == 2


@pytest.mark.parametrize("code", ["resource_type", "resource_pattern_type", "operation", "permission_type"])
def test_unknown_elements_close_the_connection(broker: AclBroker, code: str) -> None:
    renamed = {"resource_type": "resource_type_filter", "resource_pattern_type": "pattern_type_filter"}
    wanted = ANY_ACL | {renamed.get(code, code): 0}
    asked: list[tuple[int, dict[str, Any]]] = [
        (CREATE_ACLS, {"creations": [acl(**{code: 0})]}),
        (DESCRIBE_ACLS, wanted),
        (DELETE_ACLS, {"filters": [wanted]}),
    ]
    for key, members in asked:
        connection = RawKafka(broker.broker.port)
        with pytest.raises(Disconnected):
            connection.ask(key, 3, **members)
        connection.close()


KEPT = {
    "literal": Rule(TOPIC, "flights", ALICE, READ),
    "denied": Rule(TOPIC, "flights", ALICE, WRITE, DENY),
    "of a host": Rule(TOPIC, "flights", "User:bob", READ, host="10.0.0.1"),
    "prefixed": Rule(TOPIC, "fli", "User:bob", ALL, pattern_type=PREFIXED),
    "wildcard": Rule(TOPIC, "*", "User:*", DESCRIBE),
    "starry prefix": Rule(TOPIC, "*", "User:*", READ, pattern_type=PREFIXED),
    "group": Rule(GROUP, "flights", ALICE, READ),
    "cluster": Rule(CLUSTER, "kafka-cluster", ALICE, ALTER),
}
OF_TOPICS = ["literal", "denied", "of a host", "prefixed", "wildcard", "starry prefix"]
FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, list(KEPT)),
    ({"resource_type_filter": TOPIC}, OF_TOPICS),
    ({"resource_type_filter": UNKNOWN_CODE}, []),
    ({"pattern_type_filter": UNKNOWN_CODE}, []),
    ({"operation": UNKNOWN_CODE}, []),
    ({"permission_type": -5}, []),
    ({"pattern_type_filter": LITERAL}, ["literal", "denied", "of a host", "wildcard", "group", "cluster"]),
    ({"pattern_type_filter": PREFIXED}, ["prefixed", "starry prefix"]),
    ({"pattern_type_filter": MATCH}, list(KEPT)),
    ({"resource_name_filter": "flights"}, ["literal", "denied", "of a host", "group"]),
    (
        {"resource_name_filter": "flights", "pattern_type_filter": MATCH},
        ["literal", "denied", "of a host", "prefixed", "wildcard", "group"],
    ),
    ({"resource_name_filter": "flight", "pattern_type_filter": MATCH}, ["prefixed", "wildcard"]),
    ({"resource_name_filter": "fl", "pattern_type_filter": MATCH}, ["wildcard"]),
    ({"resource_name_filter": "", "pattern_type_filter": MATCH}, ["wildcard"]),
    ({"resource_name_filter": ""}, []),
    ({"resource_name_filter": "fli", "pattern_type_filter": LITERAL}, []),
    ({"resource_name_filter": "fli", "pattern_type_filter": PREFIXED}, ["prefixed"]),
    ({"resource_name_filter": "*"}, ["wildcard", "starry prefix"]),
    ({"resource_name_filter": "*", "pattern_type_filter": MATCH}, ["wildcard", "starry prefix"]),
    ({"resource_name_filter": "*x", "pattern_type_filter": MATCH}, ["wildcard", "starry prefix"]),
    ({"principal_filter": ALICE}, ["literal", "denied", "group", "cluster"]),
    ({"principal_filter": "User:*"}, ["wildcard", "starry prefix"]),
    ({"principal_filter": "alice"}, []),
    ({"host_filter": "10.0.0.1"}, ["of a host"]),
    ({"host_filter": ""}, []),
    ({"operation": READ}, ["literal", "of a host", "starry prefix", "group"]),
    ({"operation": ALL}, ["prefixed"]),
    ({"permission_type": DENY}, ["denied"]),
    ({"principal_filter": ALICE, "operation": READ, "resource_type_filter": GROUP}, ["group"]),
]


def test_what_a_filter_lists(broker: AclBroker) -> None:
    broker.hold(KEPT.values())
    for wanted, names in FILTERS:
        reply = broker.root.ask(DESCRIBE_ACLS, 3, **(ANY_ACL | wanted))
        assert (reply.error_code, reply.error_message) == OK
        told = {(each.resource_type, each.resource_name, each.pattern_type) for each in reply.resources}
        assert len(told) == len(reply.resources), "one entry a pattern"
        found = {
            Rule(
                each.resource_type,
                each.resource_name,
                entry.principal,
                entry.operation,
                entry.permission_type,
                each.pattern_type,
                entry.host,
            )
            for each in reply.resources
            for entry in each.acls
        }
        assert found == {KEPT[name] for name in names}, wanted


def test_what_a_filter_deletes(broker: AclBroker) -> None:
    """Every filter sees what was there before the request; one that cannot be leaves the others alone."""
    broker.hold(KEPT.values())
    filters: list[dict[str, Any]] = [
        {"resource_name_filter": "fli", "pattern_type_filter": PREFIXED},
        {"resource_name_filter": "flights", "pattern_type_filter": MATCH, "principal_filter": "User:bob"},
        {"resource_type_filter": UNKNOWN_CODE},
        {"permission_type": UNKNOWN_CODE},
        {"resource_name_filter": "ghost"},
    ]
    results = broker.root.ask(DELETE_ACLS, 3, filters=[ANY_ACL | each for each in filters]).filter_results
    assert [(each.error_code, each.error_message) for each in results] == [
        (ErrorCode.none, None),
        (ErrorCode.none, None),
        invalid("Unknown patternFilter."),
        invalid("Unknown entryFilter."),
        (ErrorCode.none, None),
    ]
    deleted = [sorted(each.resource_name for each in result.matching_acls) for result in results]
    assert deleted == [["fli"], ["fli", "flights"], [], [], []]
    assert all(not each.error_code for result in results for each in result.matching_acls)
    broker.hold(KEPT[name] for name in KEPT if name not in ("prefixed", "of a host"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_filter_in_an_old_version(broker: AclBroker, version: int) -> None:
    broker.hold(KEPT.values())
    wanted = ANY_ACL | {"resource_name_filter": "flights", "pattern_type_filter": MATCH}
    assert len(broker.root.ask(DESCRIBE_ACLS, version, **wanted).resources) == 4
    (result,) = broker.root.ask(DELETE_ACLS, version, filters=[wanted]).filter_results
    assert len(result.matching_acls) == 6
    broker.hold([KEPT["starry prefix"], KEPT["cluster"]])


# --- what the ACLs then mean, decided on both for the same sets at random ---

TOPICS = ("a", "ab", "abc", "b", "flights")
NAMES = ("*", "a", "ab", "abc", "abcd", "b", "f", "flights")
PRINCIPALS = (ALICE, ALICE, "User:*", "User:bob", "Group:alice")
HOSTS = ("*", "*", "*", "127.0.0.1", "10.0.0.1")
SETS = 12


def random_rules(generator: random.Random) -> set[Rule]:
    """ACLs that meet and contradict each other; often few, so that the default has its say as well."""
    rules = set()
    for _ in range(generator.choice((3, 12, 40))):
        resource_type = generator.choice((TOPIC, TOPIC, GROUP, CLUSTER))
        rules.add(
            Rule(
                resource_type,
                "kafka-cluster" if resource_type == CLUSTER else generator.choice(NAMES),
                generator.choice(PRINCIPALS),
                generator.choice((*range(ALL, IDEMPOTENT_WRITE + 1), DESCRIBE)),
                generator.choice((DENY, ALLOW, ALLOW)),
                generator.choice((LITERAL, PREFIXED)),
                generator.choice(HOSTS),
            )
        )
    return rules


def decided(user: RawKafka) -> dict[str, object]:
    """What a user may do with everything, as the authorized operations tell it, and KIP-679's question."""
    topics = user.ask(
        METADATA, 10, topics=[{"name": name} for name in TOPICS], include_topic_authorized_operations=True
    ).topics
    groups = user.ask(DESCRIBE_GROUPS, 5, groups=list(NAMES), include_authorized_operations=True).groups
    cluster = user.ask(DESCRIBE_CLUSTER, 1, include_cluster_authorized_operations=True)
    producer = user.ask(
        INIT_PRODUCER_ID, 4, transactional_id=None, transaction_timeout=timedelta(seconds=1), producer_id=-1
    )
    return {
        **{f"topic {each.name}": (each.error_code, each.topic_authorized_operations) for each in topics},
        **{f"group {each.group_id}": (each.error_code, each.authorized_operations) for each in groups},
        "cluster": cluster.cluster_authorized_operations,
        "idempotent producer": producer.error_code,
    }


@pytest.mark.kafka
def test_random_sets_of_acls_mean_the_same(
    kafka_with_acls: AclBroker, tidemill_with_logins: AclBroker
) -> None:
    brokers = (kafka_with_acls, tidemill_with_logins)
    for each in brokers:
        each.hold([])
        each.settle()
        topics = [{"name": name, "num_partitions": 1, "replication_factor": 1} for name in TOPICS]
        each.root.ask(CREATE_TOPICS, 7, topics=topics, timeout=timedelta(seconds=10))
    denied = allowed = 0
    for seed in range(SETS):
        rules = random_rules(random.Random(seed))
        for each in brokers:
            each.hold(rules)
        said, ours = (decided(each.user("alice")) for each in brokers)
        assert ours == said, (seed, rules)
        codes = [value[0] if isinstance(value, tuple) else ErrorCode.none for value in said.values()]
        denied += sum(code is not ErrorCode.none for code in codes)
        allowed += sum(code is ErrorCode.none for code in codes)
    assert min(denied, allowed) > SETS, "sets that decide nothing try nothing"
