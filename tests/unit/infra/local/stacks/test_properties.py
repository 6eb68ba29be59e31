"""A template's values become an API's parameters by botocore's models."""

from __future__ import annotations

import botocore.session
import pytest
from botocore.model import OperationModel

from tidemill_local.stacks.properties import parameters, tags_of

MODEL = botocore.session.Session().get_service_model("lambda")


def operation(name: str) -> OperationModel:
    found: OperationModel = MODEL.operation_model(name)
    return found


def test_text_becomes_the_number_or_boolean_that_the_api_takes() -> None:
    given = {"FunctionName": "f", "BatchSize": "10", "BisectBatchOnFunctionError": "true", "Enabled": "False"}
    assert parameters(operation("CreateEventSourceMapping"), given) == {
        "FunctionName": "f",
        "BatchSize": 10,
        "BisectBatchOnFunctionError": True,
        "Enabled": False,
    }


def test_numbers_and_booleans_become_the_text_that_the_api_takes() -> None:
    given = {"Environment": {"Variables": {"ZERO": 0, "ON": True, "TEXT": "x"}}}
    assert parameters(operation("CreateFunction"), given) == {
        "Environment": {"Variables": {"ZERO": "0", "ON": "true", "TEXT": "x"}}
    }


def test_values_are_converted_inside_of_lists_and_structures() -> None:
    given = {"ProvisionedPollerConfig": {"MinimumPollers": "1"}, "Topics": [1], "FunctionName": "f"}
    found = parameters(operation("CreateEventSourceMapping"), given)
    assert found["ProvisionedPollerConfig"] == {"MinimumPollers": 1}
    assert found["Topics"] == ["1"]


def test_what_cannot_be_converted_is_left_for_botocore_to_reject() -> None:
    given = {"BatchSize": "many", "Enabled": "perhaps", "FilterCriteria": {"Filter": []}}
    assert parameters(operation("CreateEventSourceMapping"), given) == given


def test_what_an_operation_does_not_take_is_left_out() -> None:
    assert parameters(operation("UpdateEventSourceMapping"), {"Topics": ["orders"], "BatchSize": 1}) == {
        "BatchSize": 1
    }


@pytest.mark.parametrize(
    "tags",
    [
        [{"Key": "team", "Value": 1}, {"Key": "aws:cloudformation:stack-name", "Value": "s"}],
        {"team": "1", "aws:cloudformation:stack-id": "s"},
    ],
)
def test_tags_are_a_map_without_the_ones_that_aws_reserves(tags: object) -> None:
    assert tags_of({"Tags": tags}) == {"team": "1"}
