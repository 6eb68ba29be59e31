"""The secrets of `up --auth` are made once, and a file that cannot be used is named with the fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidemill_local.secured.kept_secrets import keep_secrets

MADE = {"version": 1, "scram_password": "p", "access_key_id": "TKIA", "secret_access_key": "s"}


def test_secrets_are_made_once_and_for_their_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    made = keep_secrets(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert keep_secrets(file) == made


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        json.dumps(MADE).encode()[:40],
        json.dumps({**MADE, "scram_password": 5}).encode(),
        json.dumps({**MADE, "secret_access_key": ""}).encode(),
        json.dumps({"version": 1, "scram_password": "p"}).encode(),
    ],
)
def test_a_damaged_file_is_named_with_the_fix_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"auth\.json is damaged: restore a backup, or remove it"):
        keep_secrets(file)
    assert file.read_bytes() == content


def test_a_file_of_a_newer_tidemill_is_not_removed(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({**MADE, "version": 2, "more": "x"}))
    with pytest.raises(ValueError, match="version 2, and this Tidemill reads 1: start the one that wrote it"):
        keep_secrets(file)
