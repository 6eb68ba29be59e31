"""Whatever is in a state file of functions, the server starts, names the file, and serves all others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.functions_server import zip_of
from tidemill_functions.code.registry import LocalCode, Registry
from tidemill_functions.runtime.event_store import Event, EventStore

DAMAGED: dict[str, bytes | None] = {
    "empty": b"",
    "cut": b'{"name": "or',
    "zeros": bytes(200),
    "not UTF-8": b"\xff\xfe{}",
    "list": b"[]",
    "null": b"null",
    "number": b"3",
    "text": b'"x"',
    "deep": b"[" * 100_000,
    "folder": None,
}


def registry(data_dir: Path) -> Registry:
    return Registry(data_dir, region="us-east-1", account_id="123456789012")


def functions(data_dir: Path) -> list[str]:
    return [function.name for function in registry(data_dir).all()]


def events(data_dir: Path) -> list[str]:
    return [event.key for event in EventStore(data_dir / "events").load()]


def tags(data_dir: Path) -> list[str]:
    opened = registry(data_dir)
    return [function.name for function in opened.all() if opened.attached.get(function.name).tags]


def layer_versions(data_dir: Path) -> list[str]:
    layers = registry(data_dir).layers
    return [name for name in layers.names() if layers.versions(name)]


STATE: dict[str, Callable[[Path], list[str]]] = {
    "functions/{}.json": functions,
    "attached/{}.json": tags,
    "layers/{}/1.json": layer_versions,
    "events/{}.event": events,
}


@pytest.mark.parametrize("kind", STATE)
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named_and_costs_what_is_in_it(
    kind: str, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, kept = registry(tmp_path), EventStore(tmp_path / "events")
    for name in ("good", "orders"):
        made.create(name, handler="a.b", code=LocalCode(folder=str(tmp_path)))
        made.attached.put(name, tags={"team": "x"})
        made.layers.publish(name, zip_of({"x": "y"}), {})
        kept.put(Event(id=name, key=name, qualifier="", arn="a", request_id="r", trace_id="t", payload=b"{}"))
    read = STATE[kind]
    assert read(tmp_path) == ["good", "orders"]
    file = tmp_path / kind.format("orders")
    file.unlink()
    content = DAMAGED[damage]
    file.mkdir() if content is None else file.write_bytes(content)
    caplog.clear()

    assert read(tmp_path) == ["good"]

    (line,) = caplog.messages
    assert file.name in line
    assert str(tmp_path) in line
