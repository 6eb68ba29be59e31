"""Our policies agree with moto's IAM matcher, which others wrote, on plain allow, deny and wildcard cases.

Kept apart from the comparison, because moto reads AWS's documents otherwise: `?` (to moto, of regular
expressions), conditions (to moto, a failed one denies), NotResource (unknown to it) and names of actions
(to moto, with case). Our patterns also meet a slow matcher written from their definition, and hostile ones.
"""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from moto.iam.access_control import IAMPolicy, PermissionResult

from tidemill_broker.auth.iam.policies import Grants, Request, evaluate, parse_policy
from tidemill_broker.auth.iam.policies.patterns import Pattern, Style

ACCOUNT = "111122223333"
PREFIX = f"arn:aws:kafka:us-east-1:{ACCOUNT}"
ACTIONS = [
    "kafka-cluster:ReadData",
    "kafka-cluster:WriteData",
    "kafka-cluster:Connect",
    "kafka-cluster:AlterTopic",
]
ACTION_PATTERNS = [*ACTIONS, "*", "kafka-cluster:*", "kafka-cluster:*Data", "kafka-cluster:Re*a*", "kafka:*"]
RESOURCES = [
    f"{PREFIX}:cluster/shop/a-1",
    f"{PREFIX}:topic/shop/a-1/orders",
    f"{PREFIX}:topic/shop/a-1/orders-2",
    f"{PREFIX}:topic/other/b-1/orders",
    f"{PREFIX}:group/shop/a-1/orders",
]
RESOURCE_PATTERNS = [
    *RESOURCES,
    "*",
    "arn:aws:kafka:*",
    f"{PREFIX}:topic/*",
    f"{PREFIX}:topic/shop/*",
    f"{PREFIX}:topic/*/orders",
    f"{PREFIX}:*/shop/*ord*2",
    f"{PREFIX}:group/shop/*/orders*",
]


def some(values: list[str]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values) | st.lists(st.sampled_from(values), min_size=1, max_size=3)


STATEMENTS = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"]), "Resource": some(RESOURCE_PATTERNS)}
).flatmap(
    lambda fixed: st.builds(
        lambda name, actions: {**fixed, name: actions},
        st.sampled_from(["Action", "NotAction"]),
        some(ACTION_PATTERNS),
    )
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(STATEMENTS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.sampled_from(ACTIONS),
    st.sampled_from(RESOURCES),
)
def test_what_moto_permits_is_allowed_and_nothing_else(
    statements: list[list[dict[str, Any]]], action: str, resource: str
) -> None:
    documents = [{"Version": "2012-10-17", "Statement": each} for each in statements]
    verdicts = {
        IAMPolicy(json.dumps(document)).is_action_permitted(action, resource) for document in documents
    }
    request = Request(
        action=action,
        resource=resource,
        principal_arn=f"arn:aws:iam::{ACCOUNT}:user/alice",
        account_id=ACCOUNT,
        context={},
    )
    ours = evaluate(request, Grants(identity=[parse_policy(document) for document in documents]))
    # moto's requests ask all policies so: IAMRequestBase.check_action_permitted.
    permitted = PermissionResult.DENIED not in verdicts and PermissionResult.PERMITTED in verdicts
    assert ours.allowed is permitted, ours.reason


def defined(pattern: str, text: str, style: Style) -> bool:
    """Match by the definition, one character at a time."""
    colons_before = [pattern[:at].count(":") for at in range(len(pattern) + 1)]

    @cache
    def match(at: int, position: int) -> bool:
        if at == len(pattern):
            return position == len(text)
        char = pattern[at]
        free = style is Style.TEXT or colons_before[at] >= 5
        if char == "*":
            ends = at + 1 == len(pattern) or (style is Style.RESOURCE and pattern[at + 1] == ":")
            more = position < len(text) and (free or ends or text[position] != ":")
            return match(at + 1, position) or (more and match(at, position + 1))
        if position == len(text):
            return False
        fits = (free or text[position] != ":") if char == "?" else char == text[position]
        return fits and match(at + 1, position + 1)

    return match(0, 0)


@settings(max_examples=800, deadline=None)
@given(
    st.text("ab:*?", max_size=14),
    st.text("ab:*", max_size=16),
    st.sampled_from(Style),
)
def test_a_pattern_matches_what_its_definition_says(pattern: str, text: str, style: Style) -> None:
    assert Pattern(pattern, style, variables=False).matches(text, {}) is defined(pattern, text, style)


def test_no_pattern_is_slow() -> None:
    """What takes a backtracking matcher longer than the universe has been takes this one milliseconds."""
    patterns = [
        "*a" * 200 + "b",
        "a*" * 200 + "b",
        "?*" * 200 + "b",
        "*" * 400 + "b",
        "arn:" + "*:" * 100 + "b",
    ]
    began = time.process_time()
    for pattern in patterns:
        for style in Style:
            assert not Pattern(pattern, style, variables=False).matches("a:" * 500 + "c", {})
    assert time.process_time() - began < 1
