"""IAM's decisions, case by case, from the IAM User Guide's pages on evaluation logic and policy elements.

Each case is a sentence of that logic; what it does not name has the defaults of `Case`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tidemill_broker.auth.iam.policies import Grants, Request, evaluate, parse_policy

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
USER = f"arn:aws:iam::{ACCOUNT}:user/team/alice"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service/reader"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/run-1"
FEDERATED = f"arn:aws:sts::{ACCOUNT}:federated-user/bob"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
FOREIGN_USER = f"arn:aws:iam::{OTHER_ACCOUNT}:user/carol"
FOREIGN_ROOT = f"arn:aws:iam::{OTHER_ACCOUNT}:root"
FOREIGN_SESSION = f"arn:aws:sts::{OTHER_ACCOUNT}:assumed-role/reader/run-1"
PREFIX = f"arn:aws:kafka:us-east-1:{ACCOUNT}"
TOPIC = f"{PREFIX}:topic/shop/abc-1/orders"
Document = Mapping[str, Any]


def allow(action: Any = "kafka-cluster:*", resource: Any = "*", **elements: Any) -> Document:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **elements}


def deny(action: Any = "kafka-cluster:*", resource: Any = "*", **elements: Any) -> Document:
    return {**allow(action, resource, **elements), "Effect": "Deny"}


def to(principal: Any, **elements: Any) -> Document:
    """A statement of the cluster's policy that allows a principal everything."""
    return allow(Principal={"AWS": principal}, **elements)


def when(operator: str, key: str, value: Any) -> Document:
    return allow(Condition={operator: {key: value}})


@dataclass(frozen=True, kw_only=True)
class Case:
    sentence: str
    allowed: bool
    identity: Sequence[Document] = ()
    session: Sequence[Document] | None = None
    boundary: Sequence[Document] | None = None
    resource: Sequence[Document] | None = None
    principal: str = USER
    action: str = "kafka-cluster:ReadData"
    arn: str = TOPIC
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""
    version: str = "2012-10-17"

    def decide(self) -> tuple[bool, str]:
        def one(statements: Sequence[Document] | None) -> Any:
            return None if statements is None else [parse_policy(self._document(statements))]

        cluster = self.resource
        grants = Grants(
            identity=one(self.identity) if self.identity else [],
            session=one(self.session),
            boundary=one(self.boundary),
            resource=None if cluster is None else parse_policy(self._document(cluster), resource_based=True),
        )
        request = Request(
            action=self.action,
            resource=self.arn,
            principal_arn=self.principal,
            account_id=ACCOUNT,
            context=self.context,
        )
        return evaluate(request, grants)

    def _document(self, statements: Sequence[Document]) -> Document:
        return {"Version": self.version, "Statement": list(statements)}


def yes(sentence: str, *identity: Document, **fields: Any) -> Case:
    return Case(sentence=sentence, allowed=True, identity=identity, **fields)


def no(sentence: str, *identity: Document, **fields: Any) -> Case:
    return Case(sentence=sentence, allowed=False, identity=identity, **fields)


BASICS = [
    no("By default all requests are implicitly denied.", reason="no policy allows kafka-cluster:ReadData on"),
    yes("An explicit allow in an identity policy grants.", allow("kafka-cluster:ReadData", TOPIC)),
    no(
        "An explicit deny overrides an explicit allow in the same policy.",
        allow(),
        deny("kafka-cluster:ReadData", TOPIC),
        reason="explicit deny in statement 2 of an identity policy",
    ),
    no(
        "The order of statements means nothing: a deny before the allow wins too.",
        deny("kafka-cluster:ReadData", Sid="NoReads"),
        allow(),
        reason='explicit deny in statement "NoReads" of an identity policy',
    ),
    yes("A deny of another action does not reach this one.", allow(), deny("kafka-cluster:WriteData")),
    yes("A deny on another resource does not reach this one.", allow(), deny(resource=TOPIC + "-2")),
    no("An allow of another action does not grant this one.", allow("kafka-cluster:WriteData")),
    no("An allow of another service's actions does not grant this one.", allow("kafka:*")),
    no("A deny alone grants nothing else.", deny("kafka-cluster:WriteData")),
    yes(
        "An action's list grants each of its members.",
        allow(["kafka-cluster:Connect", "kafka-cluster:ReadData"]),
    ),
    yes("A resource's list grants each of its members.", allow(resource=[TOPIC + "-2", TOPIC])),
    yes(
        "The account's root user has full access without any policy.",
        principal=ROOT,
        reason="root user may do everything",
    ),
    no(
        "Even the root user is stopped by an explicit deny of the resource's policy.",
        principal=ROOT,
        resource=[deny(Principal="*")],
    ),
    no("The root user of another account has nothing here.", principal=FOREIGN_ROOT),
    no("What is no principal's ARN may do nothing.", allow(), principal="arn:aws:iam::1:user/alice"),
    no("A group is not a principal.", allow(), principal=f"arn:aws:iam::{ACCOUNT}:group/alice"),
]

