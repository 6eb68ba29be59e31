"""tidemill_awsapi tested by AWS's own clients and by raw HTTP."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from tidemill_awsapi import ApiError, Call, Handler, Service

CLUSTER = "arn:aws:kafka:us-east-1:123456789012:cluster/tidemill/0b6ae2a1-1111-4000-8000-000000000000-1"
MAPPING = "4f6f3bd0-0e9a-4b0c-8a55-000000000000"


class Calls:
    """Handlers that remember what they were called with and answer what the test set."""

    def __init__(self) -> None:
        self.seen: list[Call] = []
        self.answers: dict[str, Mapping[str, Any] | Exception] = {}

    async def __call__(self, call: Call) -> Mapping[str, Any]:
        self.seen.append(call)
        answer = self.answers[call.operation]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def handlers(self, *operations: str) -> dict[str, Handler]:
        return dict.fromkeys(operations, self)


@pytest.fixture
def calls() -> Calls:
    return Calls()


async def _serve(application: web.Application) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"


@pytest.fixture
async def lambda_url(calls: Calls) -> AsyncIterator[str]:
    service = Service(
        "lambda",
        calls.handlers(
            "Invoke",
            "CreateFunction",
            "CreateEventSourceMapping",
            "GetEventSourceMapping",
            "ListEventSourceMappings",
            "DeleteFunction",
            "ListTags",
        ),
        region="eu-west-1",
        account_id="123456789012",
    )
    runner, url = await _serve(service.application(max_body_bytes=1_000_000))
    yield url
    await runner.cleanup()


@pytest.fixture
async def kafka_url(calls: Calls) -> AsyncIterator[str]:
    service = Service(
        "kafka",
        calls.handlers(
            "DescribeCluster", "DescribeClusterV2", "ListNodes", "GetBootstrapBrokers", "ListClustersV2"
        ),
        region="us-east-1",
        account_id="123456789012",
    )
    runner, url = await _serve(service.application())
    yield url
    await runner.cleanup()


def client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-2",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


async def call(method: Any, **arguments: Any) -> Any:
    return await asyncio.to_thread(method, **arguments)


async def test_invoke_carries_payload_headers_and_status_both_ways(calls: Calls, lambda_url: str) -> None:
    """Invoke's payload, header members and statusCode member survive the way there and back."""
    calls.answers["Invoke"] = {
        "StatusCode": 202,
        "FunctionError": "Unhandled",
        "ExecutedVersion": "$LATEST",
        "Payload": b'{"errorMessage":"boom"}',
    }
    reply = await call(
        client("lambda", lambda_url).invoke,
        FunctionName="arn:aws:lambda:us-east-2:123456789012:function:f:1",
        InvocationType="Event",
        Payload=b"\x00\xff not json",
    )
    [seen] = calls.seen
    assert seen.params["FunctionName"] == "arn:aws:lambda:us-east-2:123456789012:function:f:1"
    assert seen.params["InvocationType"] == "Event"
    assert seen.params["Payload"] == b"\x00\xff not json"
    assert (seen.region, seen.account_id, seen.access_key_id) == ("us-east-2", "123456789012", "AKIDEXAMPLE")
    assert (reply["StatusCode"], reply["FunctionError"], reply["ExecutedVersion"]) == (
        202,
        "Unhandled",
        "$LATEST",
    )
    assert reply["Payload"].read() == b'{"errorMessage":"boom"}'
    assert reply["ResponseMetadata"]["RequestId"] == seen.request_id


