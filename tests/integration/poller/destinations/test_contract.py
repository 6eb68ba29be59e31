"""One contract for every destination: SQS, SNS and S3 on moto's server, and the fake that other tests use."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from moto.server import ThreadedMotoServer

from tests.fakes.destinations import RecordingDestination
from tests.fakes.http_thread import serving
from tidemill_poller import aws
from tidemill_poller.aws import AwsClients
from tidemill_poller.destinations import (
    Destination,
    DestinationUnavailable,
    FailureRecord,
    ResponseContext,
    failure_json,
    open_destination,
)

REGION = "eu-west-1"
TRACE = {"traceparent": f"00-{7:032x}-{9:016x}-01", "X-Amzn-Trace-Id": "Root=1-0-7"}
RECORD = FailureRecord(
    mapping_uuid="0b4f12a8-0000-4000-8000-000000000001",
    function_arn="arn:aws:lambda:eu-west-1:123456789012:function:orders",
    condition="RetryAttemptsExhausted",
    approximate_invoke_count=4,
    request_id="5c1f3ac6-2b6d-4d7c-9a15-3f3b9bb1a111",
    response=ResponseContext(status_code=200, executed_version="$LATEST", function_error="Unhandled"),
    batch_size=2,
    event_source_arn=None,
    bootstrap_servers="127.0.0.1:9092",
    payload_bytes=2039,
    partition_key="orders-0",
    first_offset=7,
    last_offset=8,
    first_timestamp_ms=1_795_255_198_000,
    last_timestamp_ms=1_795_255_199_001,
    payload=b'{"eventSource":"SelfManagedKafka","records":{"orders-0":[]}}',
    timestamp_ms=1_795_255_200_007,
)


@dataclass
class Place:
    """A destination, what lies in it, and the same with nobody behind it."""

    destination: Destination
    received: Callable[[], list[tuple[bytes, dict[str, str]]]]
    """(body, trace context) of everything that arrived."""
    missing: Destination
    unreachable: Destination
    with_payload: bool = False


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def aws_session(url: str, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_SNS", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return boto3.Session(region_name=REGION)


class ClosedSession:
    """A session whose clients find nobody listening; the retries of a refused connection take no time."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session

    def client(self, service: str, **options: Any) -> Any:
        return self._session.client(service, endpoint_url="http://127.0.0.1:1", **options)

    def get_credentials(self) -> Any:
        return self._session.get_credentials()


def queue(client: Any, name: str) -> tuple[str, Callable[[], list[tuple[bytes, dict[str, str]]]]]:
    """(ARN, reader) of a new queue."""
    url = client.create_queue(QueueName=name)["QueueUrl"]
    reply = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])

    def received() -> list[tuple[bytes, dict[str, str]]]:
        found = []
        ask = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        while messages := client.receive_message(**ask).get("Messages"):
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                context = {key: value["StringValue"] for key, value in attributes.items()}
                found.append((message["Body"].encode(), context))
        return found

    return reply["Attributes"]["QueueArn"], received


def fake_place() -> Place:
    destination, missing, unreachable = (RecordingDestination() for _ in range(3))
    missing.refuse(99, "The queue nowhere is not there.", retriable=False)
    unreachable.refuse(99, "The queue somewhere cannot be reached.")

    def received() -> list[tuple[bytes, dict[str, str]]]:
        contexts = [{"traceparent": headers["traceparent"]} for headers in destination.trace_headers]
        return list(zip(map(failure_json, destination.records), contexts, strict=True))

    return Place(destination, received, missing, unreachable)


def sqs_place(session: boto3.Session, closed: Any) -> Place:
    arn, received = queue(session.client("sqs"), "failed")
    nowhere = arn.replace(":failed", ":nowhere")
    return Place(
        open_destination(arn, AwsClients(session)),
        received,
        open_destination(nowhere, AwsClients(session)),
        open_destination(arn, AwsClients(closed)),
    )


def sns_place(session: boto3.Session, closed: Any) -> Place:
    sns = session.client("sns")
    arn = sns.create_topic(Name="failed")["TopicArn"]
    queue_arn, received = queue(session.client("sqs"), "subscribed")
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn, Attributes={"RawMessageDelivery": "true"})
    nowhere = arn.replace(":failed", ":nowhere")
    return Place(
        open_destination(arn, AwsClients(session)),
        received,
        open_destination(nowhere, AwsClients(session)),
        open_destination(arn, AwsClients(closed)),
    )


def s3_place(session: boto3.Session, closed: Any) -> Place:
    s3 = session.client("s3")
    s3.create_bucket(Bucket="failed", CreateBucketConfiguration={"LocationConstraint": REGION})

    def received() -> list[tuple[bytes, dict[str, str]]]:
        prefix = f"aws/lambda/{RECORD.mapping_uuid}/orders-0/2026/11/21/2026-11-21T10.00.00-"
        found = []
        for listed in s3.list_objects_v2(Bucket="failed", Prefix=prefix).get("Contents", []):
            stored = s3.get_object(Bucket="failed", Key=listed["Key"])
            found.append((stored["Body"].read(), stored["Metadata"]))
        return found

    arn = "arn:aws:s3:::failed"
    return Place(
        open_destination(arn, AwsClients(session)),
        received,
        open_destination("arn:aws:s3:::nowhere", AwsClients(session)),
        open_destination(arn, AwsClients(closed)),
        with_payload=True,
    )


