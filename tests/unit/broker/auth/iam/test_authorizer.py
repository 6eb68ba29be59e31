"""Kafka's questions become kafka-cluster actions on ARNs, and the identity as it is now answers them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill_broker.auth.authorizer import CLUSTER_NAME, Decision, Operation, ResourceType
from tidemill_broker.auth.iam.authorizer import IamAuthorizer
from tidemill_broker.auth.iam.identities import Identities, Identity
from tidemill_broker.auth.iam.policies import parse_policy
from tidemill_broker.auth.iam.policies.actions import ACTIONS
from tidemill_broker.auth.session import Principal, Session

ACCOUNT = "123456789012"
PREFIX = f"arn:aws:kafka:eu-west-1:{ACCOUNT}"
CLUSTER = f"{PREFIX}:cluster/tidemill/aaaa-1"
ALICE = f"arn:aws:iam::{ACCOUNT}:user/alice"
WORKER = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/run-1"
NOW_MS = 1_893_456_000_000  # 2030-01-01T00:00:00Z
HOST = "127.0.0.1"

# The MSK developer guide's table "Semantics of … authorization policy actions": Kafka's operation, the
# action, and the resource's ARN for the name "it".
TABLE = """
DESCRIBE          CLUSTER           DescribeCluster                      cluster/tidemill/aaaa-1
ALTER             CLUSTER           AlterCluster                         cluster/tidemill/aaaa-1
DESCRIBE_CONFIGS  CLUSTER           DescribeClusterDynamicConfiguration  cluster/tidemill/aaaa-1
ALTER_CONFIGS     CLUSTER           AlterClusterDynamicConfiguration     cluster/tidemill/aaaa-1
IDEMPOTENT_WRITE  CLUSTER           WriteDataIdempotently                cluster/tidemill/aaaa-1
CREATE            TOPIC             CreateTopic                          topic/tidemill/aaaa-1/it
DESCRIBE          TOPIC             DescribeTopic                        topic/tidemill/aaaa-1/it
ALTER             TOPIC             AlterTopic                           topic/tidemill/aaaa-1/it
DELETE            TOPIC             DeleteTopic                          topic/tidemill/aaaa-1/it
DESCRIBE_CONFIGS  TOPIC             DescribeTopicDynamicConfiguration    topic/tidemill/aaaa-1/it
ALTER_CONFIGS     TOPIC             AlterTopicDynamicConfiguration       topic/tidemill/aaaa-1/it
READ              TOPIC             ReadData                             topic/tidemill/aaaa-1/it
WRITE             TOPIC             WriteData                            topic/tidemill/aaaa-1/it
DESCRIBE          GROUP             DescribeGroup                        group/tidemill/aaaa-1/it
READ              GROUP             AlterGroup                           group/tidemill/aaaa-1/it
DELETE            GROUP             DeleteGroup                          group/tidemill/aaaa-1/it
DESCRIBE          TRANSACTIONAL_ID  DescribeTransactionalId              transactional-id/tidemill/aaaa-1/it
WRITE             TRANSACTIONAL_ID  AlterTransactionalId                 transactional-id/tidemill/aaaa-1/it
"""
ROWS = [line.split() for line in TABLE.split("\n") if line]
PAIRS = [(operation, resource_type) for resource_type in ResourceType for operation in Operation]


def allow(action: Any, resource: Any = "*", **elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **elements}


class Cluster:
    """An authorizer over an identity file, with a clock of its own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.now_ms = NOW_MS
        self._identities = Identities([])
        self.authorizer: IamAuthorizer

    def holds(self, *statements: Any, cluster_policy: Any = None, **identity: Any) -> IamAuthorizer:
        """Write the file with one identity of these statements, and read it."""
        document: dict[str, Any] = {
            "version": 1,
            "identities": [
                {
                    "accessKeyId": "AKIDEXAMPLE",
                    "secretAccessKey": "secret",
                    "principalArn": ALICE,
                    "policies": [{"Version": "2012-10-17", "Statement": list(statements)}],
                    **identity,
                }
            ],
        }
        if cluster_policy is not None:
            document["clusterPolicy"] = {"Version": "2012-10-17", "Statement": cluster_policy}
        return self.hold(document)

    def hold(self, document: dict[str, Any]) -> IamAuthorizer:
        # As an editor saves: another file in its place, a change whatever the clock's grain.
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(document))
        draft.chmod(0o600)
        draft.rename(self._file)
        if not hasattr(self, "authorizer"):
            self._identities = Identities([self._file])
            self.authorizer = IamAuthorizer(
                self._identities,
                cluster_arn=CLUSTER,
                cluster_tags={"Team": "Shop"},
                now_ms=lambda: self.now_ms,
            )
        self._identities.reload()
        return self.authorizer


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "identities.json")


