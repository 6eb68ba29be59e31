"""The one table of APIs, ApiVersions built from it, and what dispatch does with what it cannot answer."""

from __future__ import annotations

import ast
import struct
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TypeGuard

import pytest
from kio.index import load_payload_module
from kio.schema.index import api_key_map, schema_name_map
from kio.static.constants import EntityType

import tidemill_broker.apis
from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tidemill_broker.apis import APIS, Api, CloseConnection, dispatch
from tidemill_broker.apis.dispatching import DECODED_BYTES_MAX
from tidemill_broker.apis.table import make_table
from tidemill_broker.protocol.errors import ErrorCode

PRODUCE, METADATA, API_VERSIONS = 0, 3, 18


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path) as opened:
        yield opened


def row(key: int, low: int = 0, high: int = 1) -> Api:
    return Api(key=key, name=f"api {key}", min_version=low, max_version=high, handle=lambda *_: None)


def test_a_key_that_is_registered_twice_stops_the_program() -> None:
    with pytest.raises(ValueError, match="registered by api 3 and by api 3"):
        make_table([row(3), row(3)])


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 1)])
def test_versions_that_run_backwards_stop_the_program(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="api 3 has versions"):
        make_table([row(3, low, high)])


@pytest.mark.parametrize("version", range(5))
def test_api_versions_tells_every_row_of_the_table(inner: InnerBroker, version: int) -> None:
    software = {} if version < 3 else {"client_software_name": "test", "client_software_version": "1.0"}
    reply = inner.ask(API_VERSIONS, version, **software)
    assert reply.error_code is ErrorCode.none
    told = {each.api_key: (each.min_version, each.max_version) for each in reply.api_keys}
    assert set(told) == set(APIS)
    for key, api in APIS.items():
        low = api.min_version if api.advertised_min_version is None else api.advertised_min_version
        assert told[key] == (low, api.max_version)


@pytest.mark.parametrize("version", [3, 4])
def test_no_feature_is_finalized(inner: InnerBroker, version: int) -> None:
    """Clients then use neither KIP-890, nor KIP-848, nor share groups."""
    reply = inner.ask(API_VERSIONS, version, client_software_name="test", client_software_version="1")
    assert (reply.supported_features, reply.finalized_features, reply.finalized_features_epoch) == (
        (),
        (),
        -1,
    )


def test_a_client_names_its_software(inner: InnerBroker) -> None:
    inner.ask(API_VERSIONS, 3, client_software_name="apache-kafka-java", client_software_version="4.1.0")
    assert inner.connection.software_name == "apache-kafka-java"
    assert inner.connection.software_version == "4.1.0"
    assert inner.connection.client_id == "test"


@pytest.mark.parametrize(
    ("name", "version"),
    [("", "1"), ("a", ""), ("-a", "1"), ("a.", "1"), ("a b", "1"), ("a", "1\n"), ("é", "1")],
)
def test_software_that_breaks_kafkas_pattern_is_an_invalid_request(
    inner: InnerBroker, name: str, version: str
) -> None:
    reply = inner.ask(API_VERSIONS, 3, client_software_name=name, client_software_version=version)
    assert reply.error_code is ErrorCode.invalid_request
    assert reply.api_keys == ()
    assert inner.connection.software_name == "unknown"


@pytest.mark.parametrize("version", [5, 100, -1])
def test_api_versions_of_the_future_gets_a_v0_body_with_its_own_row(inner: InnerBroker, version: int) -> None:
    frame = struct.pack(">hhih", API_VERSIONS, version, 7, -1) + b"\0"
    reply = dispatch(inner.broker, inner.connection, memoryview(frame))
    assert isinstance(reply, bytes)
    body = read_response(API_VERSIONS, 0, reply)
    assert body.error_code is ErrorCode.unsupported_version
    assert [(each.api_key, each.min_version, each.max_version) for each in body.api_keys] == [(18, 0, 4)]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\0", "malformed frame: a request of 1 bytes"),
        (struct.pack(">hhih", 999, 0, 7, -1), "unknown API key 999"),
        (struct.pack(">hhih", METADATA, 99, 7, -1) + b"\0", "Metadata has no version 99"),
        (struct.pack(">hhih", METADATA, 4, 7, -1) + b"\x7f\xff\xff\xff", "malformed frame: the body"),
    ],
)
def test_a_request_that_cannot_be_answered_closes_its_connection(
    inner: InnerBroker, frame: bytes, reason: str
) -> None:
    with pytest.raises(CloseConnection, match=reason):
        dispatch(inner.broker, inner.connection, memoryview(frame))


def test_a_request_that_is_too_large_to_be_decoded_closes_its_connection(inner: InnerBroker) -> None:
    frame = struct.pack(">hhih", METADATA, 4, 7, -1) + bytes(DECODED_BYTES_MAX)
    with pytest.raises(CloseConnection, match=f"Metadata may have {DECODED_BYTES_MAX}"):
        dispatch(inner.broker, inner.connection, memoryview(frame))


def test_a_null_client_id_is_allowed(inner: InnerBroker) -> None:
    frame = request_frame(request(METADATA, 1, topics=[]), client_id=None)
    reply = dispatch(inner.broker, inner.open(), memoryview(frame))
    assert isinstance(reply, bytes)
    assert read_response(METADATA, 1, reply).topics == ()


def kio_members() -> dict[str, set[str]]:
    """Each response class's members over all its versions."""
    members: dict[str, set[str]] = {}
    for key, api in APIS.items():
        for version in range(api.min_version, api.max_version + 1):
            if EntityType.response not in schema_name_map[api_key_map[key]].get(version, {}):
                continue
            module = load_payload_module(key, version, EntityType.response)
            for name, each in vars(module).items():
                if isinstance(each, type) and is_dataclass(each):
                    members.setdefault(name, set()).update(field.name for field in fields(each))
    return members


def test_every_member_that_a_handler_sets_exists_in_some_version() -> None:
    """The schema drops members that a version lacks, so a slip of the pen would be dropped in silence."""
    known = kio_members()
    used: list[tuple[str, str]] = []
    for file in sorted(Path(tidemill_broker.apis.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and is_built(node.func):
                used += [(node.func.attr, keyword.arg) for keyword in node.keywords if keyword.arg]
    assert len(used) > 100
    assert [each for each in used if each[1] not in known.get(each[0], ())] == []


def is_built(function: ast.expr) -> TypeGuard[ast.Attribute]:
    """`reply.Name(…)` and `self._reply.Name(…)`: how handlers build what they answer."""
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) in ("reply", "self._reply")


def test_names_of_the_table_are_kafkas() -> None:
    for key, api in APIS.items():
        assert api.name == "".join(part.title() for part in api_key_map[key].split("_"))