ACTIONS = [
    yes("Names of actions have no case.", allow("KAFKA-CLUSTER:readdata")),
    yes("A `*` in an action stands for any characters.", allow("kafka-cluster:*Data")),
    yes("A `*` alone stands for all actions of all services.", allow("*")),
    yes("A `?` stands for one character.", allow("kafka-cluster:Read?ata")),
    no("A `?` does not stand for no character.", allow("kafka-cluster:ReadData?")),
    no(
        "`*Topic` does not reach `…TopicDynamicConfiguration` (MSK developer guide).",
        allow("kafka-cluster:*Topic"),
        action="kafka-cluster:DescribeTopicDynamicConfiguration",
    ),
    yes(
        "`*Topic` reaches Create, Describe, Alter and Delete.",
        allow("kafka-cluster:*Topic"),
        action="kafka-cluster:DeleteTopic",
    ),
    yes(
        "NotAction with Allow allows all but what it lists.",
        {"Effect": "Allow", "NotAction": "kafka-cluster:WriteData", "Resource": "*"},
    ),
    no(
        "What NotAction lists is not allowed by it.",
        {"Effect": "Allow", "NotAction": "kafka-cluster:Read*", "Resource": "*"},
    ),
    no(
        "NotAction with Deny denies all but what it lists.",
        allow(),
        {"Effect": "Deny", "NotAction": "kafka-cluster:Connect", "Resource": "*"},
    ),
    yes(
        "What NotAction with Deny lists is not denied, nor granted by it.",
        allow(),
        {"Effect": "Deny", "NotAction": ["kafka-cluster:Connect", "kafka-cluster:ReadData"], "Resource": "*"},
    ),
]

RESOURCES = [
    yes(
        "A `*` crosses `/`: every uuid and topic of a cluster's name.",
        allow(resource=f"{PREFIX}:topic/shop/*"),
    ),
    yes("A `*` within a name matches part of it.", allow(resource=f"{PREFIX}:topic/shop/*/ord*")),
    yes("A `?` in a resource matches one character.", allow(resource=f"{PREFIX}:topic/shop/abc-?/orders")),
    no("A `?` in a resource does not match two.", allow(resource=f"{PREFIX}:topic/shop/abc?/orders")),
    no(
        "Names in resources have case.",
        allow(resource=TOPIC.upper().replace("ARN:AWS:KAFKA", "arn:aws:kafka")),
    ),
    no("A topic's ARN does not reach a longer name.", allow(resource=TOPIC), arn=TOPIC + "-2"),
    no("A prefix without `*` is not a prefix.", allow(resource=f"{PREFIX}:topic/shop/")),
    no("A topic's pattern does not reach a group of that name.", allow(resource=f"{PREFIX}:group/shop/*")),
    yes("A `*` that ends a segment runs on beyond it.", allow(resource="arn:aws:kafka:*")),
    yes("A `*` that ends a segment may stand for several of them.", allow(resource="arn:aws:*:topic/shop/*")),
    no(
        "A `*` amid a segment does not leave it.",
        allow(resource=f"arn:aws:kafka:us*{ACCOUNT}:topic/shop/abc-1/orders"),
    ),
    no(
        "A `?` is no colon before the resource's part.",
        allow(resource=f"arn:aws:kafka:us-east-1?{ACCOUNT}:*"),
    ),
    yes(
        "Wildcards of the resource's part match colons in a name.",
        allow(resource=f"{PREFIX}:group/shop/*/a*c"),
        arn=f"{PREFIX}:group/shop/abc-1/a:b:c",
    ),
    no(
        "A name that looks like a pattern is only a name.",
        allow(resource=TOPIC),
        arn=f"{PREFIX}:topic/shop/abc-1/*",
    ),
    yes(
        "NotResource with Allow allows all but what it lists.",
        {"Effect": "Allow", "Action": "*", "NotResource": f"{PREFIX}:topic/shop/*/secret*"},
    ),
    no(
        "What NotResource lists is not allowed by it.",
        {"Effect": "Allow", "Action": "*", "NotResource": f"{PREFIX}:topic/shop/*/ord*"},
    ),
    no(
        "NotResource with Deny denies everywhere else.",
        allow(),
        {"Effect": "Deny", "Action": "*", "NotResource": f"{PREFIX}:group/*"},
    ),
]

