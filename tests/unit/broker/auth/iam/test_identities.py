"""Files of access keys: what they may hold, who may write them, and what changes do."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.iam_identities import EVERYTHING, ROLE_SESSION, USER, entry, write, write_raw
from tests.oracles.iam_tokens import LONG_TERM, TEMPORARY
from tidemill_broker.auth.iam import identities as identities_module
from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.iam.identity_file import IdentityFileError

CLUSTER_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
            "Action": "kafka-cluster:*",
            "Resource": "*",
        }
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "identities.json"


def test_an_entry_with_all_its_members_is_read(file: Path) -> None:
    full = entry(
        TEMPORARY,
        ROLE_SESSION,
        expiration="2026-01-31T12:00:00Z",
        sessionPolicies=[EVERYTHING],
        permissionsBoundary=[EVERYTHING, EVERYTHING],
        tags={"team": "blue"},
    )
    identities = Identities([write(file, [full], clusterPolicy=CLUSTER_POLICY)])
    identity = identities.get(TEMPORARY.access_key_id)

    assert identity is not None
    assert identity.secret_access_key == TEMPORARY.secret
    assert identity.session_token == TEMPORARY.session_token
    assert identity.principal_arn == ROLE_SESSION
    assert identity.expires_ms == 1_769_860_800_000
    assert [len(each or ()) for each in (identity.policies, identity.session_policies)] == [1, 1]
    assert len(identity.permissions_boundary or ()) == 2
    assert identity.tags == {"team": "blue"}
    assert identities.cluster_policy is not None


def test_members_that_are_left_out_mean_no_limit_and_no_end(file: Path) -> None:
    identity = Identities([write(file, [entry(LONG_TERM)])]).get(LONG_TERM.access_key_id)

    assert identity is not None
    assert (identity.session_token, identity.session_policies, identity.permissions_boundary) == (None,) * 3
    assert identity.expires_ms is None


def test_session_policies_that_hold_nothing_are_not_the_same_as_none(file: Path) -> None:
    """An empty list allows nothing, a missing one limits nothing."""
    identity = Identities([write(file, [entry(LONG_TERM, sessionPolicies=[])])]).get(LONG_TERM.access_key_id)

    assert identity is not None
    assert identity.session_policies == ()


def test_a_file_that_does_not_exist_holds_nobody(file: Path) -> None:
    assert Identities([file]).get(LONG_TERM.access_key_id) is None


def test_no_secret_stands_in_a_repr(file: Path) -> None:
    identities = Identities([write(file, [entry(TEMPORARY)])])

    shown = f"{identities!r} {identities.get(TEMPORARY.access_key_id)!r}"
    assert TEMPORARY.secret not in shown
    assert str(TEMPORARY.session_token) not in shown


GOOD = entry(LONG_TERM)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


FAULTS: dict[str, tuple[dict[str, Any] | str, str]] = {
    "not JSON": ("{", "must be one JSON object"),
    "empty": ("", "must be one JSON object"),
    "a list": ("[]", "must be one JSON object"),
    "deep": ("[" * 100_000, "must be one JSON object"),
    "no version": ({"identities": []}, '"version": 1'),
    "a later version": ({"version": 2, "identities": []}, '"version": 1'),
    "no list": ({"version": 1}, '"identities" must be a list'),
    "an unknown key": ({"version": 1, "identities": [], "clusterpolicy": {}}, "did you mean clusterPolicy?"),
    "a repeated key": ('{"version": 1, "version": 1, "identities": []}', "must be one JSON object"),
    "no object": ({"version": 1, "identities": ["x"]}, "identities[0] must be an object"),
    **{
        f"without {name}": ({"version": 1, "identities": [without(name)]}, f"identities[0] lacks {name}")
        for name in ("accessKeyId", "secretAccessKey", "principalArn", "policies")
    },
    **{
        f"{name} {value!r}": ({"version": 1, "identities": [{**GOOD, name: value}]}, expected)
        for name, value, expected in [
            ("accessKeyID", "x", "did you mean accessKeyId?"),
            ("accessKeyId", "a/b", "accessKeyId must be 1 to 128 letters"),
            ("accessKeyId", 7, "accessKeyId must be"),
            ("accessKeyId", "a" * 129, "accessKeyId must be"),
            ("secretAccessKey", "", "secretAccessKey must be printable ASCII"),
            ("secretAccessKey", "gehäim", "secretAccessKey must be printable ASCII"),
            ("sessionToken", "", "sessionToken must be printable ASCII"),
            ("sessionToken", False, "sessionToken must be printable ASCII"),
            ("principalArn", "alice", "principalArn must be an ARN such as"),
            ("principalArn", "arn:aws:iam::123:user/alice", "principalArn must be an ARN such as"),
            ("principalArn", "arn:aws:iam::123456789012:group/g", "principalArn must be an ARN such as"),
            ("principalArn", USER + "\n", "principalArn must be an ARN such as"),
            ("policies", {}, "policies must be a list of policy documents"),
            ("policies", ["x"], "policies[0] must be a policy document"),
            ("policies", [{"Statement": [{"Effect": "Maybe"}]}], "policies[0]"),
            ("sessionPolicies", "x", "sessionPolicies must be a list"),
            ("permissionsBoundary", [1], "permissionsBoundary[0] must be a policy document"),
            ("expiration", "tomorrow", "expiration must be a time such as"),
            ("expiration", "2026-01-31T12:00:00", "expiration must be a time such as"),
            ("expiration", 1769860800, "expiration must be a time such as"),
            ("tags", {"a": 1}, "tags must be an object of strings"),
            ("tags", [], "tags must be an object of strings"),
        ]
    },
    "a key twice": ({"version": 1, "identities": [GOOD, GOOD]}, "stands there twice; remove one"),
    "a cluster policy without principal": (
        {"version": 1, "identities": [], "clusterPolicy": EVERYTHING},
        "clusterPolicy",
    ),
}


@pytest.mark.parametrize(("document", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_file_with_a_fault_is_rejected_by_name_place_and_fix(
    file: Path, document: dict[str, Any] | str, fault: str
) -> None:
    write_raw(file, document)

    with pytest.raises(IdentityFileError) as rejection:
        Identities([file])
    assert str(rejection.value).startswith(f"{file}: ")
    assert fault in str(rejection.value)
    assert LONG_TERM.secret not in str(rejection.value)


@pytest.mark.parametrize("mode", [0o602, 0o604, 0o620, 0o644, 0o666])
def test_a_file_that_others_may_read_or_write_is_rejected(file: Path, mode: int) -> None:
    write(file, [GOOD]).chmod(mode)

    with pytest.raises(IdentityFileError, match="chmod 600"):
        Identities([file])


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_a_file_may_be_readable_by_its_group_as_platforms_mount_secrets(file: Path, mode: int) -> None:
    write(file, [GOOD]).chmod(mode)

    assert Identities([file]).get(LONG_TERM.access_key_id)


def test_what_is_no_file_is_rejected_and_holds_nobody_up(file: Path) -> None:
    os.mkfifo(file, 0o600)

    with pytest.raises(IdentityFileError, match="regular file"):
        Identities([file])


def test_a_link_is_followed_as_platforms_mount_secrets_by_them(file: Path, tmp_path: Path) -> None:
    file.symlink_to(write(tmp_path / "data", [GOOD]))

    assert Identities([file]).get(LONG_TERM.access_key_id)


class TestSeveralFiles:
    def test_all_of_them_make_one_set(self, tmp_path: Path) -> None:
        one = write(tmp_path / "one", [entry(LONG_TERM)])
        other = write(tmp_path / "other", [entry(TEMPORARY)], clusterPolicy=CLUSTER_POLICY)
        identities = Identities([one, tmp_path / "missing", other])

        assert identities.get(LONG_TERM.access_key_id)
        assert identities.get(TEMPORARY.access_key_id)
        assert identities.cluster_policy

    def test_a_key_belongs_to_the_first_file_that_has_it_and_the_log_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        one = write(tmp_path / "one", [entry(LONG_TERM, USER)])
        other = write(tmp_path / "other", [entry(LONG_TERM, ROLE_SESSION, secretAccessKey="x")])
        identity = Identities([one, other]).get(LONG_TERM.access_key_id)

        assert identity is not None
        assert identity.principal_arn == USER
        assert f"{other}: the access key {LONG_TERM.access_key_id} is rejected" in caplog.text

    def test_of_two_cluster_policies_the_second_is_rejected(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        files = [write(tmp_path / name, [], clusterPolicy=CLUSTER_POLICY) for name in ("one", "other")]

        assert Identities(files).cluster_policy
        assert f"{files[1]}: clusterPolicy is rejected" in caplog.text

    def test_a_fault_in_one_leaves_the_others_alone(self, tmp_path: Path) -> None:
        one, other = write(tmp_path / "one", [entry(LONG_TERM)]), tmp_path / "other"
        identities = Identities([one, other])
        write_raw(other, "{")
        write(one, [])
        identities.reload()

        assert identities.get(LONG_TERM.access_key_id) is None


class TestChanges:
    def test_a_file_that_did_not_change_is_not_read_again(self, file: Path) -> None:
        identities = Identities([write(file, [GOOD])])
        version = identities.version
        identities.reload()

        assert identities.version == version

    def test_every_change_that_is_taken_in_moves_the_version(self, file: Path) -> None:
        identities = Identities([file])
        versions = [identities.version]
        for entries in ([GOOD], [], [GOOD]):
            write(file, entries)
            identities.reload()
            versions.append(identities.version)

        assert versions == sorted(set(versions))

    def test_a_bad_edit_keeps_what_was_there_and_is_told_once(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        identities = Identities([write(file, [GOOD])])
        version = identities.version
        write_raw(file, '{"version": 1, "identities": [' + LONG_TERM.secret)
        for _ in range(3):
            identities.reload()

        assert identities.get(LONG_TERM.access_key_id)
        assert identities.version == version
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert f"{file}: must be one JSON object" in caplog.text
        assert LONG_TERM.secret not in caplog.text

    def test_once_fixed_it_counts_again(self, file: Path) -> None:
        identities = Identities([write(file, [GOOD])])
        write(file, []).chmod(0o644)
        identities.reload()
        assert identities.get(LONG_TERM.access_key_id)
        file.chmod(0o600)
        identities.reload()

        assert identities.get(LONG_TERM.access_key_id) is None

    def test_a_file_that_is_removed_holds_nobody_any_more(self, file: Path) -> None:
        identities = Identities([write(file, [GOOD])])
        file.unlink()
        identities.reload()

        assert identities.get(LONG_TERM.access_key_id) is None

    async def test_a_watched_file_is_read_soon_after_it_changed(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(identities_module, "LOOK_EVERY_S", 0.001)
        identities = Identities([file])
        watching = asyncio.create_task(identities.watch())
        write(file, [GOOD])
        async with asyncio.timeout(5):
            while identities.get(LONG_TERM.access_key_id) is None:  # noqa: ASYNC110 - it has no such event
                await asyncio.sleep(0.001)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


def test_a_file_larger_than_the_bound_is_rejected(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill_broker.auth.iam.identity_file.FILE_BYTES_MAX", 100)
    write(file, [GOOD])

    with pytest.raises(IdentityFileError, match="larger than"):
        Identities([file])


def test_a_thousand_identities_are_read(file: Path) -> None:
    entries = [{**GOOD, "accessKeyId": f"AKIA{number}"} for number in range(1000)]
    identities = Identities([write_raw(file, json.dumps({"version": 1, "identities": entries}))])

    assert identities.get("AKIA999")
