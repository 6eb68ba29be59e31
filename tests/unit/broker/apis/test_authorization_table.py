"""Every API times every right, for principals under ACLs and for principals under IAM policies.

The table holds what Apache Kafka answers; `tests/conformance/test_authorization_table.py` asks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes.iam_identities import USER, entry, write
from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.record_batches import batch
from tests.harness.authorization_table import CASES, Case
from tests.harness.authorization_world import Right, World
from tests.oracles.iam_tokens import LONG_TERM
from tidemill_broker.apis import APIS, dispatch
from tidemill_broker.auth.acl.rules import Acl, PatternType, Permission
from tidemill_broker.auth.authorizer import ResourceType
from tidemill_broker.auth.authorizers import ByPrincipal
from tidemill_broker.auth.iam.authorizer import IamAuthorizer
from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.session import Principal, Session

# AWS's word for each right (Service Authorization Reference; the developer guide's Kafka ACL equivalents).
# Create in the whole cluster, and All, have none.
ACTIONS: Final = {
    "Describe Cluster": "DescribeCluster",
    "Alter Cluster": "AlterCluster",
    "DescribeConfigs Cluster": "DescribeClusterDynamicConfiguration",
    "AlterConfigs Cluster": "AlterClusterDynamicConfiguration",
    "IdempotentWrite Cluster": "WriteDataIdempotently",
    "Create Topic": "CreateTopic",
    "Describe Topic": "DescribeTopic",
    "Alter Topic": "AlterTopic",
    "Delete Topic": "DeleteTopic",
    "DescribeConfigs Topic": "DescribeTopicDynamicConfiguration",
    "AlterConfigs Topic": "AlterTopicDynamicConfiguration",
    "Read Topic": "ReadData",
    "Write Topic": "WriteData",
    "Describe Group": "DescribeGroup",
    "Read Group": "AlterGroup",
    "Delete Group": "DeleteGroup",
    "Describe TransactionalId": "DescribeTransactionalId",
    "Write TransactionalId": "AlterTransactionalId",
}
ARN_TYPES: Final = {
    ResourceType.TOPIC: "topic",
    ResourceType.GROUP: "group",
    ResourceType.TRANSACTIONAL_ID: "transactional-id",
}
ALICE: Final = Session(principal=Principal(type="User", name="alice"), mechanism="SCRAM-SHA-512")
BY_IAM: Final = Session(
    principal=Principal(type="IAM", name=USER), mechanism="AWS_MSK_IAM", access_key_id=LONG_TERM.access_key_id
)
VARIANTS: Final = [(case, which) for case in CASES for which in case.expected]
each_variant = pytest.mark.parametrize(
    ("case", "which"), VARIANTS, ids=[f"{case}-{which}" for case, which in VARIANTS]
)


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(
        tmp_path, "super.users=User:ANONYMOUS", "allow.everyone.if.no.acl.found=false"
    ) as inner:
        yield inner


async def ask(inner: InnerBroker, case: Case, members: Mapping[str, Any]) -> Any:
    frame = request_frame(request(case.key, case.version, **members))
    reply = dispatch(inner.broker, inner.connection, memoryview(frame))
    if inspect.isawaitable(reply):
        reply = await reply
    assert isinstance(reply, bytes | memoryview)
    return read_response(case.key, case.version, bytes(reply))


def world_of(inner: InnerBroker) -> World:
    orders = inner.broker.topics.create("orders", partitions=1)
    orders.partitions[0].append(batch())
    place = {"partition_index": 0, "committed_offset": 1, "committed_leader_epoch": -1}
    reply = inner.ask(
        8,
        8,
        group_id="crew",
        generation_id_or_member_epoch=-1,
        topics=[{"name": "orders", "partitions": [place]}],
    )
    assert not reply.topics[0].partitions[0].error_code
    return World(suffix="", orders_id=orders.topic_id)


def allow(inner: InnerBroker, rights: Sequence[Right]) -> None:
    inner.broker.acls.add(
        [
            Acl(
                resource_type=right.resource_type,
                pattern_type=PatternType.LITERAL,
                name=right.part,
                principal="User:alice",
                host="*",
                operation=right.operation,
                permission=Permission.ALLOW,
            )
            for right in rights
        ]
    )


@each_variant
async def test_what_acls_grant_is_what_is_done(inner: InnerBroker, case: Case, which: str) -> None:
    world = world_of(inner)
    allow(inner, case.granted(which))
    inner.connection = inner.open(listener="plaintext", session=ALICE)
    reply = await ask(inner, case, world.filled(case.request))
    assert world.verdict(reply) == case.ours.get(which, case.expected[which])


def statements(cluster_arn: str, rights: Sequence[Right]) -> list[dict[str, Any]]:
    """Connect, and each right that AWS has a word for."""
    granted = [("Connect", cluster_arn)]
    for right in rights:
        action = ACTIONS.get(" ".join(right.text.split()[:2]))
        kind = ARN_TYPES.get(right.resource_type)
        resource = f"{cluster_arn.replace(':cluster/', f':{kind}/')}/{right.part}" if kind else cluster_arn
        if action is not None:
            granted.append((action, resource))
    return [
        {"Effect": "Allow", "Action": f"kafka-cluster:{action}", "Resource": resource}
        for action, resource in granted
    ]


@each_variant
async def test_what_iam_policies_grant_is_what_is_done(
    inner: InnerBroker, tmp_path: Path, case: Case, which: str
) -> None:
    world = world_of(inner)
    broker = inner.broker
    policy = {"Version": "2012-10-17", "Statement": statements(broker.cluster_arn, case.granted(which))}
    file = write(tmp_path / "identities.json", [entry(LONG_TERM, policies=[policy])])
    iam = IamAuthorizer(Identities([file]), cluster_arn=broker.cluster_arn)
    inner.broker = replace(broker, authorizer=ByPrincipal(acls=broker.authorizer, iam=iam))
    inner.connection = inner.open(listener="plaintext", session=BY_IAM)
    reply = await ask(inner, case, world.filled(case.request))
    ours = case.ours.get(which, case.expected[which])
    assert world.verdict(reply) == case.iam.get(which, ours)


def test_every_api_that_needs_a_right_is_in_the_table() -> None:
    """ApiVersions and the two of SASL are for everybody; a new API must be asked with and without rights."""
    free = {"ApiVersions", "SaslHandshake", "SaslAuthenticate"}
    asked = {case.key for case in CASES}
    assert {api.name for api in APIS.values() if api.key not in asked} == free
