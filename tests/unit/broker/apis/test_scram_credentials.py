"""DescribeUserScramCredentials and AlterUserScramCredentials; Kafka's answers are compared in conformance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.sasl_client import ALICE, BOB, PASSWORD, Dialogue, ScramClient, add_user, mechanisms
from tidemill_broker.apis import scram_credentials
from tidemill_broker.auth.scram import users as scram_users
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, derive, salted_password
from tidemill_broker.auth.scram.users import SecretUser
from tidemill_broker.protocol.errors import ErrorCode

DESCRIBE, ALTER = 50, 51
SHA_256, SHA_512 = 1, 2
SALT = b"salt"


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path) as opened:
        yield opened


def upsertion(name: str, mechanism: int = SHA_512, password: str = PASSWORD) -> dict[str, Any]:
    salted = salted_password(SCRAM_NAMES[mechanism - 1], password, SALT, 4096)
    return {
        "name": name,
        "mechanism": mechanism,
        "iterations": 4096,
        "salt": SALT,
        "salted_password": salted,
    }


def alter(inner: InnerBroker, **members: Any) -> dict[str, tuple[ErrorCode, str | None]]:
    reply = inner.ask(ALTER, 0, **members)
    return {each.user: (each.error_code, each.error_message) for each in reply.results}


def described(inner: InnerBroker, *names: str) -> dict[str, list[tuple[int, int]]]:
    reply = inner.ask(DESCRIBE, 0, users=[{"name": name} for name in names] or None)
    return {
        each.user: [(info.mechanism, info.iterations) for info in each.credential_infos]
        for each in reply.results
    }


async def test_a_user_made_by_the_api_logs_in_at_once_and_does_not_once_deleted(inner: InnerBroker) -> None:
    offered = mechanisms(inner.broker.scram_users)
    assert alter(inner, upsertions=[upsertion(ALICE)]) == {ALICE: (ErrorCode.none, None)}
    assert (await Dialogue(inner, offered).log_in(ScramClient())).error_code is ErrorCode.none
    alter(inner, deletions=[{"name": ALICE, "mechanism": SHA_512}])

    failed = await Dialogue(inner, offered).log_in(ScramClient())
    assert failed.error_code is ErrorCode.sasl_authentication_failed


def test_what_is_right_in_a_request_is_done_though_the_rest_is_rejected(inner: InnerBroker) -> None:
    results = alter(
        inner,
        deletions=[{"name": "nobody", "mechanism": SHA_256}],
        upsertions=[upsertion(ALICE), upsertion(BOB) | {"iterations": 1}, upsertion("c") | {"mechanism": 9}],
    )

    assert {name: code for name, (code, _) in results.items()} == {
        ALICE: ErrorCode.none,
        BOB: ErrorCode.unacceptable_credential,
        "c": ErrorCode.unsupported_sasl_mechanism,
        "nobody": ErrorCode.resource_not_found,
    }
    assert described(inner) == {ALICE: [(SHA_512, 4096)]}


@pytest.mark.parametrize("excess", [{"salted_password": b""}, {"salt": b"s" * 1_001}, {"name": "a" * 1_001}])
def test_what_kafka_does_not_check_is_rejected_too(inner: InnerBroker, excess: dict[str, Any]) -> None:
    ((code, _),) = alter(inner, upsertions=[upsertion(ALICE) | excess]).values()

    assert code is ErrorCode.unacceptable_credential


def test_a_request_that_would_keep_others_waiting_is_rejected(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scram_credentials, "ITEMS_MAX", 1)
    results = alter(inner, upsertions=[upsertion(ALICE), upsertion(BOB)])

    assert {code for code, _ in results.values()} == {ErrorCode.policy_violation}
    assert described(inner) == {}


def test_users_of_secrets_are_neither_told_nor_deleted(inner: InnerBroker) -> None:
    users = inner.broker.scram_users
    credentials = {mechanism: derive(mechanism, PASSWORD) for mechanism in SCRAM_NAMES}
    users.replace_secrets({"arn:1": SecretUser(version_id="1", username=ALICE, credentials=credentials)})
    add_user(users, BOB, PASSWORD)

    assert set(described(inner)) == {BOB}
    gone = alter(inner, deletions=[{"name": ALICE, "mechanism": SHA_512}])
    assert gone[ALICE][0] is ErrorCode.resource_not_found
    assert users.find("SCRAM-SHA-512", ALICE).known


def test_there_are_so_many_users_and_no_more(inner: InnerBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram_credentials, "USERS_MAX", 1)
    assert alter(inner, upsertions=[upsertion(ALICE)])[ALICE][0] is ErrorCode.none
    code, message = alter(inner, upsertions=[upsertion(BOB)])[BOB]

    assert code is ErrorCode.unacceptable_credential
    assert message == "There may be 1 users: delete others first"
    assert alter(inner, upsertions=[upsertion(ALICE, SHA_256)])[ALICE][0] is ErrorCode.none


def test_many_new_users_of_one_request_are_counted(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scram_credentials, "USERS_MAX", 2)
    results = alter(inner, upsertions=[upsertion(name) for name in ("a", "b", "c")])

    assert [code for code, _ in results.values()].count(ErrorCode.none) == 2


def test_a_full_disk_is_told_and_nothing_is_changed(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("os.fsync", fail)
        results = alter(inner, upsertions=[upsertion(ALICE), upsertion("") | {"mechanism": 9}])

    assert results[ALICE] == (
        ErrorCode.kafka_storage_error,
        "The broker's disk failed: No space left on device.",
    )
    assert results[""][0] is ErrorCode.unacceptable_credential
    assert described(inner) == {}


def test_who_may_not_is_denied_in_each_apis_own_form(inner: InnerBroker, tmp_path: Path) -> None:
    add_user(inner.broker.scram_users, ALICE, PASSWORD)
    with inner_broker(tmp_path / "strict", "allow.everyone.if.no.acl.found=false") as strict:
        add_user(strict.broker.scram_users, ALICE, PASSWORD)
        results = alter(
            strict,
            deletions=[{"name": ALICE, "mechanism": SHA_512}, {"name": "b", "mechanism": SHA_512}],
            upsertions=[upsertion(ALICE), upsertion("")],
        )
        told = strict.ask(DESCRIBE, 0, users=[{"name": ALICE}])

        denied = (ErrorCode.cluster_authorization_failed, "Cluster authorization failed.")
        assert results == {"": denied, ALICE: denied, "b": denied}
        assert (told.error_code, told.error_message) == denied
        assert ALICE not in str(told.results)
        assert strict.broker.scram_users.find("SCRAM-SHA-512", ALICE).known


def test_more_bytes_of_users_than_are_kept_are_rejected_and_say_why(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scram_users, "FILE_BYTES_MAX", 300)
    code, message = alter(inner, upsertions=[upsertion(ALICE), upsertion(BOB)])[ALICE]
    assert code is ErrorCode.policy_violation
    assert message is not None
    assert "delete others first" in message
    assert alter(inner, upsertions=[upsertion(ALICE)])[ALICE] == (ErrorCode.none, None)