def session(arn: str = ALICE) -> Session:
    return Session(
        principal=Principal(type="IAM", name=arn), mechanism="AWS_MSK_IAM", access_key_id="AKIDEXAMPLE"
    )


def read(authorizer: IamAuthorizer, topic: str = "it", *, host: str = HOST, arn: str = ALICE) -> Decision:
    return authorizer.decide(session(arn), host, Operation.READ, ResourceType.TOPIC, topic)


CONNECT = allow("kafka-cluster:Connect")


@pytest.mark.parametrize(("operation", "resource_type", "action", "resource"), ROWS, ids=lambda cell: cell)
def test_each_operation_asks_for_its_action_on_its_arn(
    cluster: Cluster, operation: str, resource_type: str, action: str, resource: str
) -> None:
    name = CLUSTER_NAME if resource_type == "CLUSTER" else "it"
    question = (session(), HOST, Operation[operation], ResourceType[resource_type], name)

    exactly = cluster.holds(CONNECT, allow(f"kafka-cluster:{action}", f"{PREFIX}:{resource}"))
    assert exactly.decide(*question).allowed

    all_but_it = cluster.holds(
        CONNECT,
        {"Effect": "Allow", "NotAction": f"kafka-cluster:{action}", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "NotResource": f"{PREFIX}:{resource}"},
    )
    denied = all_but_it.decide(*question)
    assert denied == (False, f"no policy allows kafka-cluster:{action} on {PREFIX}:{resource}")


def test_the_table_has_every_action_but_connect() -> None:
    assert {f"kafka-cluster:{row[2]}" for row in ROWS} == set(ACTIONS.values())
    assert len(ROWS) == len(ACTIONS) == 18


@pytest.mark.parametrize(("operation", "resource_type"), sorted(set(PAIRS) - ACTIONS.keys()), ids=str)
def test_an_administrator_may_not_do_what_has_no_action(
    cluster: Cluster, operation: Operation, resource_type: ResourceType
) -> None:
    decision = cluster.holds(allow("*")).decide(session(), HOST, operation, resource_type, "it")
    assert decision == (False, f"IAM has no action for {operation.name} on {resource_type.name}")


def test_read_does_not_imply_describe(cluster: Cluster) -> None:
    """Kafka's ACLs do so; AWS lists DescribeTopic apart."""
    authorizer = cluster.holds(CONNECT, allow(["kafka-cluster:ReadData", "kafka-cluster:WriteData"]))
    assert read(authorizer).allowed
    assert not authorizer.decide(session(), HOST, Operation.DESCRIBE, ResourceType.TOPIC, "it").allowed


def test_writing_to_some_topic_does_not_stand_for_writing_idempotently(cluster: Cluster) -> None:
    authorizer = cluster.holds(allow("kafka-cluster:*"))
    assert not authorizer.allows_some(session(), HOST, Operation.WRITE, ResourceType.TOPIC)


def test_who_may_not_connect_may_nothing(cluster: Cluster) -> None:
    authorizer = cluster.holds(allow("kafka-cluster:*Data"))
    assert not authorizer.connect("AKIDEXAMPLE").allowed
    assert read(authorizer) == (
        False,
        f"may not connect: no policy allows kafka-cluster:Connect on {CLUSTER}",
    )


def test_an_explicit_deny_names_its_statement(cluster: Cluster) -> None:
    authorizer = cluster.holds(
        allow("*"),
        {"Sid": "NoSecrets", "Effect": "Deny", "Action": "*", "Resource": "*/secret"}
        | {"Resource": f"{PREFIX}:topic/*/secret"},
    )
    assert read(authorizer).allowed
    assert read(authorizer, "secret").reason == (
        'explicit deny in statement "NoSecrets" of an identity policy for '
        f"kafka-cluster:ReadData on {PREFIX}:topic/tidemill/aaaa-1/secret"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accessKeyId": "AKIDANOTHER"}, "the access key is not known any more"),
        ({"principalArn": ALICE + "s"}, "the access key is another principal's now"),
        ({"policies": []}, "may not connect: no policy allows"),
        ({"expiration": "2030-01-01T00:00:00Z"}, "the credentials have expired"),
    ],
    ids=["gone", "another's", "without policies", "expired"],
)
def test_a_right_ends_with_the_identity_that_held_it(
    cluster: Cluster, change: dict[str, Any], reason: str
) -> None:
    authorizer = cluster.holds(allow("kafka-cluster:*"))
    before = authorizer.version
    assert read(authorizer).allowed

    cluster.holds(allow("kafka-cluster:*"), **change)
    assert authorizer.version > before
    assert read(authorizer).reason.startswith(reason)
    assert not read(authorizer).allowed


