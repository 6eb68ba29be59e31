"""Users from Secrets Manager: each AmazonMSK_ secret is one, for as long as it is there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tidemill_broker.auth.scram import secrets_manager as scram_secrets
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, derive, matches
from tidemill_broker.auth.scram.secrets_manager import Follower, SecretsManager, follow
from tidemill_broker.auth.scram.users import Credentials, ScramUsers, SecretUser

REGION = "us-east-1"


class Counting:
    """Counts what is asked of Secrets Manager, and fails when told to."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.lists = self.values = 0
        self.fault: Exception | None = None

    def list_secrets(self, **parameters: Any) -> Any:
        self.lists += 1
        if self.fault is not None:
            raise self.fault
        return self.real.list_secrets(**parameters)

    def get_secret_value(self, **parameters: Any) -> Any:
        self.values += 1
        return self.real.get_secret_value(**parameters)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Counting(boto3.client("secretsmanager", region_name=REGION))


@pytest.fixture
def users(tmp_path: Path) -> ScramUsers:
    return ScramUsers(tmp_path / "scram.json")


@pytest.fixture
def follower(users: ScramUsers, manager: Counting) -> Follower:
    return Follower(users, lambda: manager)


def put(manager: Counting, name: str, **content: Any) -> str:
    arn: str = manager.real.create_secret(Name=name, SecretString=json.dumps(content))["ARN"]
    return arn


