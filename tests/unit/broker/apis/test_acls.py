"""The handlers of ACLs: rights, limits and a failing disk; what they share with Kafka is tried on both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.kafka_frames import request, request_frame
from tests.fakes.work_meter import most_calls_in_a_turn
from tidemill_broker.apis import APIS, CloseConnection, acls
from tidemill_broker.apis.request import Request
from tidemill_broker.auth.acl import store as acl_store
from tidemill_broker.auth.acl.rules import PatternType, Permission
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.auth.session import Principal, Session
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import decode_request, read_request_header

DESCRIBE, CREATE, DELETE = 29, 30, 31
VERSIONS = (1, 2, 3)
ROOT = Session(principal=Principal(type="User", name="root"))
ALICE = Session(principal=Principal(type="User", name="alice"))
ANY = {"resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1, "permission_type": 1}


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    """Asked by root, who may do everything; others need ACLs."""
    with inner_broker(tmp_path, "super.users=User:root", "allow.everyone.if.no.acl.found=false") as opened:
        opened.connection = opened.open(session=ROOT)
        yield opened


def creation(name: str = "flights", **members: Any) -> dict[str, Any]:
    return {
        "resource_type": ResourceType.TOPIC,
        "resource_pattern_type": PatternType.LITERAL,
        "resource_name": name,
        "principal": "User:alice",
        "host": "*",
        "operation": Operation.READ,
        "permission_type": Permission.ALLOW,
        **members,
    }


def create(inner: InnerBroker, *creations: dict[str, Any], version: int = 3) -> list[ErrorCode]:
    results = inner.ask(CREATE, version, creations=list(creations)).results
    return [result.error_code for result in results]


def names(inner: InnerBroker, **members: Any) -> list[str]:
    return [resource.resource_name for resource in inner.ask(DESCRIBE, 3, **(ANY | members)).resources]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_created_is_described_and_deleted_in_every_version(inner: InnerBroker, version: int) -> None:
    assert create(inner, creation(), creation("fli", resource_pattern_type=4), version=version) == [
        ErrorCode.none,
        ErrorCode.none,
    ]
    described = inner.ask(DESCRIBE, version, **(ANY | {"resource_name_filter": "flights"})).resources
    assert [(each.resource_name, len(each.acls)) for each in described] == [("flights", 1)]
    (result,) = inner.ask(DELETE, version, filters=[ANY]).filter_results
    assert {each.resource_name for each in result.matching_acls} == {"fli", "flights"}
    assert names(inner) == []


def test_who_has_no_right_of_the_cluster_sees_and_changes_nothing(inner: InnerBroker) -> None:
    create(inner, creation())
    root, inner.connection = inner.connection, inner.open(session=ALICE)
    denied = ErrorCode.cluster_authorization_failed

    reply = inner.ask(DESCRIBE, 3, **ANY)
    assert (reply.error_code, reply.resources) == (denied, ())
    assert create(inner, creation("a"), creation("b")) == [denied, denied]
    results = inner.ask(DELETE, 3, filters=[ANY, ANY]).filter_results
    assert [(each.error_code, each.matching_acls) for each in results] == [(denied, ())] * 2

    inner.connection = root
    assert names(inner) == ["flights"]


def test_a_right_given_or_taken_holds_at_once_on_an_open_connection(inner: InnerBroker) -> None:
    right = creation(CLUSTER_NAME, resource_type=ResourceType.CLUSTER, operation=Operation.DESCRIBE)
    root, alice = inner.connection, inner.open(session=ALICE)
    codes = []
    for change in (None, "create", "delete"):
        inner.connection = root
        if change == "create":
            create(inner, right)
        elif change == "delete":
            inner.ask(DELETE, 3, filters=[ANY])
        inner.connection = alice
        codes.append(inner.ask(DESCRIBE, 3, **ANY).error_code)
    assert codes == [
        ErrorCode.cluster_authorization_failed,
        ErrorCode.none,
        ErrorCode.cluster_authorization_failed,
    ]


@pytest.mark.parametrize(
    ("key", "members"),
    [
        (DESCRIBE, ANY | {"operation": 0}),
        (DELETE, {"filters": [ANY | {"pattern_type_filter": 0}]}),
        (CREATE, {"creations": [creation(permission_type=0)]}),
    ],
)
def test_a_client_that_says_unknown_is_disconnected(
    inner: InnerBroker, key: int, members: dict[str, Any]
) -> None:
    with pytest.raises(CloseConnection, match="UNKNOWN"):
        inner.ask(key, 3, **members)


def test_a_full_store_rejects_the_whole_request_and_says_why(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl_store, "ACLS_MAX", 1)
    results = inner.ask(CREATE, 3, creations=[creation("a"), creation("b")]).results
    assert {(each.error_code, each.error_message[:31]) for each in results} == {
        (ErrorCode.policy_violation, "The broker keeps at most 1 ACLs")
    }
    assert names(inner) == []


def test_one_request_makes_or_deletes_no_more_than_kafka_lets_it(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes and texts are Kafka's for its 10,000, which take it seconds to try."""
    assert acls.CHANGES_MAX == 10_000
    monkeypatch.setattr(acls, "CHANGES_MAX", 10)
    many = [creation(f"t{number}") for number in range(11)]
    results = inner.ask(CREATE, 3, creations=many).results
    assert {(each.error_code, each.error_message) for each in results} == {
        (ErrorCode.policy_violation, "Unable to perform excessively large batch operation.")
    }
    assert set(create(inner, *many[:10]) + create(inner, *many)) == {ErrorCode.none}
    results = inner.ask(DELETE, 3, filters=[ANY | {"resource_name_filter": "t1"}, ANY]).filter_results
    assert {(each.error_code, each.error_message) for each in results} == {
        (ErrorCode.invalid_request, "Cannot remove more than 10 acls in a single delete operation.")
    }
    (result,) = inner.ask(DELETE, 3, filters=[ANY | {"resource_name_filter": "t1"}]).filter_results
    assert len(result.matching_acls) == 1
    (result,) = inner.ask(DELETE, 3, filters=[ANY]).filter_results
    assert len(result.matching_acls) == 10


