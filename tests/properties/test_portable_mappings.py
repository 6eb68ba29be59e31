"""Whatever a mapping is set to, it comes back whole from every form in which `export` writes it."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest
import yaml
from awscli.clidriver import create_clidriver
from botocore.awsrequest import AWSResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from tidemill_cli.portable.command_line import aws_command
from tidemill_cli.portable.reading import from_file
from tidemill_cli.portable.request import BOOTSTRAP_KEY, create_request
from tidemill_cli.portable.templates import cloudformation, left_out_of_sam, sam
from tidemill_local.stacks import mappings
from tidemill_local.stacks.properties import tags_of

UUID = "0a0a0a0a-0000-4000-8000-000000000000"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:"
FUNCTION = {"Runtime": "python3.12", "Handler": "app.handler", "Timeout": 20}
QUIET = settings(deadline=None, max_examples=40)

# What shells, YAML, JSON and the AWS CLI give a meaning of their own.
awkward = st.sampled_from(
    [
        *("", "yes", "0123", "1_000", "null", "~", "2026-01-01", "it's", '"', "$HOME `x` \\", "a: b # c"),
        *("{}", "[", "-x", "file:///etc/hostname", "@x", "*a", "&a", "!Ref", "é ✓ \U0001f600"),
        *("a\nb\tc", "${x}", "%{x}", "\x07", "\x85"),
    ]
)
text = st.one_of(awkward, st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
name = st.from_regex(r"[a-zA-Z0-9_\-][a-zA-Z0-9\-_.]{1,12}", fullmatch=True)
secret = name.map(lambda each: f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{each}")


def members(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with one member at least: what is empty is not set."""
    return st.fixed_dictionaries({}, optional=optional).filter(bool)


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one, min_size=1, max_size=3)


