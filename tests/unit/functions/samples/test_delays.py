"""The sample handler counts every flight once, however often and in whatever parts it is delivered."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from moto import mock_aws

SAMPLE = Path(__file__).resolve().parents[4] / "functions" / "samples" / "tidemill_samples" / "delays.py"


def environment(name: str = "delays_under_test") -> ModuleType:
    """A fresh import of the sample, as a new execution environment does it."""
    spec = importlib.util.spec_from_file_location(name, SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield environment()


def record(offset: int, *, carrier: str = "UA", dep_delay: float | None = 2.0) -> dict[str, Any]:
    flight = {"carrier": carrier, "flight": 1545, "dep_time": 517.0, "dep_delay": dep_delay}
    return {"offset": offset, "value": base64.b64encode(json.dumps(flight).encode()).decode()}


def event(*records: dict[str, Any], partition: str = "flights-3") -> dict[str, Any]:
    return {"eventSource": "aws:kafka", "records": {partition: list(records)}}


def item(delays: ModuleType, partition: str = "flights-3") -> dict[str, Any]:
    found = delays.dynamodb.get_item(TableName="delays", Key={"partition": {"S": partition}})["Item"]
    return {name: delays.from_dynamodb(value) for name, value in found.items()}


def chain(*offsets: int) -> str:
    order = ""
    for offset in offsets:
        order = hashlib.sha256(f"{order} {offset}".encode()).hexdigest()
    return order


def test_a_batch_is_counted_per_carrier_with_the_place_in_its_partition(delays: ModuleType) -> None:
    delays.handler(event(record(4), record(5, carrier="DL", dep_delay=-3), record(7)), None)
    assert item(delays) == {
        "partition": "flights-3",
        "last_offset": 7,
        "flights": 3,
        "carriers": {
            "UA": {"flights": 2, "delay_minutes": 4},
            "DL": {"flights": 1, "delay_minutes": -3},
        },
        "order": chain(4, 5, 7),
        "out_of_order": 0,
    }


def test_a_batch_delivered_again_counts_nothing(delays: ModuleType) -> None:
    batch = event(record(1), record(2))
    assert delays.handler(batch, None) == {"flights-3": 2}
    assert delays.handler(batch, None) == {"flights-3": 0}
    assert environment("another").handler(batch, None) == {"flights-3": 0}
    assert item(delays)["flights"] == 2


def test_a_batch_delivered_again_in_part_counts_the_new_part(delays: ModuleType) -> None:
    delays.handler(event(record(1), record(2)), None)
    assert environment("another").handler(event(record(2), record(3)), None) == {"flights-3": 1}
    # The first environment's view of the item is stale now: it must not overwrite.
    assert delays.handler(event(record(3), record(4)), None) == {"flights-3": 1}
    assert item(delays)["order"] == chain(1, 2, 3, 4)


def test_a_cancelled_flight_raises_and_its_batch_counts_nothing(delays: ModuleType) -> None:
    delays.handler(event(record(1)), None)
    with pytest.raises(TypeError, match="NoneType"):
        delays.handler(event(record(2), record(3, dep_delay=None)), None)
    assert item(delays)["last_offset"] == 1


def test_records_out_of_order_in_a_batch_are_told(delays: ModuleType) -> None:
    delays.handler(event(record(2), record(1)), None)
    assert item(delays)["out_of_order"] == 1


def test_a_table_that_went_away_is_made_again(delays: ModuleType) -> None:
    delays.handler(event(record(1)), None)
    delays.dynamodb.delete_table(TableName="delays")
    assert delays.handler(event(record(2)), None) == {"flights-3": 1}
    assert item(delays)["flights"] == 1


def test_an_item_that_went_away_is_made_again(delays: ModuleType) -> None:
    delays.handler(event(record(1)), None)
    delays.dynamodb.delete_item(TableName="delays", Key={"partition": {"S": "flights-3"}})
    assert delays.handler(event(record(2)), None) == {"flights-3": 1}
    assert item(delays)["flights"] == 1