def reset(url: str) -> None:
    """Each test starts with an empty AWS."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=5).close()


@pytest.fixture(params=["fake", "sqs", "sns", "s3"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "fake":
        return fake_place()
    url = request.getfixturevalue("moto_url")
    session = aws_session(url, monkeypatch)
    reset(url)
    make = {"sqs": sqs_place, "sns": sns_place, "s3": s3_place}[request.param]
    return make(session, ClosedSession(session))


async def test_a_record_is_there_word_for_word_once_send_returned(place: Place) -> None:
    await place.destination.send(RECORD, trace_headers=TRACE)
    bodies = [body for body, _ in place.received()]
    assert bodies == [failure_json(RECORD, with_payload=place.with_payload)]


async def test_the_trace_travels_beside_the_body(place: Place) -> None:
    await place.destination.send(RECORD, trace_headers=TRACE)
    [(body, context)] = place.received()
    assert context == {"traceparent": TRACE["traceparent"]}
    assert b"traceparent" not in body


async def test_records_sent_side_by_side_all_arrive(place: Place) -> None:
    records = [replace(RECORD, first_offset=offset, last_offset=offset) for offset in range(20)]
    await asyncio.gather(*(place.destination.send(record, trace_headers=TRACE) for record in records))
    infos = [json.loads(body)["KafkaBatchInfo"]["recordsInfo"]["orders-0"] for body, _ in place.received()]
    assert sorted(int(info["firstRecordOffset"]) for info in infos) == list(range(20))


async def test_a_destination_that_is_not_there_is_named_and_not_worth_a_quick_retry(place: Place) -> None:
    with pytest.raises(DestinationUnavailable, match="nowhere") as raised:
        await place.missing.send(RECORD, trace_headers=TRACE)
    assert not raised.value.retriable
    assert place.received() == []


async def test_a_service_that_cannot_be_reached_is_worth_a_retry(place: Place) -> None:
    with pytest.raises(DestinationUnavailable, match="cannot be reached") as raised:
        await place.unreachable.send(RECORD, trace_headers=TRACE)
    assert raised.value.retriable
    assert place.received() == []


async def test_a_queue_made_anew_is_found_again(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = aws_session(moto_url, monkeypatch)
    sqs = session.client("sqs")
    arn, _ = queue(sqs, "renewed")
    destination = open_destination(arn, AwsClients(session))
    await destination.send(RECORD, trace_headers={})
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName="renewed")["QueueUrl"])
    with pytest.raises(DestinationUnavailable, match="renewed"):
        await destination.send(RECORD, trace_headers={})
    _, received = queue(sqs, "renewed")
    await destination.send(RECORD, trace_headers={})
    assert len(received()) == 1


async def test_without_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch, moto_url: str) -> None:
    session = aws_session(moto_url, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    destination = open_destination("arn:aws:sqs:eu-west-1:123456789012:failed", AwsClients(session))
    with pytest.raises(DestinationUnavailable, match="without AWS credentials") as raised:
        await destination.send(RECORD, trace_headers={})
    assert not raised.value.retriable


class Silence:
    """An AWS that reads every request, counts it by its operation, and never answers it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._ended = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._take)
        app.on_shutdown.append(self._end)
        return app

    async def _end(self, _: web.Application) -> None:
        self._ended.set()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation == "GetQueueUrl":
            return web.json_response({"QueueUrl": f"http://{request.host}/123456789012/failed"})
        assert body
        self.requests.append(request.path)
        await self._ended.wait()
        return web.Response(status=500)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sqs:eu-west-1:123456789012:failed",
        "arn:aws:sns:eu-west-1:123456789012:failed",
        "arn:aws:s3:::failed",
    ],
)
async def test_a_destination_that_never_answers_gets_one_request_a_send(
    arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_poller.aws._SEND_CONFIG", quick(aws._SEND_CONFIG))
    monkeypatch.setattr("tidemill_poller.aws._CONFIG", quick(aws._CONFIG))
    silence = Silence()
    with serving(silence.application) as url:
        destination = open_destination(arn, AwsClients(aws_session(url, monkeypatch)))
        for sends in (1, 2):
            with pytest.raises(DestinationUnavailable, match="did not answer") as raised:
                await destination.send(RECORD, trace_headers=TRACE)
            assert raised.value.unanswered
            assert len(silence.requests) == sends
    if arn.startswith("arn:aws:s3"):
        assert len(set(silence.requests)) == 1, "sent again, it is the same object"


async def test_a_record_that_is_sent_again_to_s3_replaces_its_own_object(
    moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset(moto_url)
    session = aws_session(moto_url, monkeypatch)
    place = s3_place(session, ClosedSession(session))
    for record in (RECORD, RECORD, replace(RECORD, first_offset=8)):
        await place.destination.send(record, trace_headers=TRACE)
    assert len(place.received()) == 2


def quick(config: Config) -> Config:
    """The same attempts in a fiftieth of the time."""
    return config.merge(Config(read_timeout=config.read_timeout / 50))
