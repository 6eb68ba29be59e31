"""A state file of the broker that cannot be read stops the start, with its path and the fix in one sentence.

Without the file other rights would apply, or ids be given out twice. The files of topics are in
`log/test_damage.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import tidemill_broker.__main__ as program
from tests.fakes.log_disk import Clock
from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.iam.identity_file import IdentityFileError
from tidemill_broker.log.topics import Topics
from tidemill_broker.settings import Settings

DAMAGED: dict[str, bytes | None] = {
    "empty": b"",
    "cut": b'{"version": 1, "acls": [',
    "zeros": bytes(200),
    "not UTF-8": b"\xff\xfe{}",
    "list": b"[]",
    "null": b"null",
    "number": b"3",
    "text": b'"x"',
    "object": b"{}",
    "deep": b"[" * 100_000,
    "folder": None,
}


def put(file: Path, damage: str) -> None:
    content = DAMAGED[damage]
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
        file.chmod(0o600)


@pytest.mark.parametrize("name", ["cluster.json", "producer_ids.json", "acls.json", "scram.json"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_stops_the_start_with_its_path(name: str, damage: str, tmp_path: Path) -> None:
    put(tmp_path / name, damage)
    topics = Topics(tmp_path / "log", {}, clock_ms=Clock())
    with pytest.raises(program.StartError) as raised:
        program._broker(Settings(data_dir=tmp_path), topics)
    topics.close()
    assert str(tmp_path / name) in str(raised.value)
    assert "restore it" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_of_identities_is_named_and_its_secrets_are_not(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "identities-aws.json"
    put(file, damage)
    with pytest.raises(IdentityFileError, match=str(file)):
        Identities([tmp_path / "identities.json", file])