def test_filters_that_look_at_too_much_are_rejected(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acls, "LOOKS_MAX", 10)
    create(inner, *(creation(f"t{number}") for number in range(6)))
    (found,) = inner.ask(DELETE, 3, filters=[ANY | {"host_filter": "nobody"}]).filter_results
    assert found.error_code is ErrorCode.none
    twice = inner.ask(DELETE, 3, filters=[ANY | {"host_filter": "nobody"}] * 2).filter_results
    assert {(each.error_code, each.error_message[:20]) for each in twice} == {
        (ErrorCode.invalid_request, "The filters have to ")
    }
    named = [ANY | {"resource_name_filter": f"t{number}"} for number in range(6)]
    assert len(inner.ask(DELETE, 3, filters=named).filter_results) == 6
    assert names(inner) == []


# Deleting ends with one step: all of them are gone at once.
@pytest.mark.parametrize(("key", "filters", "each"), [(DESCRIBE, ANY, 5), (DELETE, {"filters": [ANY]}, 25)])
def test_many_acls_are_listed_and_deleted_in_short_steps(
    inner: InnerBroker, key: int, filters: dict[str, Any], each: int
) -> None:
    many = 2_000
    create(inner, *(creation(f"t{number}") for number in range(many)))
    frame = request_frame(request(key, 3, **filters))
    header = read_request_header(frame)
    asked = Request(api="", header=header, body=decode_request(header, frame), connection=inner.connection)
    assert most_calls_in_a_turn(partial(APIS[key].handle, inner.broker, asked)) < each * many


def test_a_disk_that_fails_is_told(inner: InnerBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert create(inner, creation()) == [ErrorCode.kafka_storage_error]
    assert names(inner) == []
    assert create(inner, creation()) == [ErrorCode.none]


def test_what_was_answered_is_on_disk(inner: InnerBroker) -> None:
    create(inner, creation())
    kept = AclStore(inner.broker.settings.data_dir / "acls.json").all()
    assert [each.name for each in kept] == ["flights"]
