"""The embedded AWS's keys on their way into the broker: who may come in, with which rights, until when."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto.core.base_backend import BackendDict
from moto.iam.models import IAMBackend, iam_backends
from moto.sts.models import STSBackend, sts_backends

from tidemill_broker.auth.iam.identities import Identities
from tidemill_local.aws.issued_credentials import SESSIONS_MAX, Export, restore_user
from tidemill_local.secured.kept_secrets import keep_secrets

ACCOUNT = "123456789012"
REGION = "us-east-1"


def policy(cluster: str = "*", **more: Any) -> str:
    resource = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/{cluster}"
    statement = {"Effect": "Allow", "Action": "kafka-cluster:Connect", "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def iam() -> Iterator[IAMBackend]:
    yield iam_backends[ACCOUNT]["aws"]
    BackendDict.reset()


@pytest.fixture
def sts(iam: IAMBackend) -> STSBackend:
    return sts_backends[ACCOUNT]["aws"]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path / "identities-aws.json")


def told(export: Export) -> dict[str, Any]:
    """What the broker's own reader makes of the file, by access key."""
    export.once()
    Identities([export.file])
    return {entry["accessKeyId"]: entry for entry in json.loads(export.file.read_text())["identities"]}


def cluster_of(document: Any) -> str:
    return str(document["Statement"][0]["Resource"]).rpartition("/")[2]


def assume(sts: STSBackend, role_name: str, session_policy: str = "") -> Any:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role_name}"
    return sts.assume_role(REGION, "session", arn, session_policy, 3600, "")


def add_role(iam: IAMBackend, name: str, boundary: str | None = None) -> None:
    iam.create_role(name, policy(), "/", boundary, "", [{"Key": "team", "Value": "blue"}], "3600")
    iam.put_role_policy(name, "inline", policy("role"))


def test_a_users_key_comes_with_its_inline_attached_and_group_policies(
    iam: IAMBackend, export: Export
) -> None:
    iam.create_user(REGION, "alice", tags=[{"Key": "team", "Value": "red"}])
    key = iam.create_access_key("alice")
    iam.put_user_policy("alice", "inline", policy("inline"))
    managed = iam.create_policy("", "/", policy("old"), "managed", [])
    iam.create_policy_version(managed.arn, policy("attached"), set_as_default=True)
    iam.attach_user_policy(managed.arn, "alice")
    iam.create_group("group")
    iam.put_group_policy("group", "inline", policy("group"))
    iam.add_user_to_group("group", "alice")

    entry = told(export)[key.access_key_id]

    assert entry["secretAccessKey"] == key.secret_access_key
    assert entry["principalArn"] == f"arn:aws:iam::{ACCOUNT}:user/alice"
    assert [cluster_of(document) for document in entry["policies"]] == ["inline", "attached", "group"]
    assert entry["tags"] == {"team": "red"}


def test_a_key_that_is_inactive_or_deleted_is_told_no_more(iam: IAMBackend, export: Export) -> None:
    iam.create_user(REGION, "alice")
    first, second = iam.create_access_key("alice"), iam.create_access_key("alice")
    assert set(told(export)) == {first.access_key_id, second.access_key_id}
    iam.update_access_key("alice", first.access_key_id, "Inactive")
    iam.delete_access_key(second.access_key_id, "alice")

    assert told(export) == {}


def test_a_session_has_its_roles_rights_its_own_policy_its_boundary_and_an_end(
    iam: IAMBackend, sts: STSBackend, export: Export
) -> None:
    boundary = iam.create_policy("", "/", policy("boundary"), "boundary", [])
    add_role(iam, "reader", boundary.arn)
    session = assume(sts, "reader", policy("session"))

    entry = told(export)[session.access_key_id]

    assert entry["sessionToken"] == session.session_token
    assert entry["principalArn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/session"
    names = ("policies", "sessionPolicies", "permissionsBoundary")
    assert [cluster_of(entry[name][0]) for name in names] == ["role", "session", "boundary"]
    assert entry["tags"] == {"team": "blue"}
    assert entry["expiration"].endswith("+00:00")
    life = datetime.fromisoformat(entry["expiration"]) - datetime.fromisoformat(entry["issued"])
    assert abs(life - timedelta(hours=1)) < timedelta(seconds=5)


def test_a_session_that_is_over_is_told_no_more(iam: IAMBackend, sts: STSBackend, export: Export) -> None:
    add_role(iam, "reader")
    session = assume(sts, "reader")
    session.expiration -= timedelta(hours=2)

    assert told(export) == {}


@pytest.mark.parametrize("fault", ["no role", "no boundary", "no policy"])
def test_a_key_that_cannot_be_evaluated_as_on_aws_stays_out_and_harms_no_other(
    iam: IAMBackend, sts: STSBackend, export: Export, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """A role or a boundary that does not exist, a policy that the broker cannot read."""
    iam.create_user(REGION, "alice")
    good = iam.create_access_key("alice")
    if fault != "no role":
        add_role(iam, "reader", "arn:aws:iam::aws:policy/Gone" if fault == "no boundary" else None)
    if fault == "no policy":
        iam.put_role_policy("reader", "broken", policy(Condition={"IpAddress": {"aws:SourceIp": "x"}}))
    session = assume(sts, "reader")

    assert set(told(export)) == {good.access_key_id}
    assert session.access_key_id in caplog.text
    assert session.secret_access_key not in caplog.text
    caplog.clear()
    told(export)
    assert caplog.text == ""


def test_a_key_that_moto_itself_has_spoilt_holds_up_no_other(
    iam: IAMBackend, export: Export, caplog: pytest.LogCaptureFixture
) -> None:
    """A policy without its default version; and a folder that is gone is a line in the log, not an end."""
    for name in ("alice", "bob"):
        iam.create_user(REGION, name)
    good, odd = iam.create_access_key("alice"), iam.create_access_key("bob")
    managed = iam.create_policy("", "/", policy(), "managed", [])
    iam.attach_user_policy(managed.arn, "bob")
    managed.versions.clear()
    assert set(told(export)) == {good.access_key_id}
    assert f"{odd.access_key_id}: StopIteration" in caplog.text
    iam.delete_access_key(odd.access_key_id, "bob")
    export.file = export.file.parent / "gone" / "file.json"
    iam.create_access_key("alice")
    export.once()
    assert "cannot be written (No such file or directory)" in caplog.text


def test_what_does_not_change_is_not_written_again(iam: IAMBackend, export: Export) -> None:
    iam.create_user(REGION, "alice")
    iam.create_access_key("alice")
    export.once()
    before = export.file.stat()
    export.once()

    assert export.file.stat().st_ino == before.st_ino
    assert stat.S_IMODE(before.st_mode) == 0o600


def test_only_the_newest_sessions_are_told(iam: IAMBackend, sts: STSBackend, export: Export) -> None:
    """Whoever assumes a role before each message does not fill the file."""
    add_role(iam, "reader")
    sessions = [assume(sts, "reader") for _ in range(SESSIONS_MAX + 1)]

    assert set(told(export)) == {session.access_key_id for session in sessions[1:]}


def test_the_user_of_up_has_the_same_key_after_each_start(
    iam: IAMBackend, export: Export, tmp_path: Path
) -> None:
    kept = keep_secrets(tmp_path / "auth.json")
    restore_user(kept, ACCOUNT, REGION)

    entry = told(export)[kept.access_key_id]

    assert entry["secretAccessKey"] == kept.secret_access_key
    assert keep_secrets(tmp_path / "auth.json") == kept
    iam.delete_access_key(kept.access_key_id, "tidemill")
    assert told(export) == {}
