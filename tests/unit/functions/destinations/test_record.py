"""Records and dead letters in the formats of AWS's documentation."""

from __future__ import annotations

import json

import pytest

from tidemill_functions.destinations.record import (
    Outcome,
    Request,
    dead_letter_attributes,
    object_key,
)
from tidemill_functions.destinations.sender import record_json, service_of

ARN = "arn:aws:lambda:us-east-1:123456789012:function:orders"
REQUEST = Request(request_id="r", arn=f"{ARN}:live", payload=b'{"x":1}')
EXPIRED = Outcome(condition="EventAgeExceeded", invoke_count=0, ended_ms=1_700_000_000_000)
FAILED = Outcome(
    condition="RetriesExhausted",
    invoke_count=3,
    ended_ms=1_700_000_000_123,
    executed_version="7",
    is_error=True,
    response='{"errorMessage":"no"}',
)


def test_an_event_that_never_ran_has_no_response() -> None:
    record = json.loads(record_json(REQUEST, EXPIRED))
    assert record == {
        "version": "1.0",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "requestContext": {
            "requestId": "r",
            "functionArn": f"{ARN}:live",
            "condition": "EventAgeExceeded",
            "approximateInvokeCount": 0,
        },
        "requestPayload": {"x": 1},
    }
    assert dead_letter_attributes(REQUEST, EXPIRED)["ErrorCode"]["StringValue"] == "429"


def test_a_record_that_is_too_large_goes_without_payloads() -> None:
    whole, cut = (
        json.loads(record_json(REQUEST, FAILED)),
        json.loads(record_json(REQUEST, FAILED, bytes_max=100)),
    )
    assert whole["responsePayload"] == {"errorMessage": "no"}
    assert cut == {name: value for name, value in whole.items() if not name.endswith("Payload")}


@pytest.mark.parametrize("levels", [255, 1024, 5000])
def test_payloads_that_nest_deep_are_in_the_record_as_they_came(levels: int) -> None:
    deep = "[" * levels + "]" * levels
    request = Request(request_id="r", arn=ARN, payload=deep.encode())
    outcome = Outcome(condition="Success", invoke_count=1, ended_ms=0, executed_version="1", response=deep)
    text = record_json(request, outcome)
    assert text.count(deep) == 2
    large = Request(request_id="r", arn=ARN, payload=b"[123456789012345678901]")
    assert '"requestPayload":[123456789012345678901]' in record_json(large, EXPIRED)


def test_an_error_message_is_cut_at_one_kilobyte_of_whole_characters() -> None:
    long = Outcome(
        condition="RetriesExhausted",
        invoke_count=1,
        ended_ms=0,
        executed_version="1",
        is_error=True,
        response=json.dumps({"errorMessage": "é" * 1000}),
    )
    assert dead_letter_attributes(REQUEST, long)["ErrorMessage"]["StringValue"] == "é" * 512


def test_an_object_is_named_by_function_and_time() -> None:
    assert object_key(REQUEST, FAILED).startswith("aws/lambda/async/orders/2023/11/14/2023-11-14T22.13.20-")


@pytest.mark.parametrize(
    ("arn", "service"),
    [(ARN, "lambda"), ("arn:aws:s3:::bucket", "s3"), ("orders", ""), ("arn:aws:sqs:us-east-1:1:", "")],
)
def test_the_service_of_an_arn(arn: str, service: str) -> None:
    assert service_of(arn) == service