VARIABLES = [
    yes(
        "A variable in a resource stands for the request's value.",
        allow(resource=f"{PREFIX}:topic/shop/*/${{aws:username}}"),
        context={"aws:username": ["orders"]},
    ),
    no(
        "A variable's value is taken literally: a `*` in it matches only `*`.",
        allow(resource=f"{PREFIX}:topic/shop/abc-1/${{aws:PrincipalTag/topic}}"),
        context={"aws:principaltag/topic": ["*"]},
    ),
    no(
        "A statement whose variable has no value does not match.",
        allow(resource=f"{PREFIX}:topic/shop/abc-1/${{aws:PrincipalTag/topic}}*"),
    ),
    yes(
        "A variable's default stands in where there is no value.",
        allow(resource=f"{PREFIX}:topic/shop/abc-1/${{aws:PrincipalTag/topic, 'orders'}}"),
    ),
    no(
        "A variable's default does not override a value.",
        allow(resource=f"{PREFIX}:topic/shop/abc-1/${{aws:PrincipalTag/topic, 'orders'}}"),
        context={"aws:principaltag/topic": ["other"]},
    ),
    no("`${*}` is a star and no wildcard.", allow(resource=f"{PREFIX}:topic/shop/abc-1/${{*}}")),
    yes(
        "`${*}`, `${?}` and `${$}` match those characters.",
        allow(resource=f"{PREFIX}:group/shop/abc-1/${{*}}${{?}}${{$}}"),
        arn=f"{PREFIX}:group/shop/abc-1/*?$",
    ),
    no(
        "Under version 2008-10-17 variables are literal text.",
        allow(resource=f"{PREFIX}:topic/shop/abc-1/${{aws:username}}"),
        context={"aws:username": ["orders"]},
        version="2008-10-17",
    ),
    yes(
        "A variable may stand in a condition's value.",
        when("StringEquals", "aws:PrincipalTag/team", "${aws:username}"),
        context={"aws:username": ["alice"], "aws:principaltag/team": ["alice"]},
    ),
    yes(
        "A negated condition holds where its variable has no value.",
        when("StringNotEquals", "aws:PrincipalTag/team", "${aws:ResourceTag/team}"),
        context={"aws:principaltag/team": ["red"]},
    ),
]


def holds(sentence: str, operator: str, value: Any, got: str | None) -> Case:
    context = {} if got is None else {"aws:key": [got]}
    return yes(sentence, when(operator, "aws:Key", value), context=context)


def fails(sentence: str, operator: str, value: Any, got: str | None) -> Case:
    return replace(holds(sentence, operator, value, got), allowed=False)