async def test_nested_input_is_parsed_by_the_model(calls: Calls, lambda_url: str) -> None:
    """Blobs arrive as bytes, timestamps as aware datetimes, maps and lists as they are."""
    calls.answers["CreateFunction"] = {"FunctionName": "f", "LastModified": "2026-11-21T15:00:00.000+0000"}
    reply = await call(
        client("lambda", lambda_url).create_function,
        FunctionName="f",
        Role="arn:aws:iam::123456789012:role/r",
        Code={"ZipFile": b"PK\x03\x04"},
        Environment={"Variables": {"TABLE": "t"}},
        Handler="m.h",
        Runtime="python3.11",
        Timeout=3,
    )
    assert calls.seen[0].params["Code"] == {"ZipFile": b"PK\x03\x04"}
    assert calls.seen[0].params["Environment"] == {"Variables": {"TABLE": "t"}}
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    calls.answers["CreateEventSourceMapping"] = {
        "UUID": MAPPING,
        "LastModified": datetime(2026, 11, 21, 15, 0, 0, 250_000, tzinfo=UTC),
        "StartingPosition": None,
    }
    start = datetime(2026, 11, 1, tzinfo=UTC)
    created = await call(
        client("lambda", lambda_url).create_event_source_mapping,
        FunctionName="f",
        EventSourceArn=CLUSTER,
        Topics=["flights"],
        StartingPosition="AT_TIMESTAMP",
        StartingPositionTimestamp=start,
    )
    assert calls.seen[1].params["StartingPositionTimestamp"] == start
    assert calls.seen[1].params["Topics"] == ["flights"]
    assert created["LastModified"] == datetime(2026, 11, 21, 15, 0, 0, 250_000, tzinfo=UTC)
    assert "StartingPosition" not in created
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"BatchSize": 0, "FunctionName": "f"},
            (
                "1 validation error detected: Value '0' at 'batchSize' failed to satisfy constraint: "
                "Member must have value greater than or equal to 1"
            ),
        ),
        (
            {"BatchSize": 10_001, "FunctionName": "f", "StartingPosition": "x"},
            (
                "2 validation errors detected: Value '10001' at 'batchSize' failed to satisfy constraint: "
                "Member must have value less than or equal to 10000; "
                "Value 'x' at 'startingPosition' failed to satisfy constraint: "
                "Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
            ),
        ),
        (
            {},
            (
                "1 validation error detected: Value null at 'functionName' failed to satisfy constraint: "
                "Member must not be null"
            ),
        ),
        (
            {"FunctionName": "f", "Topics": [".x"]},
            (
                "1 validation error detected: Value '[.x]' at 'topics' failed to satisfy constraint: "
                "Member must satisfy constraint: [Member must have length less than or equal to 249, "
                "Member must have length greater than or equal to 1, Member must satisfy "
                r"regular expression pattern: [^.]([a-zA-Z0-9\-_.]+), Member must not be null]"
            ),
        ),
        (
            {"FunctionName": "f", "SourceAccessConfigurations": [{"Type": "NO", "URI": "x"}]},
            (
                "1 validation error detected: Value 'NO' at 'sourceAccessConfigurations.1.member.type' "
                "failed to satisfy constraint: Member must satisfy enum value set: ["
            ),
        ),
    ],
)
async def test_a_broken_constraint_is_told_in_aws_words(
    lambda_url: str, arguments: dict[str, Any], message: str
) -> None:
    """Each broken constraint answers 400 ValidationException with AWS's sentence, several joined by '; '."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{lambda_url}/2015-03-31/event-source-mappings/", json=arguments) as reply,
    ):
        body = await reply.json()
        assert reply.status == 400
        assert reply.headers["x-amzn-ErrorType"] == "ValidationException"
        assert body["message"].startswith(message)
        assert body["Type"] == "User"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{nonsense", "Could not parse request body into json: "),
        (b"[]", "Start of list found where not expected."),
        (b'{"BatchSize": "ten"}', "STRING_VALUE can not be converted to an Integer"),
        (b'{"BatchSize": true}', "TRUE_VALUE can not be converted to an Integer"),
        (b'{"FunctionName": {}}', "Start of structure or map found where not expected."),
        (b'{"Topics": "flights"}', "Expected list or null"),
        (b'{"StartingPositionTimestamp": "soon"}', "STRING_VALUE can not be converted to a Timestamp"),
        (b'{"StartingPositionTimestamp": 1e300}', "NUMBER_VALUE can not be converted to a Timestamp"),
    ],
)
async def test_a_body_of_the_wrong_type_is_a_serialization_exception(
    calls: Calls, lambda_url: str, body: bytes, message: str
) -> None:
    """What does not parse never reaches a handler and answers SerializationException."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{lambda_url}/2015-03-31/event-source-mappings", data=body) as reply,
    ):
        assert reply.status == 400
        assert reply.headers["x-amzn-ErrorType"] == "SerializationException"
        assert (await reply.json())["message"].startswith(message)
    assert calls.seen == []


