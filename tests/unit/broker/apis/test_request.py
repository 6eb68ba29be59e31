"""The one value that a handler gets: what it knows of a request, and how it authorizes and denies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.fakes.inner_broker import InnerBroker, finished, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.log_frames import PRODUCE, produce_frame
from tests.fakes.record_batches import batch
from tests.fakes.recording_authorizer import RecordingAuthorizer, everything, nothing
from tidemill_broker.apis import CloseConnection, Connection, dispatch
from tidemill_broker.apis.api import Rejected
from tidemill_broker.apis.request import DENIALS_MAX, Request
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import RequestHeader

METADATA, DELETE_TOPICS = 3, 20
TOPIC = ResourceType.TOPIC


@pytest.fixture
def authorizer() -> RecordingAuthorizer:
    return RecordingAuthorizer(everything)


@pytest.fixture
def inner(tmp_path: Path, authorizer: RecordingAuthorizer) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path) as inner:
        inner.broker = replace(inner.broker, authorizer=authorizer)
        inner.connection = inner.open()
        yield inner


def made(connection: Connection, *, api: str = "Metadata", client_id: str = "shop") -> Request:
    header = RequestHeader(
        api_key=METADATA, api_version=9, correlation_id=7, client_id=client_id, body_offset=0
    )
    return Request(api=api, header=header, body=None, connection=connection)


def test_a_request_knows_what_its_header_says(inner: InnerBroker) -> None:
    of_shop = made(inner.connection)
    assert (of_shop.key, of_shop.version, of_shop.client_id) == (METADATA, 9, "shop")


def test_what_is_allowed_is_no_denial(inner: InnerBroker) -> None:
    of_shop = made(inner.connection)
    assert of_shop.denial(Operation.READ, TOPIC, "t") is ErrorCode.none
    of_shop.authorize(Operation.READ, TOPIC, "t")


@pytest.mark.parametrize(
    ("resource_type", "code"),
    [
        (ResourceType.TOPIC, ErrorCode.topic_authorization_failed),
        (ResourceType.GROUP, ErrorCode.group_authorization_failed),
        (ResourceType.CLUSTER, ErrorCode.cluster_authorization_failed),
        (ResourceType.TRANSACTIONAL_ID, ErrorCode.transactional_id_authorization_failed),
    ],
)
def test_a_denial_has_the_code_of_its_resource_type(
    inner: InnerBroker, authorizer: RecordingAuthorizer, resource_type: ResourceType, code: ErrorCode
) -> None:
    authorizer.change(nothing)
    of_shop = made(inner.connection)
    assert of_shop.denial(Operation.READ, resource_type, "x") is code
    with pytest.raises(Rejected) as rejected:
        of_shop.authorize(Operation.READ, resource_type, "x")
    assert rejected.value.code is code


def test_denials_of_one_request_do_not_count_for_another(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    """Sixty-four requests of one connection may be in work, and take turns."""
    authorizer.change(nothing)
    first, second = made(inner.connection), made(inner.connection)
    for _ in range(DENIALS_MAX):
        first.denial(Operation.READ, TOPIC, "t")
        second.denial(Operation.READ, TOPIC, "t")
    with pytest.raises(CloseConnection, match="Metadata was denied more than 10000 things"):
        first.denial(Operation.READ, TOPIC, "t")


def test_an_audit_line_names_the_api_and_client_of_its_own_request(
    inner: InnerBroker, authorizer: RecordingAuthorizer, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer.change(nothing)
    first = made(inner.connection, api="JoinGroup", client_id="first")
    second = made(inner.connection, api="DeleteTopics", client_id="second")
    second.denial(Operation.DELETE, TOPIC, "t")
    first.denial(Operation.READ, ResourceType.GROUP, "g")
    assert [line.split("resource=")[1].split(" mechanism")[0] for line in caplog.messages] == [
        "TOPIC:t api=DeleteTopics",
        "GROUP:g api=JoinGroup",
    ]
    assert ["client=second" in caplog.messages[0], "client=first" in caplog.messages[1]] == [True, True]


def test_what_a_listing_leaves_out_is_neither_counted_nor_audited(
    inner: InnerBroker, authorizer: RecordingAuthorizer, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer.change(nothing)
    of_shop = made(inner.connection)
    assert not of_shop.may_describe(TOPIC, "t")
    assert not of_shop.may_create_any()
    assert authorizer.asked[-1] == (Operation.CREATE, ResourceType.CLUSTER, CLUSTER_NAME)
    assert (of_shop.denials, caplog.messages) == (0, [])


def test_a_request_leaves_nothing_of_itself_on_its_connection(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    inner.ask(METADATA, 9, topics=[])
    before = {each.name: getattr(inner.connection, each.name) for each in fields(Connection)}
    authorizer.change(nothing)
    frame = request_frame(request(DELETE_TOPICS, 1, topic_names=["t"]), client_id="another")
    reply = bytes(finished(dispatch(inner.broker, inner.connection, memoryview(frame))))
    (told,) = read_response(DELETE_TOPICS, 1, reply).responses
    assert told.error_code is ErrorCode.topic_authorization_failed
    assert {each.name: getattr(inner.connection, each.name) for each in fields(Connection)} == before


def test_a_denied_produce_names_the_client_of_its_connection(
    inner: InnerBroker, authorizer: RecordingAuthorizer, caplog: pytest.LogCaptureFixture
) -> None:
    inner.ask(METADATA, 9, topics=[])
    authorizer.change(nothing)
    reply = dispatch(inner.broker, inner.connection, memoryview(produce_frame(batch(), version=12)))
    assert isinstance(reply, bytes)
    error = read_response(PRODUCE, 12, reply).responses[0].partition_responses[0].error_code
    assert error is ErrorCode.topic_authorization_failed
    assert "api=Produce" in caplog.messages[0]
    assert "client=test" in caplog.messages[0]