CONDITIONS = [
    holds("StringEquals is exact.", "StringEquals", "red", "red"),
    fails("StringEquals has case.", "StringEquals", "Red", "red"),
    fails("StringEquals knows no wildcard.", "StringEquals", "r*", "red"),
    holds("Several values are alternatives.", "StringEquals", ["blue", "red"], "red"),
    fails("A missing key fails an operator.", "StringEquals", "red", None),
    holds("StringNotEquals is the negation.", "StringNotEquals", "blue", "red"),
    fails("A negated operator wants none of its values.", "StringNotEquals", ["blue", "red"], "red"),
    holds("A missing key satisfies a negated operator.", "StringNotEquals", "red", None),
    holds("StringEqualsIgnoreCase has no case.", "StringEqualsIgnoreCase", "RED", "red"),
    fails("StringNotEqualsIgnoreCase negates it.", "StringNotEqualsIgnoreCase", "RED", "red"),
    holds("StringLike knows wildcards.", "StringLike", "r?d*", "red-hot"),
    holds("StringLike's `*` matches colons and slashes.", "StringLike", "a*z", "a:/b:z"),
    fails("StringLike has case.", "StringLike", "R*", "red"),
    fails("StringNotLike negates it.", "StringNotLike", "r*", "red"),
    holds("IfExists is satisfied by a missing key.", "StringEqualsIfExists", "red", None),
    fails("IfExists still compares a key that is there.", "StringEqualsIfExists", "red", "blue"),
    holds("Null true: the key is absent.", "Null", "true", None),
    fails("Null true fails where the key is present.", "Null", value=True, got="red"),
    holds("Null false: the key is present.", "Null", "false", "red"),
    holds("Bool compares without case, and takes JSON's booleans.", "Bool", value=True, got="True"),
    fails("Bool false is not true.", "Bool", "false", "true"),
    holds("BoolIfExists is satisfied by a missing key.", "BoolIfExists", "true", None),
    holds("Numbers compare as numbers.", "NumericEquals", "10", "10.0"),
    holds("9 is less than 10, though not as text.", "NumericLessThan", 10, "9"),
    fails("Less is not equal.", "NumericLessThan", 10, "10"),
    holds("NumericGreaterThanEquals includes the bound.", "NumericGreaterThanEquals", "10", "10"),
    fails("What is no number satisfies no comparison.", "NumericLessThan", "10", "nine"),
    holds("Dates compare as instants over zones.", "DateEquals", "2030-01-01T01:00:00+01:00", "1893456000"),
    holds("Before a date.", "DateLessThan", "2030-01-01T00:00:00Z", "2029-12-31T23:59:59Z"),
    fails("After a date.", "DateLessThan", "2030-01-01", "2030-01-01T00:00:01Z"),
    holds(
        "A date may be in seconds since 1970.",
        "DateGreaterThanEquals",
        1893456000,
        "2030-01-01T00:00:00Z",
    ),
    holds("An address in the range.", "IpAddress", "203.0.113.0/24", "203.0.113.77"),
    holds("An address without a prefix is itself alone.", "IpAddress", "203.0.113.7", "203.0.113.7"),
    fails("An address out of the range.", "IpAddress", ["203.0.113.0/24", "::1"], "198.51.100.1"),
    holds("IPv6 ranges work as well.", "IpAddress", "2001:db8::/32", "2001:db8:1::9"),
    fails("NotIpAddress negates it.", "NotIpAddress", "203.0.113.0/24", "203.0.113.77"),
    holds("ArnLike compares segment by segment.", "ArnLike", "arn:aws:iam::*:user/*", USER),
    fails("ArnLike's `*` does not run on over segments.", "ArnLike", "arn:aws:*:user/team/alice", USER),
    holds("ArnEquals knows wildcards as ArnLike does.", "ArnEquals", "arn:aws:iam::*:user/team/*", USER),
    fails("ArnNotLike negates it.", "ArnNotLike", "arn:aws:iam::*:user/*", USER),
    holds("ForAllValues is satisfied by a missing key.", "ForAllValues:StringEquals", "red", None),
    fails("ForAnyValue is not.", "ForAnyValue:StringNotEquals", "red", None),
    yes(
        "ForAnyValue wants one of the request's values to match.",
        when("ForAnyValue:StringEquals", "aws:TagKeys", ["red"]),
        context={"aws:tagkeys": ["blue", "red"]},
    ),
    no(
        "ForAllValues wants each of them to match.",
        when("ForAllValues:StringEquals", "aws:TagKeys", ["red"]),
        context={"aws:tagkeys": ["blue", "red"]},
    ),
    yes(
        "ForAllValues is content where each matches one of the policy's.",
        when("ForAllValues:StringLike", "aws:TagKeys", ["r*", "b*"]),
        context={"aws:tagkeys": ["blue", "red"]},
    ),
    no(
        "Several keys must all be satisfied.",
        allow(Condition={"StringEquals": {"aws:a": "1", "aws:b": "2"}}),
        context={"aws:a": ["1"], "aws:b": ["3"]},
    ),
    no(
        "Several operators must all be satisfied.",
        allow(Condition={"StringEquals": {"aws:a": "1"}, "Bool": {"aws:b": "true"}}),
        context={"aws:a": ["1"], "aws:b": ["false"]},
    ),
    yes(
        "A deny whose condition fails denies nothing.",
        allow(),
        deny(Condition={"StringEquals": {"aws:a": "1"}}),
        context={"aws:a": ["2"]},
    ),
    no(
        "A deny by a negated operator bites where the key is missing.",
        allow(),
        deny(Condition={"StringNotEquals": {"aws:a": "1"}}),
    ),
    yes("An empty Condition asks nothing.", allow(Condition={})),
]

