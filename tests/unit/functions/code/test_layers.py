"""Versions of layers: published as a whole or not at all, and a damaged one costs itself only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.functions_server import zip_of
from tidemill_functions.code import layers
from tidemill_functions.code.layers import LayerStore

ZIP = zip_of({"python/x.py": "x = 1"})


class Killed(BaseException):
    """Ends the test's process, as far as the store can tell."""


def opened(data_dir: Path) -> LayerStore:
    return LayerStore(data_dir, "arn:aws:lambda:us-east-1:123456789012:layer:")


@pytest.mark.parametrize("step", ["write_document", "write_bytes"])
def test_a_version_that_a_kill_cut_short_is_not_there_and_the_next_is_published(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    store.publish("shared", ZIP, {})

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(layers, step, kill)
        with pytest.raises(Killed):
            store.publish("shared", ZIP, {})

    store = opened(tmp_path)
    assert [version.number for version in store.versions("shared")] == [1]
    number = store.publish("shared", ZIP, {}).number
    assert [version.number for version in store.versions("shared")] == [number, 1]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_zip_without_a_document_as_older_tidemills_left_it_is_no_version(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.publish("shared", ZIP, {})
    store.zip_file("shared", 2).write_bytes(ZIP)
    store = opened(tmp_path)
    assert [version.number for version in store.versions("shared")] == [1]
    assert store.publish("shared", ZIP, {}).number == 3


DAMAGED = [b"", b"{", b"\xff\xfe", b"[]", b"null", b"3", b"{}", b"[" * 100_000, b"\0" * 100]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_document_is_named_once_and_the_other_versions_are_listed(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)
    for name in ("shared", "shared", "other"):
        store.publish(name, ZIP, {})
    document = tmp_path / "layers" / "shared" / "1.json"
    document.write_bytes(content)

    store = opened(tmp_path)

    assert [version.number for version in store.versions("shared")] == [2]
    assert store.names() == ["other", "shared"]
    assert store.get("shared", 1) is None
    assert [f"layer version not loaded file={document}" in line for line in caplog.messages] == [True]
    assert document.read_bytes() == content


@pytest.mark.parametrize(
    ("member", "value"), [("number", 7), ("name", "x"), ("echoed", []), ("size_bytes", "1"), ("extra", 1)]
)
def test_a_document_of_the_wrong_types_is_damaged(member: str, value: object, tmp_path: Path) -> None:
    import json  # noqa: PLC0415 - one line of one test

    store = opened(tmp_path)
    store.publish("shared", ZIP, {})
    document = tmp_path / "layers" / "shared" / "1.json"
    document.write_text(json.dumps({**json.loads(document.read_text()), member: value}))
    assert opened(tmp_path).versions("shared") == []


def test_a_damaged_policy_is_named_and_the_version_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)
    version = store.publish("shared", ZIP, {})
    store.put_policy(version, [{"Sid": "x"}])
    (file := tmp_path / "layers" / "shared" / "1.policy").write_bytes(b"{")
    assert opened(tmp_path).policy(version).statements == ()
    assert f"layer version not loaded file={file}" in caplog.text