registry = st.fixed_dictionaries(
    {
        "SchemaRegistryURI": st.just("https://registry.example:8081"),
        "EventRecordFormat": st.sampled_from(["JSON", "SOURCE"]),
        "SchemaValidationConfigs": several(
            st.fixed_dictionaries({"Attribute": st.sampled_from(["KEY", "VALUE"])})
        ),
    },
    optional={
        "AccessConfigs": several(st.fixed_dictionaries({"Type": st.just("BASIC_AUTH"), "URI": secret}))
    },
)
block = members(ConsumerGroupId=name, SchemaRegistryConfig=registry)
common = {
    "Enabled": st.just(value=False),
    "BatchSize": st.integers(1, 10000),
    "MaximumBatchingWindowInSeconds": st.integers(0, 300),
    "MaximumRecordAgeInSeconds": st.integers(60, 604800),
    "MaximumRetryAttempts": st.integers(0, 10000),
    "BisectBatchOnFunctionError": st.just(value=True),
    "FunctionResponseTypes": st.just(["ReportBatchItemFailures"]),
    "FilterCriteria": members(Filters=several(members(Pattern=text.filter(bool)))),
    "DestinationConfig": members(
        OnFailure=members(
            Destination=st.sampled_from(
                ["arn:aws:sqs:us-east-1:123456789012:q", "arn:aws:s3:::b", "kafka://t"]
            )
        )
    ),
    "ProvisionedPollerConfig": members(
        MinimumPollers=st.integers(1, 200), MaximumPollers=st.integers(1, 2000), PollerGroupName=name
    ),
    "KMSKeyArn": st.just("arn:aws:kms:us-east-1:123456789012:key/k"),
    "MetricsConfig": members(Metrics=several(st.just("EventCount"))),
    "LoggingConfig": members(SystemLogLevel=st.sampled_from(["DEBUG", "INFO"])),
    "Tags": st.dictionaries(text.filter(bool), text, min_size=1, max_size=3),
}
start = st.one_of(
    st.sampled_from([{"StartingPosition": "TRIM_HORIZON"}, {"StartingPosition": "LATEST"}]),
    st.integers(1, 1_900_000_000).map(
        lambda seconds: {
            "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": datetime.fromtimestamp(seconds, UTC),
        }
    ),
)
msk = st.fixed_dictionaries(
    {"EventSourceArn": st.just("arn:aws:kafka:us-east-1:123456789012:cluster/c/0a-1")},
    optional={
        "AmazonManagedKafkaEventSourceConfig": block,
        "SourceAccessConfigurations": st.just([{"Type": "SASL_SCRAM_512_AUTH", "URI": "arn:aws:x"}]),
    },
)
self_managed = st.fixed_dictionaries(
    {
        "SelfManagedEventSource": several(name.map(lambda host: f"{host}:9092")).map(
            lambda servers: {"Endpoints": {BOOTSTRAP_KEY: servers}}
        ),
        "SourceAccessConfigurations": secret.map(
            lambda arn: [
                {"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"},
                {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-1"},
                {"Type": "BASIC_AUTH", "URI": arn},
            ]
        ),
    },
    optional={"SelfManagedKafkaEventSourceConfig": block},
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Calls of CreateEventSourceMapping, with whatever Lambda has for Kafka."""
    own = draw(st.one_of(msk, self_managed))
    function = {"FunctionName": ARN + draw(st.sampled_from(["orders", "orders:live", "orders:7"]))}
    return {
        **function,
        "Topics": [draw(name)],
        **own,
        **draw(start),
        **draw(st.fixed_dictionaries({}, optional=common)),
    }


def replied(request: dict[str, Any]) -> dict[str, Any]:
    """What Lambda replies of the mapping."""
    reply = {
        name: value for name, value in request.items() if name not in {"FunctionName", "Enabled", "Tags"}
    }
    state = "Enabled" if request.get("Enabled", True) else "Disabled"
    return reply | {"UUID": UUID, "FunctionArn": request["FunctionName"], "State": state, "LastModified": 1.5}


@cache
def client() -> Any:
    return boto3.client("lambda", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")


@cache
def aws_cli() -> tuple[Any, list[dict[str, Any]]]:
    """The AWS CLI, and the calls that it would have sent."""
    driver, sent = create_clidriver(), []

    def before_call(params: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        sent.append(json.loads(params["body"]))
        return AWSResponse("", 202, {}, None), {}

    driver.session.register("before-call.lambda.CreateEventSourceMapping", before_call)
    return driver, sent


def words_of(command: str) -> list[str]:
    """The arguments of `aws`, as a shell reads them."""
    script = f"aws() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split(
        "\0"
    )[:-1]


def sent_by_boto3(request: dict[str, Any]) -> dict[str, Any]:
    sent: list[dict[str, Any]] = []

    def before_call(params: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        sent.append(json.loads(params["body"]))
        return AWSResponse("", 202, {}, None), {}

    events = client().meta.events
    events.register("before-call.lambda.CreateEventSourceMapping", before_call, unique_id="sent")
    try:
        client().create_event_source_mapping(**request)
    finally:
        events.unregister("before-call.lambda.CreateEventSourceMapping", unique_id="sent")
    return sent[0]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@QUIET
@given(request_=requests())
def test_a_reply_becomes_the_call_that_made_the_mapping(request_: dict[str, Any]) -> None:
    assert create_request(replied(request_), request_.get("Tags")) == request_


@QUIET
@given(request_=requests())
def test_the_aws_cli_sends_the_call_that_its_command_was_written_from(request_: dict[str, Any]) -> None:
    driver, sent = aws_cli()
    sent.clear()

    assert driver.main(words_of(aws_command(request_))) == 0

    assert sent == [sent_by_boto3(request_)]


@QUIET
@given(request_=requests())
def test_a_stack_makes_the_call_that_its_template_was_written_from(request_: dict[str, Any]) -> None:
    [resource] = yaml.safe_load(cloudformation(request_))["Resources"].values()

    kind = mappings.EVENT_SOURCE_MAPPING
    assert resource["Properties"].keys() <= kind.required | kind.optional
    call = mappings._request(client(), "CreateEventSourceMapping", resource["Properties"])
    call.pop("Tags", None)
    tags = {"Tags": tags_of(resource["Properties"])} if "Tags" in request_ else {}

    assert sent_by_boto3(call | tags) == sent_by_boto3(request_)


@QUIET
@given(request_=requests())
def test_awss_transform_makes_of_an_event_what_the_template_has(request_: dict[str, Any]) -> None:
    document = yaml.safe_load(sam(request_, FUNCTION))
    [function] = document["Resources"].values()
    function["Properties"]["CodeUri"] = "s3://bucket/key"  # as `sam package` does

    transformed = Translator({}, Parser()).translate(document, parameter_values={})

    [found] = [
        one["Properties"]
        for one in transformed["Resources"].values()
        if one["Type"] == "AWS::Lambda::EventSourceMapping"
    ]
    [wanted] = yaml.safe_load(cloudformation(request_))["Resources"].values()
    lost = {"FunctionName", *left_out_of_sam(request_)}
    assert {key: value for key, value in found.items() if key != "FunctionName"} == {
        key: value for key, value in wanted["Properties"].items() if key not in lost
    }


@QUIET
@given(request_=requests())
def test_the_json_of_get_is_the_mapping(
    request_: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "mapping.json"
    file.write_text(json.dumps(replied(request_), default=str))

    [found] = from_file(file)

    assert create_request(found, request_.get("Tags")) == request_