LIMITS = [
    yes("A boundary that allows too leaves what is granted.", allow(), boundary=[allow()]),
    no(
        "Identity policy and boundary intersect: an implicit deny of the boundary ends it.",
        allow(),
        boundary=[allow("kafka-cluster:WriteData")],
        reason="the permissions boundary does not allow",
    ),
    no("A boundary grants nothing by itself.", boundary=[allow()]),
    no("An explicit deny in the boundary wins.", allow(), boundary=[allow(), deny(resource=TOPIC)]),
    yes(
        "A session policy that allows too leaves what is granted.",
        allow(),
        session=[allow()],
        principal=SESSION,
    ),
    no(
        "Identity policy and session policy intersect.",
        allow(),
        session=[allow(resource=TOPIC + "-2")],
        principal=SESSION,
        reason="the session policy does not allow",
    ),
    no("A session policy grants nothing by itself.", session=[allow()], principal=SESSION),
    no("An explicit deny in the session policy wins.", allow(), session=[allow(), deny()], principal=SESSION),
    no(
        "All of identity policy, boundary and session policy must allow.",
        allow(),
        boundary=[allow("kafka-cluster:Connect")],
        session=[allow()],
        principal=SESSION,
    ),
    no("An empty boundary allows nothing.", allow(), boundary=[deny("kafka-cluster:WriteData")]),
]

SAME_ACCOUNT = [
    yes("The cluster policy may grant a user by itself.", resource=[to(USER)]),
    yes("It may name one of several.", resource=[to([FOREIGN_USER, USER])]),
    no("It grants nobody whom it does not name.", resource=[to(FOREIGN_USER)]),
    yes("Identity policies still grant beside it.", allow(), resource=[to(FOREIGN_USER)]),
    no(
        "An explicit deny in it wins over the identity policy.",
        allow(),
        resource=[deny(Principal={"AWS": USER})],
    ),
    no("An explicit deny in an identity policy wins over it.", deny(), resource=[to(USER)]),
    yes(
        "A grant to a user's ARN is not limited by a boundary's implicit deny.",
        resource=[to(USER)],
        boundary=[allow("kafka-cluster:Connect")],
    ),
    no(
        "It is limited by a boundary's explicit deny.",
        resource=[to(USER)],
        boundary=[allow(), deny("kafka-cluster:ReadData")],
    ),
    yes("A grant to a role's ARN reaches its sessions.", resource=[to(ROLE)], principal=SESSION),
    no(
        "A grant to a role's ARN is limited by a boundary's implicit deny.",
        resource=[to(ROLE)],
        principal=SESSION,
        boundary=[allow("kafka-cluster:Connect")],
    ),
    no(
        "A grant to a role's ARN is limited by a session policy's implicit deny.",
        resource=[to(ROLE)],
        principal=SESSION,
        session=[allow("kafka-cluster:Connect")],
    ),
    yes(
        "A grant to a session's ARN is limited by neither.",
        resource=[to(SESSION)],
        principal=SESSION,
        session=[allow("kafka-cluster:Connect")],
        boundary=[allow("kafka-cluster:Connect")],
    ),
    no("A grant to a session does not reach another.", resource=[to(SESSION)], principal=SESSION + "0"),
    no(
        "A role of that name in another account is another.",
        allow(),
        resource=[to(ROLE)],
        principal=FOREIGN_SESSION,
    ),
    yes(
        "A grant to a federated user's ARN goes to the session directly.",
        resource=[to(FEDERATED)],
        principal=FEDERATED,
        session=[allow("kafka-cluster:Connect")],
    ),
    no("A grant to the account lets its identity policies decide.", resource=[to(ROOT)]),
    yes(
        "With an identity policy, a grant to the account adds nothing and takes nothing.",
        allow(),
        resource=[to(ROOT)],
    ),
    yes("A grant to the account is one to its root user.", resource=[to(ACCOUNT)], principal=ROOT),
    yes('A grant to "*" is one to everybody in the account.', resource=[allow(Principal="*")]),
    yes(
        'A grant to "*" is not limited by a session policy.',
        resource=[allow(Principal={"AWS": "*"})],
        principal=SESSION,
        session=[allow("kafka-cluster:Connect")],
    ),
    no(
        "A deny to the account reaches all of its principals.",
        allow(),
        resource=[deny(Principal={"AWS": ACCOUNT})],
    ),
    no(
        "A deny to a role reaches its sessions.",
        allow(),
        resource=[deny(Principal={"AWS": ROLE})],
        principal=SESSION,
    ),
    yes(
        "A deny to another principal reaches nobody else.", allow(), resource=[deny(Principal={"AWS": ROLE})]
    ),
    no(
        "A service's grant is not a user's.",
        resource=[allow(Principal={"Service": "firehose.amazonaws.com"})],
    ),
    no(
        "A grant with a condition that fails grants nothing.",
        resource=[
            allow(
                Principal="*", Condition={"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/*"}}
            )
        ],
        context={"aws:principalarn": [USER]},
    ),
    no(
        "Actions of the control plane in a cluster policy grant nothing on the data plane.",
        resource=[{**to(USER), "Action": ["kafka:CreateVpcConnection", "kafka:GetBootstrapBrokers"]}],
    ),
]