def test_nobody_is_let_in_by_an_unknown_key(cluster: Cluster) -> None:
    authorizer = cluster.holds(allow("*"))
    assert not authorizer.connect("AKIDUNKNOWN").allowed
    nameless = Session(principal=Principal(type="IAM", name=ALICE))
    assert not authorizer.decide(nameless, HOST, Operation.READ, ResourceType.TOPIC, "it").allowed


def test_a_decision_is_void_once_the_credentials_have_expired(cluster: Cluster) -> None:
    authorizer = cluster.holds(allow("*"), expiration="2030-01-01T00:00:05Z")
    version = authorizer.version
    assert read(authorizer).allowed

    cluster.now_ms += 4_999
    assert authorizer.version == version
    cluster.now_ms += 1
    assert authorizer.version > version
    assert not read(authorizer).allowed


def test_a_decision_that_hangs_on_the_clock_is_void_within_a_second(cluster: Cluster) -> None:
    until = {"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:01Z"}}
    authorizer = cluster.holds(allow("*", Condition=until))
    version = authorizer.version
    assert read(authorizer).allowed

    cluster.now_ms += 1_000
    assert authorizer.version > version
    assert not read(authorizer).allowed


def test_a_decision_that_does_not_is_remembered(cluster: Cluster) -> None:
    authorizer = cluster.holds(allow("*"))
    version = authorizer.version
    assert read(authorizer).allowed
    cluster.now_ms += 86_400_000
    assert authorizer.version == version


def test_session_policy_and_boundary_of_the_identity_limit_it(cluster: Cluster) -> None:
    only = [{"Version": "2012-10-17", "Statement": [CONNECT, allow("*", f"{PREFIX}:topic/*/mine-*")]}]
    for limit in ("sessionPolicies", "permissionsBoundary"):
        authorizer = cluster.holds(allow("*"), principalArn=WORKER, **{limit: only})
        assert read(authorizer, "mine-1", arn=WORKER).allowed
        assert not read(authorizer, "yours-1", arn=WORKER).allowed


def test_the_cluster_policy_lets_another_account_in_that_allows_it_too(cluster: Cluster) -> None:
    foreign = "arn:aws:iam::210987654321:user/carol"
    shared = allow("kafka-cluster:*", Principal={"AWS": foreign})
    authorizer = cluster.holds(allow("*"), principalArn=foreign)
    assert not authorizer.connect("AKIDEXAMPLE").allowed
    cluster.holds(allow("*"), principalArn=foreign, cluster_policy=[shared])
    assert authorizer.connect("AKIDEXAMPLE").allowed
    assert read(authorizer, arn=foreign).allowed


KEYS: list[tuple[str, str, str]] = [
    (ALICE, "aws:PrincipalArn", ALICE),
    (ALICE, "aws:username", "alice"),
    (ALICE, "aws:PrincipalType", "User"),
    (ALICE, "aws:PrincipalAccount", ACCOUNT),
    (ALICE, "aws:PrincipalTag/team", "red"),
    (ALICE, "aws:SourceIp", HOST),
    (ALICE, "aws:SecureTransport", "true"),
    (ALICE, "aws:EpochTime", "1893456000"),
    (ALICE, "aws:CurrentTime", "2030-01-01T00:00:00Z"),
    (ALICE, "aws:RequestedRegion", "eu-west-1"),
    (ALICE, "aws:ResourceAccount", ACCOUNT),
    (ALICE, "aws:ViaAWSService", "false"),
    (ALICE, "aws:PrincipalIsAWSService", "false"),
    (WORKER, "aws:PrincipalArn", f"arn:aws:iam::{ACCOUNT}:role/worker"),
    (WORKER, "aws:PrincipalType", "AssumedRole"),
    (f"arn:aws:sts::{ACCOUNT}:federated-user/bob", "aws:PrincipalType", "FederatedUser"),
    (f"arn:aws:iam::{ACCOUNT}:root", "aws:PrincipalType", "Account"),
]


