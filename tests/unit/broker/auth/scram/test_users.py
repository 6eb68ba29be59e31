"""The store of SCRAM users: never half written, never readable by others, never without its secret."""

from __future__ import annotations

import base64
import json
import secrets
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.sasl_client import ALICE, BOB, OTHER_PASSWORD, PASSWORD, add_user
from tidemill_broker.auth.scram import users as scram_users
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, credential_of, derive, matches
from tidemill_broker.auth.scram.users import ScramUsers, SecretUser

SHA_256, SHA_512 = SCRAM_NAMES


def secret_user(name: str, password: str, version_id: str = "1") -> SecretUser:
    credentials = {mechanism: derive(mechanism, password) for mechanism in SCRAM_NAMES}
    return SecretUser(version_id=version_id, username=name, credentials=credentials)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "scram.json"


@pytest.fixture
def users(file: Path) -> ScramUsers:
    return ScramUsers(file)


def opens(users: ScramUsers, name: str, password: str) -> bool:
    credential, known = users.find(SHA_512, name)
    return known and matches(SHA_512, credential, password)


def test_users_outlive_the_broker(file: Path, users: ScramUsers) -> None:
    add_user(users, ALICE, PASSWORD)
    users.replace_secrets({"arn:1": secret_user(BOB, OTHER_PASSWORD)})
    again = ScramUsers(file)

    assert opens(again, ALICE, PASSWORD)
    assert opens(again, BOB, OTHER_PASSWORD)
    assert not opens(again, ALICE, OTHER_PASSWORD)
    assert again.by_secrets == users.by_secrets


def test_the_file_is_its_owners_alone_and_holds_no_password(file: Path, users: ScramUsers) -> None:
    add_user(users, ALICE, PASSWORD)
    users.replace_secrets({"arn:1": secret_user(BOB, OTHER_PASSWORD)})
    content = file.read_text()

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for password in (PASSWORD, OTHER_PASSWORD):
        assert password not in content
        assert base64.b64encode(password.encode()).decode() not in content
    assert [each.name for each in file.parent.iterdir()] == ["scram.json"]


def test_a_file_that_others_could_read_is_shut_and_told(
    file: Path, users: ScramUsers, caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(0o644)
    ScramUsers(file)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "others could read" in caplog.text


def test_a_users_mechanisms_come_and_go_one_by_one(users: ScramUsers) -> None:
    add_user(users, ALICE, PASSWORD)
    users.alter([(ALICE, SHA_512)], {})
    assert not users.find(SHA_512, ALICE).known
    assert users.find(SHA_256, ALICE).known
    users.alter([(ALICE, SHA_256)], {})

    assert users.by_api == {}


def test_where_both_know_a_name_the_secret_holds(users: ScramUsers) -> None:
    add_user(users, ALICE, PASSWORD)
    users.replace_secrets({"arn:1": secret_user(ALICE, OTHER_PASSWORD)})
    assert opens(users, ALICE, OTHER_PASSWORD)
    assert not opens(users, ALICE, PASSWORD)
    users.replace_secrets({})

    assert opens(users, ALICE, PASSWORD)


def test_of_two_secrets_with_one_name_always_the_same_holds(file: Path, users: ScramUsers) -> None:
    both = {"arn:2": secret_user(ALICE, OTHER_PASSWORD), "arn:1": secret_user(ALICE, PASSWORD)}
    users.replace_secrets(both)

    assert opens(users, ALICE, PASSWORD)
    assert opens(ScramUsers(file), ALICE, PASSWORD)


def test_nothing_changes_when_the_disk_fails(
    file: Path, users: ScramUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(users, ALICE, PASSWORD)
    before = file.read_text()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        add_user(users, BOB, OTHER_PASSWORD)
    with pytest.raises(OSError, match="No space"):
        users.replace_secrets({"arn:1": secret_user(BOB, OTHER_PASSWORD)})

    assert not users.find(SHA_512, BOB).known
    assert file.read_text() == before


def test_all_users_together_have_a_bound_and_whoever_is_there_can_be_changed(
    file: Path, users: ScramUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_user(users, ALICE, PASSWORD)
    monkeypatch.setattr(scram_users, "FILE_BYTES_MAX", 100)
    before = file.read_text()
    with pytest.raises(scram_users.TooManyUsers, match="100 bytes at most: delete others"):
        add_user(users, BOB, PASSWORD)
    assert file.read_text() == before
    users.alter([(ALICE, SHA_256)], {})

    assert opens(ScramUsers(file), ALICE, PASSWORD)


LOOKS = [(4096, secrets.token_bytes(32)), (8192, b"1x8ehyzhd2ubqlfx2x3nsmcaxy"), (10_000, bytes(64))]


@pytest.mark.parametrize("looks", [LOOKS[:1], LOOKS[1:2], LOOKS[2:], LOOKS])
def test_an_unknown_name_looks_like_one_of_the_users(
    file: Path, users: ScramUsers, looks: list[tuple[int, bytes]]
) -> None:
    users.alter(
        [],
        {
            (f"user{salt[:2]!r}", SHA_512): credential_of(SHA_512, b"x", salt=salt, iterations=iterations)
            for iterations, salt in looks
        },
    )
    found = [ScramUsers(file).find(SHA_512, f"nobody{number}") for number in range(50)]

    assert found == [users.find(SHA_512, f"nobody{number}") for number in range(50)]
    assert len({each.credential.salt for each in found}) == len(found)
    told = {
        (each.iterations, len(each.salt), each.salt.isalnum()) for each in (each.credential for each in found)
    }
    assert told == {(iterations, len(salt), salt.isalnum()) for iterations, salt in looks}


def altered(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, last = path.split("/")
    target = content
    for each in parents:
        target = target[each]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("version", None),
        ("serverSecret", None),
        ("serverSecret", "?"),
        ("users", []),
        ("users/alice", "x"),
        ("users/alice/SCRAM-SHA-1", {}),
        ("users/alice/SCRAM-SHA-512/salt", None),
        ("users/alice/SCRAM-SHA-512/storedKey", "AAAA"),
        ("users/alice/SCRAM-SHA-512/serverKey", 1),
        ("users/alice/SCRAM-SHA-512/iterations", 1),
        ("users/alice/SCRAM-SHA-512/iterations", "4096"),
        ("secrets", None),
        ("secrets/arn:1/versionId", None),
    ],
)
def test_a_damaged_file_is_told_at_the_start_without_its_keys(
    file: Path, users: ScramUsers, path: str, value: object
) -> None:
    add_user(users, ALICE, PASSWORD)
    users.replace_secrets({"arn:1": secret_user(BOB, OTHER_PASSWORD)})
    content = json.loads(file.read_text())
    key = content["users"]["alice"]["SCRAM-SHA-512"]["storedKey"]
    file.write_text(json.dumps(altered(content, path, value)))

    with pytest.raises(ValueError, match=r".") as caught:
        ScramUsers(file)
    assert key not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b'{"version": 1}'])
def test_what_is_no_file_of_users_is_told_at_the_start(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    with pytest.raises(ValueError, match=r"."):
        ScramUsers(file)
