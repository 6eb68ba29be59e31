"""Where no program of ours makes functions, stacks reject them: with moto, and in an AWS on its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.harness.embedded_aws import EmbeddedAws, embedded_aws


@pytest.fixture(scope="module", params=["ministack", "moto"])
def aws(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAws]:
    with embedded_aws(tmp_path_factory.mktemp("aws"), engine=request.param) as running:
        yield running


@pytest.mark.parametrize("resource_type", ["AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping"])
def test_a_function_or_mapping_of_a_stack_is_rejected_by_name(aws: EmbeddedAws, resource_type: str) -> None:
    client = aws.client("cloudformation")
    name = resource_type.rpartition("::")[2]
    thing = {
        "Type": resource_type,
        "Properties": {"FunctionName": "f", "Role": "r", "Code": {"ZipFile": "x"}},
    }
    with pytest.raises(ClientError, match=rf"Unrecognized resource types: \[{resource_type}\]"):
        client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": {"Thing": thing}}))
    states = [stack["StackStatus"] for stack in client.list_stacks()["StackSummaries"]]
    assert "CREATE_COMPLETE" not in states