@pytest.mark.parametrize(("arn", "key", "value"), KEYS, ids=lambda cell: cell)
def test_a_condition_sees_the_request(cluster: Cluster, arn: str, key: str, value: str) -> None:
    def allowed(wanted: str) -> bool:
        condition = {"StringEquals": {key: wanted}}
        authorizer = cluster.holds(allow("*", Condition=condition), principalArn=arn, tags={"Team": "red"})
        return read(authorizer, arn=arn).allowed

    assert allowed(value)
    assert not allowed(value + "x")


ABSENT = [
    (WORKER, "aws:username"),
    (ALICE, "aws:ResourceTag/Team"),
    (ALICE, "aws:MultiFactorAuthPresent"),
    (ALICE, "aws:SourceVpce"),
]


@pytest.mark.parametrize(("arn", "key"), ABSENT, ids=lambda cell: cell)
def test_a_key_that_does_not_apply_is_absent(cluster: Cluster, arn: str, key: str) -> None:
    missing = {"Null": {key: "true"}}
    authorizer = cluster.holds(CONNECT, allow("*", Condition=missing), principalArn=arn)
    assert read(authorizer, arn=arn).allowed


@pytest.mark.parametrize(
    ("issued", "ended"),
    [
        ({"issued": "2029-12-31T23:00:00Z"}, True),
        ({"issued": "2029-12-31T23:59:59Z"}, False),
        ({}, True),  # whoever wrote the file did not say: it may be as old as any
    ],
    ids=["before", "after", "not told"],
)
def test_the_sessions_of_a_role_can_be_ended_all_at_once(
    cluster: Cluster, issued: dict[str, str], *, ended: bool
) -> None:
    """What the console's "Revoke active sessions" attaches to the role: AWSRevokeOlderSessions."""
    older = {"DateLessThan": {"aws:TokenIssueTime": "2029-12-31T23:30:00Z"}}
    revoke = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": older}
    authorizer = cluster.holds(allow("*"), revoke, principalArn=WORKER, sessionToken="token", **issued)
    assert read(authorizer, arn=WORKER).allowed is not ended


def test_only_keys_that_end_say_that_nobody_showed_a_second_factor(cluster: Cluster) -> None:
    """IAM: aws:MultiFactorAuthPresent is there with temporary credentials only."""
    alone = {"Bool": {"aws:MultiFactorAuthPresent": "false"}}
    rejected = [allow("*"), {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": alone}]
    assert read(cluster.holds(*rejected)).allowed
    assert not read(cluster.holds(*rejected, sessionToken="token")).allowed


class ChangedMeanwhile:
    """An identity that is another as soon as somebody has looked: files are read in a thread."""

    cluster_policy = None

    def __init__(self, before: Identity, after: Identity) -> None:
        self.version = 1
        self._now, self._after = before, after

    def get(self, _access_key_id: str) -> Identity:
        found, self._now = self._now, self._after
        self.version = 2
        return found


def test_the_right_to_connect_ends_though_the_file_changes_during_a_decision() -> None:
    def alice(action: str) -> Identity:
        policy = parse_policy({"Version": "2012-10-17", "Statement": [allow(action)]})
        return Identity(
            access_key_id="AKIDEXAMPLE", secret_access_key="", principal_arn=ALICE, policies=(policy,)
        )

    identities = ChangedMeanwhile(alice("kafka-cluster:*"), alice("kafka-cluster:ReadData"))
    authorizer = IamAuthorizer(identities, cluster_arn=CLUSTER)
    read(authorizer)
    assert not read(authorizer).allowed


def test_only_the_cluster_has_tags(cluster: Cluster) -> None:
    """MSK: tag conditions can not cover topics and groups."""
    tagged = {"StringEquals": {"aws:ResourceTag/Team": "Shop"}}
    authorizer = cluster.holds(allow("*", Condition=tagged))
    assert authorizer.connect("AKIDEXAMPLE").allowed
    assert authorizer.decide(session(), HOST, Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME).allowed
    assert not read(authorizer).allowed


@pytest.mark.parametrize("spelt", [str, "::ffff:{}".format], ids=["plain", "mapped"])
def test_an_address_is_compared_whatever_socket_it_came_by(
    cluster: Cluster, spelt: Callable[[str], str]
) -> None:
    near = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    authorizer = cluster.holds(allow("*", Condition=near))
    assert read(authorizer, host=spelt("10.1.2.3")).allowed
    assert not read(authorizer, host=spelt("11.1.2.3")).allowed


def test_a_login_from_nowhere_is_not_from_the_right_address(cluster: Cluster) -> None:
    near = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    authorizer = cluster.holds(allow("*", Condition=near))
    assert not authorizer.connect("AKIDEXAMPLE").allowed
    assert authorizer.connect("AKIDEXAMPLE", host="10.1.2.3").allowed
