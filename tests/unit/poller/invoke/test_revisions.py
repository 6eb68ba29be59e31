"""What a GetFunctionConfiguration reply says of a function's revision."""

from __future__ import annotations

import json

import pytest

from tidemill_poller.invoke.replies import read_revision

CONFIGURATION = {
    "Version": "3",
    "RevisionId": "r",
    "CodeSha256": "c",
    "LastModified": "2026-01-01T00:00:00.000+0000",
    "State": "Active",
    "LastUpdateStatus": "Successful",
}


def revision(**changes: str) -> str | None:
    return read_revision(200, json.dumps({**CONFIGURATION, **changes}).encode())


@pytest.mark.parametrize("member", ["Version", "RevisionId", "CodeSha256", "LastModified"])
def test_each_of_these_members_is_a_new_revision(member: str) -> None:
    assert revision(**{member: "other"}) != revision()


def test_an_update_under_way_is_no_revision_yet() -> None:
    assert revision(LastUpdateStatus="InProgress", RevisionId="s") is None
    assert revision(State="Pending") is None


def test_errors_say_nothing_but_that_a_function_is_absent() -> None:
    assert read_revision(404, b"{}") is not None
    assert [read_revision(status, b"no JSON") for status in (403, 429, 500, 503)] == [None] * 4
