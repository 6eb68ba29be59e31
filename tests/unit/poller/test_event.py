"""The invocation event, to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes import KafkaEvent
from aws_lambda_powertools.utilities.parser import parse
from aws_lambda_powertools.utilities.parser.models import KafkaSelfManagedEventModel

from tests.fakes.poller import FakeRecord, records
from tidemill_poller.event import event_bytes, event_json, event_source, records_json

SERVERS = ("b-1:9092", "b-2:9092")
ARN = "arn:aws:kafka:us-east-1:123456789012:cluster/c/uuid-2"


def loaded(**fields: Any) -> dict[str, Any]:
    (written,) = records_json([FakeRecord(**{"offset": 7, **fields})])
    parsed: dict[str, Any] = json.loads(written)
    return parsed


def test_a_record_is_written_field_by_field_in_awss_order() -> None:
    record = FakeRecord(
        offset=7,
        partition=3,
        timestamp=1750358101849,
        key=b"42",
        value=b'{"a":1}',
        headers=[("trace", b"h\xc3\xab")],
    )
    (written,) = records_json([record])
    assert written == (
        b'{"topic":"orders","partition":3,"offset":7,"timestamp":1750358101849,"timestampType":"CREATE_TIME",'
        b'"key":"NDI=","value":"eyJhIjoxfQ==","headers":[{"trace":[104,-61,-85]}]}'
    )


def test_an_msk_event_carries_the_arn_and_the_servers() -> None:
    source = event_source("orders", 3, bootstrap_servers=SERVERS, event_source_arn=ARN)
    assert event_json(source, [b'{"offset":1}', b'{"offset":2}']) == (
        b'{"eventSource":"aws:kafka","eventSourceArn":"' + ARN.encode() + b'",'
        b'"bootstrapServers":"b-1:9092,b-2:9092","records":{"orders-3":[{"offset":1},{"offset":2}]}}'
    )


def test_a_self_managed_event_has_no_arn_and_its_own_name() -> None:
    source = event_source("orders", 0, bootstrap_servers=SERVERS, event_source_arn=None)
    event = json.loads(event_json(source, records_json(records(0))))
    assert event["eventSource"] == "SelfManagedKafka"
    assert list(event) == ["eventSource", "bootstrapServers", "records"]


@pytest.mark.parametrize("field", ["key", "value"])
def test_a_null_is_an_absent_field(field: str) -> None:
    assert field not in loaded(**{field: None})


@pytest.mark.parametrize("field", ["key", "value"])
def test_an_empty_one_is_an_empty_string(field: str) -> None:
    assert loaded(**{field: b""})[field] == ""


def test_header_values_are_signed_bytes() -> None:
    every_byte = bytes(range(256))
    assert loaded(headers=[("h", every_byte)])["headers"] == [{"h": [*range(128), *range(-128, 0)]}]


def test_headers_keep_order_and_duplicates() -> None:
    headers = [("a", b"1"), ("b", b""), ("a", b"2")]
    assert loaded(headers=headers)["headers"] == [{"a": [49]}, {"b": []}, {"a": [50]}]


def test_a_null_header_value_is_an_empty_array() -> None:
    assert loaded(headers=[("h", None)])["headers"] == [{"h": []}]


def test_no_headers_are_an_empty_array() -> None:
    assert loaded()["headers"] == []


def test_header_names_are_escaped() -> None:
    assert loaded(headers=[('a"\\\n', b"")])["headers"] == [{'a"\\\n': []}]


@pytest.mark.parametrize(
    ("number", "name"), [(0, "CREATE_TIME"), (1, "LOG_APPEND_TIME"), (-1, "NO_TIMESTAMP_TYPE")]
)
def test_timestamp_types_have_javas_names(number: int, name: str) -> None:
    assert loaded(timestamp_type=number)["timestampType"] == name


def test_the_size_of_an_event_is_known_without_building_it() -> None:
    source = event_source("orders", 0, bootstrap_servers=SERVERS, event_source_arn=ARN)
    for count in (0, 1, 2, 50):
        parts = records_json(records(*range(count)))
        assert event_bytes(source, count, sum(map(len, parts))) == len(event_json(source, parts))


def test_awss_own_toolkit_reads_the_event() -> None:
    """Powertools is what most handlers parse with: its models accept the event, and give the bytes back."""
    source = event_source("orders", 0, bootstrap_servers=SERVERS, event_source_arn=None)
    sent = [FakeRecord(offset=0, key=b"k", value=b"caf\xc3\xa9", headers=[("h", b"\xff\x00")])]
    event = json.loads(event_json(source, records_json(sent)))
    record = next(KafkaEvent(event).records)
    assert (record.decoded_key, record.decoded_value) == (b"k", b"caf\xc3\xa9")
    assert record.decoded_headers["h"] == b"\xff\x00"
    model = parse(event, model=KafkaSelfManagedEventModel)
    assert model.records["orders-0"][0].offset == 0