def opens(users: ScramUsers, name: str, password: str) -> bool:
    found = [(mechanism, users.find(mechanism, name)) for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    return all(known and matches(mechanism, each, password) for mechanism, (each, known) in found)  # type: ignore[arg-type]  # the two names


async def test_a_secret_is_a_user_while_it_is_there(
    manager: Counting, users: ScramUsers, follower: Follower
) -> None:
    arn = put(manager, "AmazonMSK_alice", username="alice", password="one")
    put(manager, "alice", username="mallory", password="one")
    put(manager, "myAmazonMSK_bob", username="bob", password="one")
    assert await follower.refresh()
    assert opens(users, "alice", "one")
    assert not users.find("SCRAM-SHA-512", "mallory").known
    assert not users.find("SCRAM-SHA-512", "bob").known
    manager.real.put_secret_value(
        SecretId=arn, SecretString=json.dumps({"username": "alice", "password": "two"})
    )
    await follower.refresh()
    assert opens(users, "alice", "two")
    assert not opens(users, "alice", "one")
    manager.real.put_secret_value(
        SecretId=arn, SecretString=json.dumps({"username": "alicia", "password": "two"})
    )
    await follower.refresh()
    assert opens(users, "alicia", "two")
    assert not users.find("SCRAM-SHA-512", "alice").known
    manager.real.delete_secret(SecretId=arn)
    await follower.refresh()

    assert users.by_secrets == {}


async def test_only_a_new_version_is_asked_for_and_salted(
    manager: Counting, users: ScramUsers, follower: Follower, tmp_path: Path
) -> None:
    for number in range(3):
        put(manager, f"AmazonMSK_{number}", username=f"user-{number}", password="one")
    await follower.refresh()
    await follower.refresh()
    await Follower(ScramUsers(tmp_path / "scram.json"), lambda: manager).refresh()

    assert (manager.lists, manager.values) == (3, 3)


async def test_every_page_is_read(
    manager: Counting, users: ScramUsers, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scram_secrets, "PAGE", 4)
    for number in range(10):
        put(manager, f"AmazonMSK_{number}", username=f"user-{number}", password="one")
    await follower.refresh()

    assert manager.lists == 3
    assert len(users.by_secrets) == 10


BAD = {
    "empty": ("", "JSON object of exactly"),
    "text": ("alice:hunter2", "JSON object of exactly"),
    "list": ('["alice", "hunter2"]', "JSON object of exactly"),
    "less": ('{"username": "alice"}', "JSON object of exactly"),
    "more": ('{"username": "alice", "password": "hunter2", "host": "x"}', "JSON object of exactly"),
    "nameless": ('{"username": "", "password": "hunter2"}', "not empty"),
    "number": ('{"username": "alice", "password": 1}', "must be strings"),
    "foreign": ('{"username": "ali\\u00e7e", "password": "hunter2"}', "must be ASCII"),
    "nul": ('{"username": "alice", "password": "hunter2\\u0000"}', "without a NUL"),
    "surrogate": ('{"username": "alice", "password": "hunter2\\ud800"}', "without a NUL"),
}


async def test_a_bad_secret_is_one_line_that_names_the_fix(
    manager: Counting, users: ScramUsers, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    put(manager, "AmazonMSK_good", username="bob", password="one")
    for name, (content, _) in BAD.items():
        bad: dict[str, Any] = {"SecretString": content} if content else {"SecretBinary": b"hunter2"}
        manager.real.create_secret(Name=f"AmazonMSK_{name}", **bad)
    for _ in range(3):
        assert await follower.refresh()

    lines = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(lines) == len(BAD)
    for name, (_, fix) in BAD.items():
        (line,) = [each for each in lines if f"AmazonMSK_{name}-" in each]
        assert fix in line
    assert "hunter2" not in caplog.text
    assert opens(users, "bob", "one")
    assert len(users.by_secrets) == 1


async def test_a_secret_that_was_spoilt_keeps_its_user(
    manager: Counting, users: ScramUsers, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    arn = put(manager, "AmazonMSK_alice", username="alice", password="one")
    await follower.refresh()
    manager.real.put_secret_value(SecretId=arn, SecretString="nothing")
    await follower.refresh()

    assert opens(users, "alice", "one")
    assert caplog.text.count("makes no SCRAM user") == 1


async def test_of_two_secrets_with_one_user_name_the_first_by_name_holds_and_one_warning_says_so(
    manager: Counting, users: ScramUsers, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    second = put(manager, "AmazonMSK_b", username="alice-9", password="hunter-two")
    await follower.refresh()
    assert opens(users, "alice-9", "hunter-two")
    put(manager, "AmazonMSK_a", username="alice-9", password="hunter-one")
    for _ in range(3):
        await follower.refresh()

    assert opens(users, "alice-9", "hunter-one")
    assert not opens(users, "alice-9", "hunter-two")
    (line,) = [each.getMessage() for each in caplog.records]
    assert "secrets AmazonMSK_a and AmazonMSK_b have the same user name: the password of AmazonMSK_a" in line
    assert "give each secret a user name of its own" in line
    assert not any(value in line for value in ("alice-9", "hunter"))
    # Fixed, and broken again: one more line.
    for name in ("bob", "alice-9"):
        content = json.dumps({"username": name, "password": "hunter-two"})
        manager.real.put_secret_value(SecretId=second, SecretString=content)
        await follower.refresh()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("ending", ["Aaaaaa", "zzzzzz", "000000"])
def test_chance_in_arns_does_not_choose_between_two_secrets(users: ScramUsers, ending: str) -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:AmazonMSK_"
    made = {
        f"{arn}{name}": SecretUser(version_id="v", username="alice", credentials=made_keys(password))
        for name, password in (("a-b-mmmmmm", "two"), (f"a-{ending}", "one"))
    }
    users.replace_secrets(made)

    assert opens(users, "alice", "one")


def made_keys(password: str) -> Credentials:
    return {mechanism: derive(mechanism, password) for mechanism in SCRAM_NAMES}


async def test_users_stay_while_secrets_manager_is_away(
    manager: Counting, users: ScramUsers, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    put(manager, "AmazonMSK_alice", username="alice", password="one")
    await follower.refresh()
    manager.fault = ConnectionError("refused")
    for _ in range(3):
        assert not await follower.refresh()
    assert opens(users, "alice", "one")
    manager.fault = None
    with caplog.at_level(logging.INFO):
        assert await follower.refresh()

    assert caplog.text.count("cannot be read from Secrets Manager") == 1
    assert caplog.text.count("are read from Secrets Manager again") == 1


async def test_more_users_than_msk_has_change_nothing(
    manager: Counting, users: ScramUsers, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(manager, "AmazonMSK_1", username="alice", password="one")
    await follower.refresh()
    monkeypatch.setattr(scram_secrets, "USERS_MAX", 1)
    put(manager, "AmazonMSK_2", username="bob", password="one")

    assert not await follower.refresh()
    assert [each.username for each in users.by_secrets.values()] == ["alice"]


async def test_follow_reads_at_once_and_again_until_it_is_cancelled(
    manager: Counting, users: ScramUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Asked(Counting):
        def list_secrets(self, **parameters: Any) -> Any:
            reply = super().list_secrets(**parameters)
            if self.lists == 2:
                loop.call_soon_threadsafe(asked.set)
            return reply

    def client(region: str) -> SecretsManager:
        assert region == REGION
        return Asked(manager.real)

    monkeypatch.setattr(scram_secrets, "_client", client)
    put(manager, "AmazonMSK_alice", username="alice", password="one")
    task = asyncio.create_task(follow(users, refresh_ms=1, region=REGION))
    async with asyncio.timeout(10):
        await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert opens(users, "alice", "one")
