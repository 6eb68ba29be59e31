"""Every API times every right: the requests, the rights that each needs, the verdict with which of them.

One table for the broker's unit tests and for the same requests to a real Apache Kafka. Requests name the
parts of `authorization_world`; a verdict is the codes that a reply holds for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from tests.fakes.record_batches import TRANSACTIONAL, batch
from tests.harness.authorization_world import BROKER, Right

SOON: Final = timedelta(seconds=10)
NOTHING, ALL = "nothing", "all"
TOPIC_CONFIGS, BROKER_CONFIGS, METRICS_CONFIGS, GROUP_CONFIGS = 2, 4, 16, 32
GROUP_KEY, TRANSACTION_KEY = 0, 1
ALL_OF_A_TOPIC: Final = "Read+Write+Create+Delete+Alter+Describe+DescribeConfigs+AlterConfigs"
ALL_OF_THE_CLUSTER: Final = "Create+Alter+Describe+ClusterAction+DescribeConfigs+AlterConfigs+IdempotentWrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request. `expected` is its verdict by what is granted: nothing, one right alone, or all of them.

    `iam` are the verdicts that differ for IAM principals, to whom no action implies another; `ours` those
    that differ from Apache Kafka's, each for a reason that docs/protocol.md gives.
    """

    name: str
    key: int
    version: int
    request: Mapping[str, Any]
    expected: Mapping[str, str]
    iam: Mapping[str, str] = field(default_factory=dict)
    ours: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}-v{self.version}"

    def granted(self, which: str) -> Sequence[Right]:
        """The rights that one verdict is for."""
        rights = [Right(text=text) for text in self.expected if text not in (NOTHING, ALL)]
        return rights if which == ALL else [right for right in rights if right.text == which]


def _each(*topics: str, member: str = "name", **rest: Any) -> list[dict[str, Any]]:
    return [{member: topic, **rest} for topic in topics]


def _produced(
    *topics: str, member: str = "name", records: bytes | None = None, **rest: Any
) -> dict[str, Any]:
    data = [{"index": 0, "records": batch() if records is None else records}]
    topic_data = _each(*topics, member=member, partition_data=data)
    return {"acks": -1, "timeout": SOON, "topic_data": topic_data, **rest}


def _fetched(*topics: str, member: str) -> dict[str, Any]:
    place = {
        "partition": 0,
        "current_leader_epoch": -1,
        "last_fetched_epoch": -1,
        "partition_max_bytes": 1000,
    }
    asked = _each(*topics, member=member, partitions=[place])
    return {"max_bytes": 1000, "session_epoch": -1, "topics": asked}


def _committed(*topics: str, member: str = "name") -> dict[str, Any]:
    place = {
        "partition_index": 0,
        "committed_offset": 1,
        "committed_leader_epoch": -1,
        "committed_metadata": "",
    }
    asked = _each(*topics, member=member, partitions=[place])
    return {"group_id": "crew", "generation_id_or_member_epoch": -1, "topics": asked}


