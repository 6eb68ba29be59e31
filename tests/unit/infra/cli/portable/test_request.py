"""What Lambda replies of a mapping becomes the call that creates an equal one, or one sentence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tidemill_cli.errors import UserError
from tidemill_cli.main import main
from tidemill_cli.portable.request import Overrides, create_request, overridden

UUID = "0a0a0a0a-0000-4000-8000-000000000000"
FUNCTION = "arn:aws:lambda:eu-west-1:111122223333:function:orders:live"
MSK = "arn:aws:kafka:eu-west-1:111122223333:cluster/c/0a-1"


def reply(**members: Any) -> dict[str, Any]:
    """As Lambda replies of a mapping with nothing set."""
    return {
        "UUID": UUID,
        "EventSourceMappingArn": f"arn:aws:lambda:eu-west-1:111122223333:event-source-mapping:{UUID}",
        "FunctionArn": FUNCTION,
        "EventSourceArn": MSK,
        "Topics": ["orders"],
        "BatchSize": 100,
        "StartingPosition": "TRIM_HORIZON",
        "State": "Enabled",
        "LastModified": "2026-11-01T10:00:00+00:00",
        "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": UUID},
    } | members


def test_status_and_what_is_not_set_are_no_part_of_the_call() -> None:
    unset: dict[str, Any] = {
        "FilterCriteria": None,
        "DestinationConfig": {"OnFailure": {}},
        "FunctionResponseTypes": [],
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "ParallelizationFactor": None,
    }

    assert create_request(reply(**unset)) == {
        "FunctionName": FUNCTION,
        "EventSourceArn": MSK,
        "Topics": ["orders"],
        "BatchSize": 100,
        "StartingPosition": "TRIM_HORIZON",
    }


def test_a_window_of_no_seconds_is_kept() -> None:
    """It is not AWS's default, which is half a second."""
    assert create_request(reply(MaximumBatchingWindowInSeconds=0))["MaximumBatchingWindowInSeconds"] == 0


def test_a_group_of_the_users_own_is_kept() -> None:
    block = {"ConsumerGroupId": "mine"}

    found = create_request(reply(AmazonManagedKafkaEventSourceConfig=block))

    assert found["AmazonManagedKafkaEventSourceConfig"] == block


@pytest.mark.parametrize("state", ["Disabled", "Disabling"])
def test_a_disabled_mapping_stays_disabled(state: str) -> None:
    assert create_request(reply(State=state))["Enabled"] is False


@pytest.mark.parametrize("given", [1700000000, "2023-11-14T22:13:20+00:00", "2023-11-14T22:13:20Z"])
def test_the_start_is_read_as_json_and_as_the_aws_cli_writes_it(given: Any) -> None:
    found = create_request(reply(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=given))

    assert found["StartingPositionTimestamp"].astimezone(UTC) == datetime(
        2023, 11, 14, 22, 13, 20, tzinfo=UTC
    )


def test_an_empty_tag_is_a_tag() -> None:
    assert create_request(reply(Tags={"a": ""}), {"b": "2"})["Tags"] == {"a": "", "b": "2"}


def test_another_cluster_takes_the_group_to_the_block_of_its_kind() -> None:
    block = {"ConsumerGroupId": "mine"}
    request = create_request(reply(AmazonManagedKafkaEventSourceConfig=block))

    found = overridden(request, Overrides(bootstrap=["k:9092"]))

    assert found["SelfManagedKafkaEventSourceConfig"] == block
    assert "AmazonManagedKafkaEventSourceConfig" not in found
    assert "EventSourceArn" not in found


@pytest.mark.parametrize(
    ("damage", "sentence", "hint"),
    [
        ({"BatchSise": 1}, "'BatchSise' is no member of an event source mapping.", "Did you mean BatchSize?"),
        ({"Zyx": 1}, "'Zyx' is no member of an event source mapping.", "newer boto3"),
        ({"EventSourceArn": "arn:aws:kinesis:eu-west-1:1:stream/s"}, "reads kinesis", "MSK cluster"),
        ({"EventSourceArn": "my-cluster"}, "EventSourceArn 'my-cluster' is no ARN.", "get-event-source"),
        ({"EventSourceArn": None}, "neither EventSourceArn nor SelfManagedEventSource", "get-event-source"),
        ({"Topics": None}, "The mapping has no Topics.", "get-event-source-mapping"),
        ({"FunctionArn": ""}, "The mapping has no FunctionArn.", "get-event-source-mapping"),
        ({"BatchSize": "many"}, "Invalid type for parameter BatchSize", "get-event-source-mapping"),
        ({"FilterCriteria": []}, "", ""),
        ({"DestinationConfig": "arn"}, "Invalid type for parameter DestinationConfig", "whole output"),
        (
            {"SelfManagedKafkaEventSourceConfig": [1]},
            "Invalid type for parameter SelfManaged",
            "whole output",
        ),
        ({"StartingPositionTimestamp": "soon"}, "StartingPositionTimestamp", "whole output"),
        ({"State": "Deleting"}, "is being deleted", "another"),
    ],
)
def test_a_damaged_mapping_is_one_sentence_with_the_fix(
    damage: dict[str, Any], sentence: str, hint: str
) -> None:
    if not sentence:
        assert create_request(reply(**damage)) == create_request(reply())
        return
    with pytest.raises(UserError) as rejected:
        create_request(reply(**damage))
    assert sentence in str(rejected.value)
    assert hint in str(rejected.value.hint)


@pytest.mark.parametrize("document", ["text", 1, None, [1]])
def test_json_that_is_no_object_is_no_mapping(document: Any) -> None:
    with pytest.raises(UserError, match="A mapping is a JSON object"):
        create_request(document)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no mapping"),
        ('{"EventSourceMappings": []}', "holds no mapping"),
        ("[1]", "A mapping is a JSON object"),
        (json.dumps(reply(EventSourceArn="arn:aws:sqs:eu-west-1:1:q")), "reads sqs"),
        (json.dumps(reply(FunctionArn="arn:aws:iam::1:role/r")), "is not the ARN of a function"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_sentence_and_calls_nobody(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mapping.json"
    file.write_text(content)

    assert main(["import", "--file", str(file), "--endpoint-url", "http://127.0.0.1:1"]) == 1

    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("arguments", [[], ["--file", "m.json", "--from-uuid", UUID]])
def test_a_mapping_comes_from_one_place(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *arguments]) == 1
    assert "--from-uuid UUID (AWS) or --file FILE" in capsys.readouterr().err
