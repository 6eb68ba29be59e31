"""What is wrong with a policy document is told by one sentence that names the statement and the fix."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.iam.aws_managed_policies import aws_managed_policies_data

from tidemill_broker.auth.iam.policies import PolicyError, parse_policy

GOOD: dict[str, Any] = {"Effect": "Allow", "Action": "kafka-cluster:ReadData", "Resource": "*"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def document(*statements: Any, **elements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements), **elements}


def condition(operator: str, value: Any) -> dict[str, Any]:
    return document({**GOOD, "Condition": {operator: {"aws:key": value}}})


REFUSED: list[tuple[Any, str]] = [
    ([], 'the policy is not an object; write {"Version"'),
    ({"Version": "2012-10-17"}, "the policy has no Statement; write at least one"),
    (document(), "the policy has no Statement; write at least one"),
    (document(GOOD, Version="2012-10-18"), "the policy's Version is '2012-10-18'; write \"2012-10-17\""),
    (document(GOOD, Statements=[]), "the policy has the unknown element 'Statements'; the policy holds Id"),
    (document(GOOD, "text"), "statement 2: it is not an object; write {"),
    (document({**GOOD, "Actions": "*"}), "statement 1: the statement has the unknown element 'Actions'"),
    (document({**GOOD, "Effect": "allow"}), "statement 1: its Effect is 'allow'; write Allow or Deny"),
    (document(without("Effect")), "statement 1: its Effect is None; write Allow or Deny"),
    (document(without("Action")), "it needs one of Action and NotAction, and has 0; write exactly one"),
    (document({**GOOD, "NotAction": "*"}), "it needs one of Action and NotAction, and has 2"),
    (document(without("Resource")), "it needs one of Resource and NotResource, and has 0"),
    (document({**GOOD, "Sid": "One", "Action": []}), "statement 1 (Sid 'One'): its Action is neither"),
    (document({**GOOD, "Action": [7]}), "its Action is neither a text nor a list of texts"),
    (
        document({**GOOD, "Action": "ReadData"}),
        "its action 'ReadData' is not service:Name; write one such as",
    ),
    (document({**GOOD, "Action": "kafka*:ReadData"}), "its action 'kafka*:ReadData' is not service:Name"),
    (document({**GOOD, "Resource": "orders"}), "its resource 'orders' is no ARN; write \"*\" or an ARN"),
    (document({**GOOD, "Sid": "no spaces"}), "its Sid is not made of letters and digits"),
    (document({**GOOD, "Sid": "One"}, {**GOOD, "Sid": "One"}), "statement 2 (Sid 'One'): its Sid is another"),
    (document({**GOOD, "Principal": "*"}), "an identity-based policy names no principal; leave Principal"),
    (document({**GOOD, "Resource": "arn:aws:kafka:${aws:username"}), "has a variable that is not closed"),
    (document({**GOOD, "Resource": "arn:aws:kafka:${}"}), "has a variable that is not closed or has no name"),
    (document({**GOOD, "Resource": "arn:aws:kafka:${a, b}"}), "is not in single quotes; quote it"),
    (document({**GOOD, "Condition": []}), "Condition is not an object; write {"),
    (document({**GOOD, "Condition": {"Bool": "true"}}), "Condition Bool is not an object"),
    (
        condition("StringEqual", "x"),
        "'StringEqual' is not one that is known here; did you mean StringEquals?",
    ),
    (condition("BinaryEquals", "x"), "'BinaryEquals' is not one that is known here"),
    (condition("NullIfExists", "true"), "'NullIfExists' is not one that is known here"),
    (condition("StringEquals", []), "the values of StringEquals aws:key are an empty list"),
    (condition("StringEquals", [None]), "are neither texts, numbers nor booleans"),
    (condition("Null", "yes"), "write true (the key is absent) or false (it is present)"),
    (condition("Bool", "yes"), "Bool compares with 'yes'; write true or false"),
    (condition("NumericEquals", "ten"), "'ten' is compared with a number; write one"),
    (condition("NumericEquals", "NaN"), "'NaN' is compared with a number; write one"),
    (
        condition("DateEquals", "tomorrow"),
        "write ISO 8601 such as 2030-01-31T00:00:00Z, or seconds since 1970",
    ),
    (condition("IpAddress", "10.0.0.0/33"), "'10.0.0.0/33' is no address range; write CIDR such as"),
]

RESOURCE_REFUSED: list[tuple[dict[str, Any], str]] = [
    (GOOD, "it needs one of Principal and NotPrincipal, and has 0"),
    ({**GOOD, "NotPrincipal": "*"}, "NotPrincipal with Allow is not supported by IAM"),
    ({**GOOD, "Principal": "alice"}, 'its principal is neither "*" nor an object'),
    ({**GOOD, "Principal": {}}, 'its principal is neither "*" nor an object'),
    ({**GOOD, "Principal": {"User": "alice"}}, "principals of unknown type 'User'; use AWS"),
    ({**GOOD, "Principal": {"AWS": []}}, "its AWS principals are neither a text nor a list of texts"),
    ({**GOOD, "Principal": {"AWS": "alice"}}, "its principal 'alice' names no principal; write"),
    ({**GOOD, "Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}}, "names no principal"),
    ({**GOOD, "Principal": {"AWS": "arn:aws:iam::111122223333:group/x"}}, "names no principal"),
    ({**GOOD, "Principal": {"AWS": "arn:aws:sts::111122223333:assumed-role/x"}}, "names no principal"),
]


@pytest.mark.parametrize(("bad", "message"), REFUSED, ids=range(len(REFUSED)))
def test_a_document_that_iam_would_reject_is_rejected_with_its_fix(bad: Any, message: str) -> None:
    with pytest.raises(PolicyError) as rejection:
        parse_policy(bad)
    assert message in str(rejection.value)


@pytest.mark.parametrize(("bad", "message"), RESOURCE_REFUSED, ids=range(len(RESOURCE_REFUSED)))
def test_a_cluster_policy_names_principals_as_iam_does(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as rejection:
        parse_policy(document(bad), resource_based=True)
    assert message in str(rejection.value)


def test_one_statement_needs_no_list_and_an_id_is_welcome() -> None:
    policy = parse_policy({"Version": "2012-10-17", "Id": "mine", "Statement": GOOD})
    assert [statement.label for statement in policy.statements] == ["1"]


def test_a_policy_tells_which_keys_its_decisions_hang_on() -> None:
    policy = parse_policy(
        document(
            {
                **GOOD,
                "Resource": "arn:aws:kafka:::topic/a/b/${aws:UserName}",
                "Condition": {
                    "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"},
                    "StringEquals": {"aws:PrincipalTag/team": "${aws:PrincipalAccount}"},
                    "Null": {"aws:SourceIp": "false"},
                },
            }
        )
    )
    assert policy.keys == {
        "aws:username",
        "aws:currenttime",
        "aws:principaltag/team",
        "aws:principalaccount",
        "aws:sourceip",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = JSON | st.sampled_from(
    [
        "*",
        "Allow",
        "Deny",
        "kafka-cluster:*",
        "arn:aws:kafka:${aws:username}*",
        "arn:aws:iam::111122223333:root",
    ]
)
OPERATORS = st.sampled_from(
    ["StringLike", "ForAllValues:ArnLike", "NumericLessThanIfExists", "Null", "Date", "Bool"]
)
ELEMENTS = st.sampled_from(
    ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal"]
)
CONDITION = st.fixed_dictionaries(
    {"Condition": st.dictionaries(OPERATORS, st.dictionaries(st.text(), WORDS)) | JSON}
)
STATEMENT = st.dictionaries(ELEMENTS, WORDS | st.lists(WORDS, max_size=2) | st.dictionaries(ELEMENTS, WORDS))


@settings(deadline=None)
@given(
    st.builds(
        lambda base, statement, conditions: {**base, "Statement": [{**GOOD, **statement, **conditions}]},
        st.dictionaries(st.sampled_from(["Version", "Id"]), WORDS),
        STATEMENT,
        st.just({}) | CONDITION,
    )
    | JSON,
    st.booleans(),
)
def test_any_json_is_a_policy_or_is_rejected(value: Any, resource_based: bool) -> None:  # noqa: FBT001 - drawn
    with suppress(PolicyError):
        parse_policy(value, resource_based=resource_based)


def test_policies_that_aws_wrote_are_read() -> None:
    """One in eight of AWS's managed policies, as moto has them; all 1,582 were tried by hand."""
    managed = json.loads(aws_managed_policies_data)
    for name in sorted(managed)[::8]:
        assert parse_policy(managed[name]["Document"]).statements, name