async def test_errors_are_spelt_as_their_shape_says(calls: Calls, lambda_url: str) -> None:
    """Conflict says ``message``, NotFound ``Message``; TooManyRequests carries Reason and Retry-After."""
    functions = client("lambda", lambda_url)
    calls.answers["GetEventSourceMapping"] = ApiError("ResourceNotFoundException", "It is gone.")
    with pytest.raises(functions.exceptions.ResourceNotFoundException) as missing:
        await call(functions.get_event_source_mapping, UUID=MAPPING)
    assert missing.value.response["Message"] == "It is gone."
    assert missing.value.response["Type"] == "User"
    assert missing.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    calls.answers["Invoke"] = ApiError(
        "TooManyRequestsException",
        "Rate Exceeded.",
        Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
        retryAfterSeconds="1",
    )
    with pytest.raises(functions.exceptions.TooManyRequestsException) as throttled:
        await call(functions.invoke, FunctionName="f")
    assert throttled.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert throttled.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert throttled.value.response["Error"]["Message"] == "Rate Exceeded."


async def test_a_handler_that_fails_answers_a_service_exception(calls: Calls, lambda_url: str) -> None:
    """Our own bug answers 500 ServiceException and shows nothing of its text."""
    calls.answers["Invoke"] = RuntimeError("secret")
    with pytest.raises(ClientError) as failed:
        await call(client("lambda", lambda_url).invoke, FunctionName="f")
    assert failed.value.response["Error"]["Code"] == "ServiceException"
    assert "secret" not in str(failed.value.response)
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


async def test_an_output_member_that_the_model_lacks_is_our_bug(calls: Calls, lambda_url: str) -> None:
    """A misspelt output member never leaves silently."""
    calls.answers["GetEventSourceMapping"] = {"Uuid": MAPPING}
    with pytest.raises(ClientError, match="ServiceException"):
        await call(client("lambda", lambda_url).get_event_source_mapping, UUID=MAPPING)


async def test_an_operation_without_handler_names_itself(lambda_url: str) -> None:
    with pytest.raises(ClientError) as refused:
        await call(client("lambda", lambda_url).list_aliases, FunctionName="f")
    assert refused.value.response["Error"]["Code"] == "NotImplementedException"
    assert "lambda:ListAliases" in refused.value.response["Error"]["Message"]


async def test_an_unknown_route_answers_404(lambda_url: str) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{lambda_url}/2015-03-31/nothing") as reply:
        assert reply.status == 404
        assert reply.headers["x-amzn-ErrorType"] == "UnknownOperationException"


async def test_a_body_above_the_limit_answers_413(lambda_url: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{lambda_url}/2015-03-31/functions/f/invocations", data=b"x" * 1_000_001) as reply,
    ):
        assert reply.status == 413
        assert reply.headers["x-amzn-ErrorType"] == "RequestEntityTooLargeException"


async def test_query_members_are_parsed_by_type(calls: Calls, lambda_url: str) -> None:
    calls.answers["ListEventSourceMappings"] = {"EventSourceMappings": [{"UUID": MAPPING}]}
    reply = await call(
        client("lambda", lambda_url).list_event_source_mappings,
        FunctionName="f",
        EventSourceArn=CLUSTER,
        MaxItems=7,
    )
    assert calls.seen[0].params == {"FunctionName": "f", "EventSourceArn": CLUSTER, "MaxItems": 7}
    assert reply["EventSourceMappings"] == [{"UUID": MAPPING}]