NOT_PRINCIPAL = [
    no(
        "NotPrincipal with Deny denies everybody else.",
        allow(),
        resource=[deny(NotPrincipal={"AWS": [FOREIGN_USER, FOREIGN_ROOT]})],
    ),
    yes(
        "It spares a user who is listed with their account.",
        allow(),
        resource=[deny(NotPrincipal={"AWS": [USER, ROOT]})],
    ),
    no(
        "A user listed without their account is denied with it.",
        allow(),
        resource=[deny(NotPrincipal={"AWS": USER})],
    ),
    yes(
        "It spares the sessions of a role that is listed with its account.",
        allow(),
        resource=[deny(NotPrincipal={"AWS": [ROLE, ROOT]})],
        principal=SESSION,
    ),
    no(
        "A session listed without its role is denied.",
        allow(),
        resource=[deny(NotPrincipal={"AWS": [SESSION, ROOT]})],
        principal=SESSION,
    ),
    no(
        "With a permissions boundary it always denies, whoever is listed.",
        allow(),
        boundary=[allow()],
        resource=[deny(NotPrincipal={"AWS": [USER, ROOT]})],
    ),
]

CROSS_ACCOUNT = [
    no("Another account's identity policy alone grants nothing here.", allow(), principal=FOREIGN_USER),
    no(
        "The cluster policy alone grants another account nothing.",
        resource=[to(FOREIGN_USER)],
        principal=FOREIGN_USER,
    ),
    yes("Both together do.", allow(), resource=[to(FOREIGN_USER)], principal=FOREIGN_USER),
    yes(
        "The cluster policy may name the account as a whole.",
        allow(),
        resource=[to(OTHER_ACCOUNT)],
        principal=FOREIGN_USER,
    ),
    yes('Or "*".', allow(), resource=[allow(Principal="*")], principal=FOREIGN_USER),
    no(
        "An explicit deny on either side wins.",
        allow(),
        deny(resource=TOPIC),
        resource=[to(FOREIGN_USER)],
        principal=FOREIGN_USER,
    ),
    no(
        "The other account's boundary limits its principals.",
        allow(),
        boundary=[allow("kafka-cluster:Connect")],
        resource=[to(FOREIGN_USER)],
        principal=FOREIGN_USER,
    ),
    no(
        "A grant to a session's ARN does not spare it the session policy of its account.",
        allow(),
        session=[allow("kafka-cluster:Connect")],
        resource=[to(FOREIGN_SESSION)],
        principal=FOREIGN_SESSION,
    ),
]

CASES = [
    *BASICS,
    *ACTIONS,
    *RESOURCES,
    *VARIABLES,
    *CONDITIONS,
    *LIMITS,
    *SAME_ACCOUNT,
    *NOT_PRINCIPAL,
    *CROSS_ACCOUNT,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence)
def test_iam_decides_as_its_documentation_says(case: Case) -> None:
    allowed, reason = case.decide()
    assert allowed is case.allowed, reason
    assert case.reason in reason


def test_each_case_is_told_by_a_sentence_of_its_own() -> None:
    assert len({case.sentence for case in CASES}) == len(CASES) >= 60
