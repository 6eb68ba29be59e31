"""`tidemill broker identity`: what it writes the broker takes up, and a secret is shown once."""

from __future__ import annotations

import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.iam_identities import EVERYTHING, USER
from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.commands.identity import main

SECRET = "wJal+rXUt/nFEMI+K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2lu+X2VjE/L3//=="


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "broker"


def run(data_dir: Path, command: str, *arguments: str) -> int:
    return main([command, *arguments, "--data-dir", str(data_dir)])


def test_add_makes_a_key_that_the_broker_takes(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data_dir, "add", "--principal", USER, "--admin") == 0
    shown = capsys.readouterr().out
    key, secret = re.findall(r"^export AWS_\w+=(\S+)$", shown, re.MULTILINE)
    identity = Identities([data_dir / "identities.json"]).get(key)

    assert identity is not None
    assert (identity.secret_access_key, identity.principal_arn) == (secret, USER)
    assert len(key) == 20
    assert len(secret) == 40


def test_the_file_is_its_owners_alone_and_no_draft_is_left(data_dir: Path) -> None:
    run(data_dir, "add", "--principal", USER, "--admin")

    assert [file.name for file in data_dir.iterdir()] == ["identities.json"]
    assert stat.S_IMODE((data_dir / "identities.json").stat().st_mode) == 0o600


def test_no_two_keys_are_alike(data_dir: Path) -> None:
    for _ in range(3):
        run(data_dir, "add", "--principal", USER, "--admin")
    entries = json.loads((data_dir / "identities.json").read_text())["identities"]

    assert len({each["accessKeyId"] for each in entries}) == 3
    assert len({each["secretAccessKey"] for each in entries}) == 3


def test_policies_come_from_files(data_dir: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(EVERYTHING))

    assert run(data_dir, "add", "--principal", USER, "--policy", str(policy), "--policy", str(policy)) == 0
    (written,) = json.loads((data_dir / "identities.json").read_text())["identities"]
    assert written["policies"] == [EVERYTHING, EVERYTHING]


@pytest.mark.parametrize(
    ("statements", "warned"),
    [
        ([{"Effect": "Allow", "Action": "kafka:*"}], True),
        ([{"Effect": "Allow", "Action": ["kafka:*", "kafka-cluster:Reed*"]}], True),
        ([{"Effect": "Deny", "Action": "kafka-cluster:*"}], True),
        ([{"Effect": "Allow", "NotAction": "kafka-cluster:*"}], True),
        ([{"Effect": "Allow", "Action": "kafka:*"}, {"Effect": "Allow", "Action": "*"}], False),
        ([{"Effect": "Allow", "Action": "KAFKA-cluster:read*"}], False),
        ([{"Effect": "Allow", "NotAction": "kafka:*"}], False),
    ],
)
def test_policies_that_allow_nothing_here_are_taken_and_told(
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    statements: list[dict[str, Any]],
    warned: bool,
) -> None:
    policy = tmp_path / "policy.json"
    document = {"Version": "2012-10-17", "Statement": [each | {"Resource": "*"} for each in statements]}
    policy.write_text(json.dumps(document))

    assert run(data_dir, "add", "--principal", USER, "--policy", str(policy)) == 0
    told = capsys.readouterr().err
    assert told.count("\n") == warned
    assert (f"no statement of {policy} allows any kafka-cluster action; write an Allow" in told) is warned
    assert run(data_dir, "add", "--principal", USER, "--admin", "--policy", str(policy)) == 0
    assert capsys.readouterr().err == ""


def test_a_key_of_elsewhere_comes_with_its_secret_and_token_by_standard_input(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n{TOKEN}\n"))
    given = ("--access-key-id", "ASIA1", "--secret-from-stdin", "--expires", "2026-01-31T12:00:00Z")

    assert run(data_dir, "add", "--principal", USER, "--admin", *given) == 0
    identity = Identities([data_dir / "identities.json"]).get("ASIA1")
    assert identity is not None
    assert (identity.secret_access_key, identity.session_token) == (SECRET, TOKEN)
    assert identity.expires_ms == 1_769_860_800_000
    assert SECRET not in capsys.readouterr().out


def test_list_shows_who_may_log_in_and_no_secret(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\n{TOKEN}\n"))
    run(data_dir, "add", "--principal", USER, "--admin", "--access-key-id", "ASIA1", "--secret-from-stdin")
    capsys.readouterr()

    assert run(data_dir, "list") == 0
    shown = capsys.readouterr().out
    assert shown.split() == ["ASIA1", USER, "1", "policy,", "session", "token"]


def test_list_of_nobody_says_how_to_add_one(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data_dir, "list") == 0
    assert "identity add" in capsys.readouterr().out


def test_remove_takes_one_key_away_and_keeps_the_rest_of_the_file(data_dir: Path) -> None:
    run(data_dir, "add", "--principal", USER, "--admin")
    run(data_dir, "add", "--principal", USER, "--admin")
    file = data_dir / "identities.json"
    first, second = json.loads(file.read_text())["identities"]

    assert run(data_dir, "remove", first["accessKeyId"]) == 0
    assert json.loads(file.read_text()) == {"version": 1, "identities": [second]}


def test_remove_of_an_unknown_identity_is_rejected(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data_dir, "add", "--principal", USER, "--admin")

    assert run(data_dir, "remove", "AKIANOBODY") == 1
    assert "has no access key AKIANOBODY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--principal", USER), "add --policy FILE or --admin"),
        (("--principal", "alice", "--admin"), "principalArn must be an ARN such as"),
        (("--principal", USER, "--admin", "--access-key-id", "A"), "go together"),
        (("--principal", USER, "--admin", "--secret-from-stdin"), "go together"),
        (("--principal", USER, "--admin", "--expires", "soon"), "expiration must be a time such as"),
        (("--principal", USER, "--policy", "/nowhere.json"), "/nowhere.json: No such file"),
    ],
)
def test_a_mistake_is_answered_with_its_fix_and_writes_nothing(
    data_dir: Path, arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data_dir, "add", *arguments) == 1
    assert complaint in capsys.readouterr().err
    assert not (data_dir / "identities.json").exists()


@pytest.mark.parametrize("text", ["{", '{"Statement": [{"Effect": "Perhaps"}]}', "[]"])
def test_a_policy_that_the_broker_would_reject_is_rejected_here(
    data_dir: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(text)

    assert run(data_dir, "add", "--principal", USER, "--policy", str(policy)) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (data_dir / "identities.json").exists()


def test_a_key_that_is_there_already_is_rejected(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--principal", USER, "--admin", "--access-key-id", "AKIA1", "--secret-from-stdin")
    statuses = []
    for secret in ("one", "two"):
        monkeypatch.setattr("sys.stdin", io.StringIO(secret))
        statuses.append(run(data_dir, "add", *given))

    assert statuses == [0, 1]
    assert "has the access key AKIA1 already" in capsys.readouterr().err


def test_a_file_that_the_broker_rejects_is_not_written_on(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data_dir, "add", "--principal", USER, "--admin")
    file = data_dir / "identities.json"
    file.chmod(0o644)
    before = file.read_bytes()

    assert run(data_dir, "add", "--principal", USER, "--admin") == 1
    assert "chmod 600" in capsys.readouterr().err
    assert file.read_bytes() == before