def _group_fetched(topics: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {"groups": [{"group_id": "crew", "member_epoch": -1, "topics": topics}]}


def _configs(*resources: tuple[int, str], **rest: Any) -> dict[str, Any]:
    return {"resources": [{"resource_type": kind, "resource_name": name, **rest} for kind, name in resources]}


def _created(name: str) -> dict[str, Any]:
    return {"timeout": SOON, "topics": [{"name": name, "num_partitions": 1, "replication_factor": 1}]}


_IN_TRANSACTION: Final = batch(attributes=TRANSACTIONAL, producer=(1000, 0, 0))
_PARTITION: Final[dict[str, Any]] = {
    "partitions": [{"partition_index": 0, "current_leader_epoch": -1, "timestamp": -1}]
}
_EPOCH: Final[dict[str, Any]] = {
    "partitions": [{"partition": 0, "current_leader_epoch": -1, "leader_epoch": 0}]
}
_ACL: Final = {"principal": "User:somebody", "host": "*", "operation": 3, "permission_type": 3}
_EVERY_ACL: Final = {
    "resource_type_filter": 1,
    "pattern_type_filter": 1,
    "operation": 1,
    "permission_type": 1,
}
_SOMEBODYS_ACLS: Final = {**_EVERY_ACL, "principal_filter": "User:nobody-has-acls"}
_MEMBER: Final = {"group_id": "crew", "generation_id": 1, "member_id": "nobody"}

CASES: Final = (
    Case(
        name="Produce",
        key=0,
        version=9,
        request=_produced("orders", "absent"),
        expected={
            NOTHING: "absent/0=29 orders/0=29",
            "Write Topic orders": "absent/0=29 orders/0=0",
            "Write Topic absent": "absent/0=3 orders/0=29",
            ALL: "absent/0=3 orders/0=0",
        },
    ),
    Case(
        name="Produce",
        key=0,
        version=13,
        request=_produced("#orders", "#absent", member="topic_id"),
        expected={
            NOTHING: "#absent/0=100 #orders/0=29",
            "Write Topic orders": "#absent/0=100 #orders/0=0",
        },
    ),
    Case(
        name="Produce of a transaction",
        key=0,
        version=9,
        request=_produced("orders", "absent", records=_IN_TRANSACTION, transactional_id="payments"),
        expected={
            NOTHING: "absent/0=53 orders/0=53",
            "Write TransactionalId payments": "absent/0=29 orders/0=29",
            "Write Topic orders": "absent/0=53 orders/0=53",
            ALL: "absent/0=29 orders/0=49",
        },
        ours={ALL: "absent/0=29 orders/0=48"},
    ),
    Case(
        name="Produce of a transaction without a name",
        key=0,
        version=9,
        request=_produced("orders", records=_IN_TRANSACTION),
        expected={NOTHING: "orders/0=53", "Write Topic orders": "orders/0=53"},
    ),
    Case(
        name="Fetch",
        key=1,
        version=12,
        request=_fetched("orders", "absent", member="topic"),
        expected={
            NOTHING: "absent/0=29 orders/0=29 reply=0",
            "Read Topic orders": "absent/0=29 orders/0=0 reply=0",
            "Read Topic absent": "absent/0=3 orders/0=29 reply=0",
            ALL: "absent/0=3 orders/0=0 reply=0",
        },
    ),
    Case(
        name="Fetch",
        key=1,
        version=16,
        request=_fetched("#orders", "#absent", member="topic_id"),
        expected={
            NOTHING: "#absent/0=100 #orders/0=29 reply=0",
            "Read Topic orders": "#absent/0=100 #orders/0=0 reply=0",
        },
    ),
    Case(
        name="ListOffsets",
        key=2,
        version=7,
        request={"replica_id": -1, "topics": _each("orders", "absent", **_PARTITION)},
        expected={
            NOTHING: "absent/0=29 orders/0=29",
            "Describe Topic orders": "absent/0=29 orders/0=0",
            "Describe Topic absent": "absent/0=3 orders/0=29",
            ALL: "absent/0=3 orders/0=0",
        },
    ),
    Case(
        name="OffsetForLeaderEpoch",
        key=23,
        version=4,
        request={"replica_id": -2, "topics": _each("orders", "absent", member="topic", **_EPOCH)},
        expected={
            NOTHING: "absent/0=29 orders/0=29",
            "Describe Topic orders": "absent/0=29 orders/0=0",
            "Describe Topic absent": "absent/0=3 orders/0=29",
            ALL: "absent/0=3 orders/0=0",
        },
    ),
    Case(
        name="Metadata of some",
        key=3,
        version=9,
        request={
            "topics": _each("orders", "absent"),
            "include_topic_authorized_operations": True,
            "allow_auto_topic_creation": False,
        },
        expected={
            NOTHING: "absent=29 orders=29",
            "Describe Topic orders": "absent=29 orders/0=0 orders=0:Describe",
            "Write Topic orders": "absent=29 orders/0=0 orders=0:Write+Describe",
            "AlterConfigs Topic orders": "absent=29 orders=29",
            "All Topic orders": "absent=29 orders/0=0 orders=0:" + ALL_OF_A_TOPIC,
            "Describe Topic absent": "absent=3:Describe orders=29",
            ALL: "absent=3:Describe orders/0=0 orders=0:" + ALL_OF_A_TOPIC,
        },
        iam={
            "Write Topic orders": "absent=29 orders=29",
            "All Topic orders": "absent=29 orders=29",
            ALL: "absent=3:Describe orders/0=0 orders=0:Write+Describe+AlterConfigs",
        },
    ),
    Case(
        name="Metadata by id",
        key=3,
        version=12,
        request={"topics": _each("#orders", "#absent", member="topic_id")},
        expected={
            NOTHING: "#absent=100 #orders=29",
            "Describe Topic orders": "#absent=100 orders/0=0 orders=0",
        },
    ),
    Case(
        name="Metadata of all",
        key=3,
        version=12,
        request={"topics": None},
        expected={
            NOTHING: "",
            "Describe Topic orders": "orders/0=0 orders=0",
        },
    ),
    Case(
        name="Metadata of all",
        key=3,
        version=0,
        request={"topics": []},
        expected={
            NOTHING: "",
            "Describe Topic orders": "orders/0=0 orders=0",
        },
    ),
    Case(
        name="Metadata that creates",
        key=3,
        version=9,
        request={"topics": _each("orders", "fresh"), "allow_auto_topic_creation": True},
        expected={
            NOTHING: "fresh=29 orders=29",
            "Describe Topic fresh": "fresh=29 orders=29",
            "Create Topic fresh": "fresh=29 orders=29",
            ALL: "fresh=3 orders=29",
        },
        ours={
            ALL: "fresh/0=0 fresh=0 orders=29",
        },
    ),
    Case(
        name="Metadata that creates in the cluster",
        key=3,
        version=9,
        request={"topics": _each("fresh"), "allow_auto_topic_creation": True},
        expected={
            NOTHING: "fresh=29",
            "Describe Topic fresh": "fresh=29",
            "Create Cluster": "fresh=29",
            ALL: "fresh=3",
        },
        ours={
            ALL: "fresh/0=0 fresh=0",
        },
        iam={
            ALL: "fresh=29",
        },
    ),
    Case(
        name="Metadata of the cluster",
        key=3,
        version=9,
        request={"topics": [], "include_cluster_authorized_operations": True},
        expected={
            NOTHING: "reply:nothing",
            "Describe Cluster": "reply:Describe",
            "Alter Cluster": "reply:Alter+Describe",
            "All Cluster": "reply:" + ALL_OF_THE_CLUSTER,
            ALL: "reply:" + ALL_OF_THE_CLUSTER,
        },
        iam={
            "Alter Cluster": "reply:nothing",
            "All Cluster": "reply:nothing",
            ALL: "reply:Alter+Describe",
        },
    ),
    Case(
        name="DescribeTopicPartitions of some",
        key=75,
        version=0,
        request={"topics": _each("orders", "absent"), "response_partition_limit": 10},
        expected={
            NOTHING: "absent=29 orders=29",
            "Describe Topic orders": "absent=29 orders/0=0 orders=0:Describe",
            "Describe Topic absent": "absent=3:Describe orders=29",
            ALL: "absent=3:Describe orders/0=0 orders=0:Describe",
        },
    ),
    Case(
        name="DescribeTopicPartitions of all",
        key=75,
        version=0,
        request={"topics": [], "response_partition_limit": 2000},
        expected={
            NOTHING: "",
            "Describe Topic orders": "orders/0=0 orders=0:Describe",
        },
    ),
    Case(
        name="OffsetCommit",
        key=8,
        version=8,
        request=_committed("orders", "absent"),
        expected={
            NOTHING: "absent/0=30 orders/0=30",
            "Read Group crew": "absent/0=29 orders/0=29",
            "Read Topic orders": "absent/0=30 orders/0=30",
            "Read Topic absent": "absent/0=30 orders/0=30",
            ALL: "absent/0=3 orders/0=0",
        },
    ),
    Case(
        name="OffsetCommit",
        key=8,
        version=10,
        request=_committed("#orders", "#absent", member="topic_id"),
        expected={
            NOTHING: "#absent/0=30 #orders/0=30",
            "Read Group crew": "#absent/0=100 #orders/0=29",
            "Read Topic orders": "#absent/0=30 #orders/0=30",
            ALL: "#absent/0=100 #orders/0=0",
        },
    ),
    Case(
        name="OffsetFetch of some",
        key=9,
        version=8,
        request=_group_fetched(_each("orders", "absent", partition_indexes=[0])),
        expected={
            NOTHING: "crew=30",
            "Describe Group crew": "crew/absent/0=29 crew/orders/0=29 crew=0",
            "Describe Topic orders": "crew=30",
            "Describe Topic absent": "crew=30",
            ALL: "crew/absent/0=0 crew/orders/0=0 crew=0",
        },
    ),
    Case(
        name="OffsetFetch by id",
        key=9,
        version=10,
        request=_group_fetched(_each("#orders", "#absent", member="topic_id", partition_indexes=[0])),
        expected={
            NOTHING: "crew=30",
            "Describe Group crew": "crew/#absent/0=100 crew/#orders/0=29 crew=0",
            "Describe Topic orders": "crew=30",
            ALL: "crew/#absent/0=100 crew/#orders/0=0 crew=0",
        },
    ),
    Case(
        name="OffsetFetch of all",
        key=9,
        version=8,
        request=_group_fetched(None),
        expected={
            NOTHING: "crew=30",
            "Describe Group crew": "crew=0",
            "Describe Topic orders": "crew=30",
            ALL: "crew/orders/0=0 crew=0",
        },
    ),
    Case(
        name="OffsetFetch of one group",
        key=9,
        version=5,
        request={"group_id": "crew", "topics": _each("orders", partition_indexes=[0])},
        expected={
            NOTHING: "reply=30",
            "Describe Group crew": "orders/0=29 reply=0",
            "Describe Topic orders": "reply=30",
            ALL: "orders/0=0 reply=0",
        },
    ),
    Case(
        name="OffsetFetch of one group",
        key=9,
        version=1,
        request={"group_id": "crew", "topics": _each("orders", partition_indexes=[0])},
        expected={
            NOTHING: "orders/0=30",
            "Describe Group crew": "orders/0=29",
            "Describe Topic orders": "orders/0=30",
            ALL: "orders/0=0",
        },
    ),
    Case(
        name="OffsetDelete",
        key=47,
        version=0,
        request={
            "group_id": "crew",
            "topics": _each("orders", "absent", partitions=[{"partition_index": 0}]),
        },
        expected={
            NOTHING: "reply=30",
            "Delete Group crew": "absent/0=29 orders/0=29 reply=0",
            "Read Topic orders": "reply=30",
            "Read Topic absent": "reply=30",
            ALL: "absent/0=3 orders/0=0 reply=0",
        },
    ),
    Case(
        name="FindCoordinator of groups",
        key=10,
        version=4,
        request={"key_type": GROUP_KEY, "coordinator_keys": ["crew", "ghost"]},
        expected={
            NOTHING: "crew=30 ghost=30",
            "Describe Group crew": "crew=0 ghost=30",
            "Describe Group ghost": "crew=30 ghost=0",
            ALL: "crew=0 ghost=0",
        },
    ),
    Case(
        name="FindCoordinator of a group",
        key=10,
        version=3,
        request={"key_type": GROUP_KEY, "key": "crew"},
        expected={
            NOTHING: "reply=30",
            "Describe Group crew": "reply=0",
        },
    ),
    Case(
        name="FindCoordinator of a transaction",
        key=10,
        version=4,
        request={"key_type": TRANSACTION_KEY, "coordinator_keys": ["payments"]},
        expected={
            NOTHING: "payments=53",
            "Describe TransactionalId payments": "payments=0",
        },
        ours={
            "Describe TransactionalId payments": "payments=53",
        },
    ),
    Case(
        name="JoinGroup",
        key=11,
        version=5,
        request={
            "group_id": "crew",
            "protocol_type": "consumer",
            "session_timeout": SOON,
            "rebalance_timeout": SOON,
            "protocols": [{"name": "range", "metadata": b""}],
        },
        expected={
            NOTHING: "reply=30",
            "Read Group crew": "reply=79",
        },
    ),
    Case(
        name="SyncGroup",
        key=14,
        version=5,
        request={**_MEMBER, "protocol_type": "consumer", "protocol_name": "range"},
        expected={
            NOTHING: "reply=30",
            "Read Group crew": "reply=25",
        },
    ),
    Case(
        name="Heartbeat",
        key=12,
        version=4,
        request=_MEMBER,
        expected={
            NOTHING: "reply=30",
            "Read Group crew": "reply=25",
        },
    ),
    Case(
        name="LeaveGroup",
        key=13,
        version=5,
        request={"group_id": "crew", "members": [{"member_id": "nobody"}]},
        expected={
            NOTHING: "reply=30",
            "Read Group crew": "*=25 reply=0",
        },
    ),
    Case(
        name="LeaveGroup",
        key=13,
        version=1,
        request={"group_id": "crew", "member_id": "nobody"},
        expected={
            NOTHING: "reply=30",
            "Read Group crew": "reply=25",
        },
    ),
    Case(
        name="DescribeGroups",
        key=15,
        version=5,
        request={"groups": ["crew", "ghost"], "include_authorized_operations": True},
        expected={
            NOTHING: "crew=30 ghost=30",
            "Describe Group crew": "crew=0:Describe ghost=30",
            "Delete Group crew": "crew=0:Delete+Describe ghost=30",
            "All Group crew": "crew=0:Read+Delete+Describe+DescribeConfigs+AlterConfigs ghost=30",
            "Describe Group ghost": "crew=30 ghost=0:Describe",
            ALL: "crew=0:Read+Delete+Describe+DescribeConfigs+AlterConfigs ghost=0:Describe",
        },
        iam={
            "Delete Group crew": "crew=30 ghost=30",
            "All Group crew": "crew=30 ghost=30",
            ALL: "crew=0:Delete+Describe ghost=0:Describe",
        },
    ),
    Case(
        name="DescribeGroups",
        key=15,
        version=6,
        request={"groups": ["crew", "ghost"]},
        expected={
            NOTHING: "crew=30 ghost=30",
            "Describe Group crew": "crew=0 ghost=30",
            "Describe Group ghost": "crew=30 ghost=69",
            ALL: "crew=0 ghost=69",
        },
    ),
    Case(
        name="ListGroups",
        key=16,
        version=4,
        request={},
        expected={
            NOTHING: "reply=0",
            "Describe Cluster": "crew reply=0",
            "Describe Group crew": "crew reply=0",
            ALL: "crew reply=0",
        },
    ),
    Case(
        name="DeleteGroups",
        key=42,
        version=2,
        request={"groups_names": ["crew", "ghost"]},
        expected={
            NOTHING: "crew=30 ghost=30",
            "Delete Group crew": "crew=0 ghost=30",
            "Delete Group ghost": "crew=30 ghost=69",
            ALL: "crew=0 ghost=69",
        },
    ),
    Case(
        name="CreateTopics",
        key=19,
        version=7,
        request=_created("fresh"),
        expected={
            NOTHING: "fresh=29",
            "Create Topic fresh": "fresh=0",
            "DescribeConfigs Topic fresh": "fresh=29",
            ALL: "fresh=0",
        },
    ),
    Case(
        name="CreateTopics in the cluster",
        key=19,
        version=7,
        request=_created("fresh"),
        expected={
            NOTHING: "fresh=29",
            "Create Cluster": "fresh=0",
            "DescribeConfigs Topic fresh": "fresh=29",
            ALL: "fresh=0",
        },
        iam={
            "Create Cluster": "fresh=29",
            ALL: "fresh=29",
        },
    ),
    Case(
        name="CreateTopics that exist",
        key=19,
        version=7,
        request=_created("orders"),
        expected={
            NOTHING: "orders=29",
            "Create Topic orders": "orders=36",
        },
    ),
    Case(
        name="DeleteTopics by name",
        key=20,
        version=6,
        request={"timeout": SOON, "topics": _each("orders", "absent")},
        expected={
            NOTHING: "absent=29 orders=29",
            "Describe Topic orders": "absent=29 orders=29",
            "Delete Topic orders": "absent=29 orders=0",
            "Delete Topic absent": "absent=3 orders=29",
            ALL: "absent=3 orders=0",
        },
        iam={
            "Delete Topic orders": "absent=29 orders=29",
            "Delete Topic absent": "absent=29 orders=29",
            ALL: "absent=29 orders=0",
        },
    ),
    Case(
        name="DeleteTopics by id",
        key=20,
        version=6,
        request={"timeout": SOON, "topics": _each("#orders", "#absent", member="topic_id")},
        expected={
            NOTHING: "#absent=100 #orders=29",
            "Describe Topic orders": "#absent=100 orders=29",
            "Delete Topic orders": "#absent=100 orders=0",
            ALL: "#absent=100 orders=0",
        },
    ),
    Case(
        name="DeleteTopics by name",
        key=20,
        version=5,
        request={"timeout": SOON, "topic_names": ["orders", "absent"]},
        expected={
            NOTHING: "absent=29 orders=29",
            "Describe Topic orders": "absent=29 orders=29",
            "Describe Topic absent": "absent=3 orders=29",
            "Delete Topic orders": "absent=29 orders=0",
            ALL: "absent=3 orders=0",
        },
        iam={
            "Delete Topic orders": "absent=29 orders=29",
        },
    ),
    Case(
        name="DeleteTopics with all rights to the cluster",
        key=20,
        version=6,
        request={"timeout": SOON, "topics": _each("orders")},
        expected={
            NOTHING: "orders=29",
            "All Cluster": "orders=0",
        },
        iam={
            "All Cluster": "orders=29",
        },
    ),
    Case(
        name="DeleteRecords",
        key=21,
        version=2,
        request={
            "timeout": SOON,
            "topics": _each("orders", "absent", partitions=[{"partition_index": 0, "offset": 0}]),
        },
        expected={
            NOTHING: "absent/0=29 orders/0=29",
            "Delete Topic orders": "absent/0=29 orders/0=0",
            "Delete Topic absent": "absent/0=3 orders/0=29",
            ALL: "absent/0=3 orders/0=0",
        },
    ),
    Case(
        name="CreatePartitions",
        key=37,
        version=3,
        request={"timeout": SOON, "topics": _each("orders", "absent", count=2, assignments=None)},
        expected={
            NOTHING: "absent=29 orders=29",
            "Alter Topic orders": "absent=29 orders=0",
            "Alter Topic absent": "absent=3 orders=29",
            ALL: "absent=3 orders=0",
        },
    ),
    Case(
        name="InitProducerId",
        key=22,
        version=4,
        request={"transaction_timeout": SOON, "producer_id": -1, "producer_epoch": -1},
        expected={
            NOTHING: "reply=31",
            "IdempotentWrite Cluster": "reply=0",
            "Write Topic orders": "reply=0",
            ALL: "reply=0",
        },
        iam={
            "Write Topic orders": "reply=31",
        },
    ),
    Case(
        name="InitProducerId of a transaction",
        key=22,
        version=4,
        request={
            "transactional_id": "payments",
            "transaction_timeout": SOON,
            "producer_id": -1,
            "producer_epoch": -1,
        },
        expected={
            NOTHING: "reply=53",
            "Write TransactionalId payments": "reply=0",
        },
        ours={
            "Write TransactionalId payments": "reply=53",
        },
    ),
    Case(
        name="DescribeConfigs",
        key=32,
        version=4,
        request=_configs(
            (TOPIC_CONFIGS, "orders"),
            (TOPIC_CONFIGS, "absent"),
            (BROKER_CONFIGS, BROKER),
            configuration_keys=None,
        ),
        expected={
            NOTHING: "1=31 absent=29 orders=29",
            "DescribeConfigs Topic orders": "1=31 absent=29 orders=0",
            "DescribeConfigs Topic absent": "1=31 absent=3 orders=29",
            "DescribeConfigs Cluster": "1=0 absent=29 orders=29",
            ALL: "1=0 absent=3 orders=0",
        },
    ),
    Case(
        name="DescribeConfigs of what has none here",
        key=32,
        version=4,
        request=_configs((GROUP_CONFIGS, "crew"), (METRICS_CONFIGS, "somebody"), configuration_keys=None),
        expected={
            NOTHING: "crew=30 somebody=31",
            "DescribeConfigs Group crew": "crew=0 somebody=31",
            "DescribeConfigs Cluster": "crew=30 somebody=0",
        },
        ours={
            "DescribeConfigs Group crew": "crew=42 somebody=31",
            "DescribeConfigs Cluster": "crew=30 somebody=42",
        },
        iam={"DescribeConfigs Group crew": "crew=30 somebody=31"},
    ),
    Case(
        name="AlterConfigs",
        key=33,
        version=2,
        request=_configs((TOPIC_CONFIGS, "orders"), (TOPIC_CONFIGS, "absent")),
        expected={
            NOTHING: "absent=29 orders=29",
            "AlterConfigs Topic orders": "absent=29 orders=0",
            "AlterConfigs Topic absent": "absent=3 orders=29",
            ALL: "absent=3 orders=0",
        },
    ),
    Case(
        name="IncrementalAlterConfigs",
        key=44,
        version=1,
        request=_configs((TOPIC_CONFIGS, "orders"), (TOPIC_CONFIGS, "absent")),
        expected={
            NOTHING: "absent=29 orders=29",
            "AlterConfigs Topic orders": "absent=29 orders=0",
            "AlterConfigs Topic absent": "absent=3 orders=29",
            ALL: "absent=3 orders=0",
        },
    ),
    Case(
        name="IncrementalAlterConfigs of the broker",
        key=44,
        version=1,
        request=_configs((BROKER_CONFIGS, BROKER)),
        expected={NOTHING: "1=31", "AlterConfigs Cluster": "1=0"},
        ours={"AlterConfigs Cluster": "1=42"},
    ),
    Case(
        name="DescribeCluster",
        key=60,
        version=1,
        request={"include_cluster_authorized_operations": True, "endpoint_type": 1},
        expected={
            NOTHING: "reply=0:nothing",
            "Describe Cluster": "reply=0:Describe",
            "Alter Cluster": "reply=0:Alter+Describe",
            ALL: "reply=0:Alter+Describe",
        },
        iam={
            "Alter Cluster": "reply=0:nothing",
        },
    ),
    Case(
        name="DescribeAcls",
        key=29,
        version=3,
        request=_SOMEBODYS_ACLS,
        expected={
            NOTHING: "reply=31",
            "Describe Cluster": "reply=0",
        },
    ),
    Case(
        name="CreateAcls",
        key=30,
        version=3,
        request={
            "creations": [{"resource_type": 3, "resource_name": "ghost", "resource_pattern_type": 3, **_ACL}]
        },
        expected={
            NOTHING: "*=31",
            "Alter Cluster": "*=0",
        },
    ),
    Case(
        name="DeleteAcls",
        key=31,
        version=3,
        request={"filters": [_SOMEBODYS_ACLS]},
        expected={
            NOTHING: "*=31",
            "Alter Cluster": "*=0",
        },
    ),
    Case(
        name="DescribeClientQuotas",
        key=48,
        version=1,
        request={},
        expected={
            NOTHING: "reply=31",
            "DescribeConfigs Cluster": "reply=0",
        },
    ),
    Case(
        name="DescribeUserScramCredentials",
        key=50,
        version=0,
        request={"users": [{"name": "somebody"}]},
        expected={
            NOTHING: "reply=31",
            "Describe Cluster": "reply=0 somebody=91",
        },
    ),
    Case(
        name="AlterUserScramCredentials",
        key=51,
        version=0,
        request={"deletions": [{"name": "somebody", "mechanism": 1}]},
        expected={
            NOTHING: "somebody=31",
            "Alter Cluster": "somebody=91",
        },
    ),
)
