"""The authorizer of ACLs: super users, the default without any ACL, reasons, and its version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_broker.auth.acl.authorizer import AclAuthorizer, parse_super_users
from tidemill_broker.auth.acl.rules import Acl, PatternType, Permission
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.authorizer import Authorizer, Operation, ResourceType
from tidemill_broker.auth.session import Principal, Session

HOST = "10.0.0.1"
ALICE = Session(principal=Principal(type="User", name="alice"))
ROOT = Session(principal=Principal(type="User", name="CN=root,OU=a;b"))


def topic_acl(name: str, **members: object) -> Acl:
    values: dict[str, object] = {
        "resource_type": ResourceType.TOPIC,
        "pattern_type": PatternType.LITERAL,
        "name": name,
        "principal": "User:alice",
        "host": "*",
        "operation": Operation.READ,
        "permission": Permission.ALLOW,
    }
    return Acl(**(values | members))  # type: ignore[arg-type]  # a test may give any of them


@pytest.fixture
def store(tmp_path: Path) -> AclStore:
    return AclStore(tmp_path / "acls.json")


def authorizer(store: AclStore, *, allow_everyone: bool = False) -> Authorizer:
    return AclAuthorizer(store, super_users=frozenset({str(ROOT.principal)}), allow_everyone=allow_everyone)


def reads(acls: Authorizer, name: str, session: Session = ALICE) -> bool:
    return acls.decide(session, HOST, Operation.READ, ResourceType.TOPIC, name).allowed


@pytest.mark.parametrize("allow_everyone", [False, True])
def test_without_any_acl_the_default_holds(store: AclStore, *, allow_everyone: bool) -> None:
    acls = authorizer(store, allow_everyone=allow_everyone)
    decision = acls.decide(ALICE, HOST, Operation.READ, ResourceType.TOPIC, "flights")
    assert decision.allowed is allow_everyone
    assert f"allow.everyone.if.no.acl.found is {allow_everyone}".lower() in decision.reason
    assert acls.allows_some(ALICE, HOST, Operation.WRITE, ResourceType.TOPIC) is allow_everyone


@pytest.mark.parametrize(
    ("known", "closed", "open_still"),
    [
        (topic_acl("ab", principal="User:bob"), ["ab"], ["a", "abc"]),
        (topic_acl("ab", principal="User:bob", pattern_type=PatternType.PREFIXED), ["ab", "abc"], ["a"]),
        (topic_acl("*", principal="User:bob", operation=Operation.WRITE), ["a", "b"], []),
        (topic_acl("*", principal="User:bob", pattern_type=PatternType.PREFIXED), ["*", "*a"], ["a"]),
        (topic_acl("a", resource_type=ResourceType.GROUP), [], ["a"]),
    ],
)
def test_one_acl_of_anybody_closes_its_resources_for_everybody_else(
    store: AclStore, known: Acl, closed: list[str], open_still: list[str]
) -> None:
    """So it is on MSK, whose default allows everyone."""
    store.add([known])
    acls = authorizer(store, allow_everyone=True)
    assert [name for name in (*closed, *open_still) if reads(acls, name)] == open_still


def test_a_deny_wins_wherever_it_stands(store: AclStore) -> None:
    prefix = topic_acl("fli", pattern_type=PatternType.PREFIXED, principal="User:*", host=HOST)
    store.add([topic_acl("flights"), topic_acl("*", operation=Operation.ALL)])
    acls = authorizer(store)
    assert reads(acls, "flights")
    denial = topic_acl(
        "fli", pattern_type=PatternType.PREFIXED, principal="User:*", host=HOST, permission=Permission.DENY
    )
    store.add([denial, prefix])
    decision = acls.decide(ALICE, HOST, Operation.READ, ResourceType.TOPIC, "flights")
    assert decision == (False, "the ACL DENY READ to User:* from 10.0.0.1 on PREFIXED TOPIC 'fli'")
    assert acls.decide(ALICE, "10.0.0.2", Operation.READ, ResourceType.TOPIC, "flights").allowed
    assert reads(acls, "orders")


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:db8:0:0:0:0:0:a0", "2001:db8::a0"),
        ("10.0.0.1", "::ffff:10.0.0.1"),
        ("fe80:0:0:0:0:0:0:1%eth0", "fe80::1%eth0"),
    ],
)
def test_a_host_is_spelt_as_java_spells_it(store: AclStore, host: str, peer: str) -> None:
    """ACLs that were made for Kafka mean the same hosts here."""
    acls = authorizer(store, allow_everyone=True)
    store.add([topic_acl("*", principal="User:*", host=host, permission=Permission.DENY)])
    store.add([topic_acl("*")])
    question = (Operation.READ, ResourceType.TOPIC)
    assert not acls.decide(ALICE, peer, *question, "flights").allowed
    assert not acls.allows_some(ALICE, peer, *question)
    assert acls.decide(ALICE, "::2", *question, "flights").allowed


def test_a_deny_of_read_leaves_describe_alone(store: AclStore) -> None:
    store.add([topic_acl("a", operation=Operation.WRITE), topic_acl("a", permission=Permission.DENY)])
    acls = authorizer(store)
    assert acls.decide(ALICE, HOST, Operation.DESCRIBE, ResourceType.TOPIC, "a").allowed
    assert not reads(acls, "a")


def test_super_users_may_do_anything(store: AclStore) -> None:
    everything = topic_acl("*", principal="User:*", operation=Operation.ALL, permission=Permission.DENY)
    store.add([everything])
    acls = authorizer(store)
    assert reads(acls, "flights", ROOT)
    assert acls.allows_some(ROOT, HOST, Operation.WRITE, ResourceType.TOPIC)
    assert not acls.allows_some(ALICE, HOST, Operation.WRITE, ResourceType.TOPIC)


def test_some_topic_is_enough_to_write_without_a_name(store: AclStore) -> None:
    """KIP-679: an idempotent producer needs no right of the cluster if it may write somewhere."""
    acls = authorizer(store)
    store.add([topic_acl("a", operation=Operation.READ)])
    assert not acls.allows_some(ALICE, HOST, Operation.WRITE, ResourceType.TOPIC)
    store.add([topic_acl("a", operation=Operation.WRITE)])
    assert acls.allows_some(ALICE, HOST, Operation.WRITE, ResourceType.TOPIC)


def test_a_change_bites_with_the_next_decision(store: AclStore) -> None:
    acls = authorizer(store)
    versions = [acls.version]
    store.add([topic_acl("a")])
    versions.append(acls.version)
    assert reads(acls, "a")
    store.delete([topic_acl("a")])
    versions.append(acls.version)
    assert not reads(acls, "a")
    assert versions == sorted(set(versions))


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("", set()),
        ("User:a", {"User:a"}),
        (" User:a ; ;User:CN=x,OU=y;", {"User:a", "User:CN=x,OU=y"}),
    ],
)
def test_super_users_are_separated_by_semicolons(text: str, users: set[str]) -> None:
    assert parse_super_users(text) == users


def test_a_super_user_without_a_type_is_rejected() -> None:
    with pytest.raises(ValueError, match="'alice' is no principal: write Type:name, as in User:alice"):
        parse_super_users("User:bob;alice")
