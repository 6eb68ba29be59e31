"""ACLs on disk: what was answered is there after any death, and a damaged file is never taken for none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tidemill_broker.auth.acl import store as acl_store
from tidemill_broker.auth.acl.rules import Acl, PatternType, Permission
from tidemill_broker.auth.acl.store import AclStore, TooManyAcls
from tidemill_broker.auth.authorizer import Operation, ResourceType


def acl(name: str = "flights", **members: object) -> Acl:
    values: dict[str, object] = {
        "resource_type": ResourceType.TOPIC,
        "pattern_type": PatternType.LITERAL,
        "name": name,
        "principal": "User:CN=Zoë,O=Söhne",
        "host": "*",
        "operation": Operation.READ,
        "permission": Permission.ALLOW,
    }
    return Acl(**(values | members))  # type: ignore[arg-type]  # a test may give any of them


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "acls.json"


def test_acls_are_there_again_in_their_order(file: Path) -> None:
    acls = [acl("b"), acl("a", pattern_type=PatternType.PREFIXED), acl("c", host="::1")]
    store = AclStore(file)
    store.add(acls[:1])
    store.add(acls[1:])
    store.add([acl("d")])
    store.delete([acl("d"), acl("never there")])

    assert store.all() == acls
    assert AclStore(file).all() == acls


def test_the_version_grows_with_each_change_and_with_nothing_else(file: Path) -> None:
    store = AclStore(file)
    seen = [store.version]
    for change in (store.add, store.add, store.delete, store.delete):
        change([acl(), acl()])
        seen.append(store.version)
    assert seen == [0, 1, 1, 2, 2]


def test_a_change_that_the_disk_rejects_changes_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = AclStore(file)
    store.add([acl("kept")])

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for change in (store.add, store.delete):
            with pytest.raises(OSError, match="No space"):
                change([acl("kept"), acl("other")] if change == store.add else [acl("kept")])
    assert store.all() == [acl("kept")]
    assert store.version == 1
    assert AclStore(file).all() == [acl("kept")]


LIFE = """
import sys
from pathlib import Path
from tidemill_broker.auth.acl.rules import Acl, PatternType, Permission
from tidemill_broker.auth.acl.store import AclStore
from tidemill_broker.auth.authorizer import Operation, ResourceType
store = AclStore(Path(sys.argv[1]))
for number in range(1000):
    store.add([Acl(resource_type=ResourceType.TOPIC, pattern_type=PatternType.LITERAL, name=f"t{number}",
        principal="User:a", host="*", operation=Operation.READ, permission=Permission.ALLOW)])
    print(number, flush=True)
"""


def test_every_acl_that_was_answered_outlives_kill_9(file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", LIFE, str(file)], stdout=subprocess.PIPE) as life:
        assert life.stdout is not None
        for line in life.stdout:
            if int(line) == 20:
                life.kill()
                break
    names = {each.name for each in AclStore(file).all()}
    assert names >= {f"t{number}" for number in range(21)}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": 2, "acls": []}',
        '{"version": 1, "acls": [{}]}',
        '{"version": 1, "acls": ["x"]}',
    ],
)
def test_a_damaged_file_is_rejected(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(ValueError, match=r"acls\.json is damaged: \w+Error"):
        AclStore(file)


@pytest.mark.parametrize(("member", "value"), [("operation", "FLY"), ("host", None), ("patternType", 3)])
def test_one_damaged_acl_is_rejected(file: Path, member: str, value: object) -> None:
    AclStore(file).add([acl()])
    document = json.loads(file.read_text())
    document["acls"][0][member] = value
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="is damaged"):
        AclStore(file)


def test_there_are_never_more_than_the_broker_has_room_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acl_store, "ACLS_MAX", 3)
    store = AclStore(file)
    store.add([acl("a"), acl("b")])
    with pytest.raises(TooManyAcls, match="at most 3 ACLs"):
        store.add([acl("c"), acl("d")])
    store.add([acl("a"), acl("c")])
    store.delete([acl("a")])
    store.add([acl("d")])
    assert [each.name for each in store.all()] == ["b", "c", "d"]


def test_long_names_do_not_fill_the_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl_store, "CHARACTERS_MAX", 100)
    store = AclStore(file)
    with pytest.raises(TooManyAcls, match="delete some"):
        store.add([acl("x" * 100)])
    store.add([acl("x" * 70)])
    store.delete(store.all())
    store.add([acl("y" * 70)])
    assert len(AclStore(file).all()) == 1