async def test_delete_answers_204_without_a_body(calls: Calls, lambda_url: str) -> None:
    calls.answers["DeleteFunction"] = {}
    reply = await call(client("lambda", lambda_url).delete_function, FunctionName="f")
    assert reply["ResponseMetadata"]["HTTPStatusCode"] in (200, 204)


async def test_an_arn_stays_one_path_label(calls: Calls, kafka_url: str) -> None:
    """MSK's clients send the ARN as one URL-encoded segment; some HTTP stacks decode its slashes early."""
    calls.answers["GetBootstrapBrokers"] = {"BootstrapBrokerString": "127.0.0.1:9092"}
    reply = await call(client("kafka", kafka_url).get_bootstrap_brokers, ClusterArn=CLUSTER)
    assert reply["BootstrapBrokerString"] == "127.0.0.1:9092"
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{kafka_url}/v1/clusters/{CLUSTER}/bootstrap-brokers") as raw,
    ):
        assert await raw.json() == {"bootstrapBrokerString": "127.0.0.1:9092"}
    assert [seen.operation for seen in calls.seen] == ["GetBootstrapBrokers"] * 2
    assert [seen.params for seen in calls.seen] == [{"ClusterArn": CLUSTER}] * 2
    assert [seen.region for seen in calls.seen] == ["us-east-2", "us-east-1"]


async def test_kafka_timestamps_are_iso8601_and_errors_name_the_parameter(
    calls: Calls, kafka_url: str
) -> None:
    created = datetime(2026, 11, 21, 15, 0, 0, tzinfo=UTC)
    calls.answers["DescribeClusterV2"] = {
        "ClusterInfo": {"ClusterArn": CLUSTER, "CreationTime": created, "Tags": {"MyKey": "v"}}
    }
    kafka = client("kafka", kafka_url)
    reply = await call(kafka.describe_cluster_v2, ClusterArn=CLUSTER)
    assert reply["ClusterInfo"] == {"ClusterArn": CLUSTER, "CreationTime": created, "Tags": {"MyKey": "v"}}
    calls.answers["DescribeCluster"] = ApiError("NotFoundException", "no such", InvalidParameter="clusterArn")
    with pytest.raises(kafka.exceptions.NotFoundException) as missing:
        await call(kafka.describe_cluster, ClusterArn=CLUSTER)
    assert missing.value.response["InvalidParameter"] == "clusterArn"
    assert missing.value.response["Message"] == "no such"


async def test_the_aws_cli_reads_replies_and_errors(calls: Calls, lambda_url: str) -> None:
    """The AWS CLI, a client of its own, lists mappings and prints an error's code and text."""
    calls.answers["ListEventSourceMappings"] = {"EventSourceMappings": [{"UUID": MAPPING, "BatchSize": 100}]}
    calls.answers["GetEventSourceMapping"] = ApiError("ResourceNotFoundException", "It is gone.")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": lambda_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
    }
    aws = str(Path(sys.executable).with_name("aws"))

    async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [aws, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    listed = await run("lambda", "list-event-source-mappings", "--output", "json")
    assert json.loads(listed.stdout)["EventSourceMappings"] == [{"UUID": MAPPING, "BatchSize": 100}]
    missing = await run("lambda", "get-event-source-mapping", "--uuid", MAPPING)
    assert missing.returncode != 0
    assert "(ResourceNotFoundException)" in missing.stderr
    assert "It is gone." in missing.stderr


async def test_a_web_page_from_elsewhere_calls_no_operation(calls: Calls, lambda_url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{lambda_url}/2015-03-31/functions", data=b"{}", headers={"Origin": "https://evil.example"}
        ) as refused,
    ):
        assert refused.status == 403
        assert refused.headers["x-amzn-ErrorType"] == "AccessDeniedException"
