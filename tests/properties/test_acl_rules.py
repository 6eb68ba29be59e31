"""The index of ACLs decides as the rules' text does, read rule by rule, whatever was added and taken away.

Names, principals and hosts are few and alike, so that patterns meet, nest and miss by one character.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_broker.auth.acl.rules import Acl, AclFilter, AclRules, PatternType, Permission
from tidemill_broker.auth.authorizer import Operation, ResourceType

TYPES = (ResourceType.TOPIC, ResourceType.GROUP)
NAMES = ("*", "a", "ab", "abc", "ab*", "b", "é", "éa", "hardcode")
PRINCIPALS = ("User:alice", "User:bob", "User:*", "IAM:alice")
HOSTS = ("*", "10.0.0.1", "::1")
OPERATIONS = tuple(Operation)[2:]
PATTERNS = (PatternType.LITERAL, PatternType.PREFIXED)
PERMISSIONS = (Permission.DENY, Permission.ALLOW)

ACLS = st.builds(
    Acl,
    resource_type=st.sampled_from(TYPES),
    pattern_type=st.sampled_from(PATTERNS),
    name=st.sampled_from(NAMES),
    principal=st.sampled_from(PRINCIPALS),
    host=st.sampled_from(HOSTS),
    operation=st.sampled_from(OPERATIONS),
    permission=st.sampled_from(PERMISSIONS),
)
FILTERS = st.builds(
    AclFilter,
    resource_type=st.sampled_from([ResourceType.UNKNOWN, ResourceType.ANY, *TYPES]),
    pattern_type=st.sampled_from(PatternType),
    name=st.sampled_from([None, "", *NAMES]),
    principal=st.sampled_from([None, *PRINCIPALS]),
    host=st.sampled_from([None, *HOSTS]),
    operation=st.sampled_from(Operation),
    permission=st.sampled_from(Permission),
)
HISTORIES = st.lists(st.tuples(ACLS, st.booleans()), max_size=40)


def after(history: list[tuple[Acl, bool]]) -> tuple[AclRules, set[Acl]]:
    """The index and a plain set after the same additions and removals."""
    rules, plain = AclRules(), set[Acl]()
    for acl, added in history:
        if added:
            rules.add(acl)
            plain.add(acl)
        elif acl in plain:
            rules.remove(acl)
            plain.remove(acl)
    return rules, plain


def covers(acl: Acl, resource_type: ResourceType, name: str) -> bool:
    """Kafka's documentation of patterns: literal, prefixed, and the literal `*`."""
    if acl.resource_type != resource_type:
        return False
    if acl.pattern_type == PatternType.PREFIXED:
        return name[: len(acl.name)] == acl.name
    return acl.name in {name, "*"}


def implies(acl: Acl, operation: Operation) -> bool:
    if acl.operation in (Operation.ALL, operation):
        return True
    if acl.permission == Permission.DENY:
        return False
    return (acl.operation, operation) in {
        (Operation.READ, Operation.DESCRIBE),
        (Operation.WRITE, Operation.DESCRIBE),
        (Operation.DELETE, Operation.DESCRIBE),
        (Operation.ALTER, Operation.DESCRIBE),
        (Operation.ALTER_CONFIGS, Operation.DESCRIBE_CONFIGS),
    }


def is_for(acl: Acl, principal: str, host: str) -> bool:
    return acl.principal in {principal, "User:*"} and acl.host in {host, "*"}


def some_is_left(acls: list[Acl]) -> bool:
    """KIP-679: some ALLOW that no DENY swallows whole; a wildcard is only swallowed by a wildcard."""
    denied = {(acl.pattern_type, acl.name) for acl in acls if acl.permission == Permission.DENY}
    wildcard = (PatternType.LITERAL, "*")
    if wildcard in denied:
        return False
    for acl in acls:
        if acl.permission == Permission.DENY:
            continue
        pattern = (acl.pattern_type, acl.name)
        prefixes = {(PatternType.PREFIXED, acl.name[:end]) for end in range(1, len(acl.name) + 1)}
        if pattern == wildcard or (pattern not in denied and not prefixes & denied):
            return True
    return False


@settings(max_examples=300, deadline=None)
@given(HISTORIES, st.sampled_from(PRINCIPALS), st.sampled_from(HOSTS))
def test_each_decision_is_that_of_the_rules_read_one_by_one(
    history: list[tuple[Acl, bool]], principal: str, host: str
) -> None:
    rules, plain = after(history)
    for resource_type in TYPES:
        for name in (*NAMES, "abcd", "x", ""):
            known = [acl for acl in plain if covers(acl, resource_type, name)]
            assert rules.knows(resource_type, name) is bool(known)
            for operation in OPERATIONS:
                speaking = {
                    acl.permission
                    for acl in known
                    if is_for(acl, principal, host) and implies(acl, operation)
                }
                found = rules.decisive(principal, host, operation, resource_type, name)
                assert (found and found.permission) == min(speaking, default=None), (operation, name)


@settings(max_examples=300, deadline=None)
@given(HISTORIES, st.sampled_from(PRINCIPALS), st.sampled_from(HOSTS), st.sampled_from(OPERATIONS))
def test_some_resource_may_be_had_if_an_allow_is_left_over(
    history: list[tuple[Acl, bool]], principal: str, host: str, operation: Operation
) -> None:
    rules, plain = after(history)
    for resource_type in TYPES:
        speaking = [
            acl
            for acl in plain
            if acl.resource_type == resource_type
            and is_for(acl, principal, host)
            and acl.operation in (Operation.ALL, operation)
        ]
        found = rules.allow_some(principal, host, operation, resource_type)
        assert found is some_is_left(speaking)


def is_meant(wanted: AclFilter, acl: Acl) -> bool:
    """Kafka's ResourcePatternFilter and AccessControlEntryFilter."""
    any_pattern = wanted.pattern_type in (PatternType.ANY, PatternType.MATCH)
    if wanted.pattern_type == PatternType.MATCH:
        by_name = wanted.name is None or covers(acl, acl.resource_type, wanted.name)
    else:
        by_name = wanted.name in (None, acl.name)
    return (
        wanted.resource_type in (ResourceType.ANY, acl.resource_type)
        and (any_pattern or wanted.pattern_type == acl.pattern_type)
        and by_name
        and wanted.principal in (None, acl.principal)
        and wanted.host in (None, acl.host)
        and wanted.operation in (Operation.ANY, acl.operation)
        and wanted.permission in (Permission.ANY, acl.permission)
    )


@settings(max_examples=500, deadline=None)
@given(HISTORIES, st.lists(FILTERS, max_size=5))
def test_a_filter_finds_each_acl_that_it_means_once(
    history: list[tuple[Acl, bool]], filters: list[AclFilter]
) -> None:
    rules, plain = after(history)
    assert len(rules) == len(plain)
    for wanted in [AclFilter(), *filters]:
        found = list(rules.find(wanted))
        assert len(found) == len(set(found))
        assert set(found) == {acl for acl in plain if is_meant(wanted, acl)}
