"""Every reply of the Invoke API becomes one outcome."""

from __future__ import annotations

import orjson
import pytest
from multidict import CIMultiDict

from tidemill_poller.invoke.replies import REQUEST_TOO_LARGE, read_reply
from tidemill_poller.invoke.signing import split_qualifier
from tidemill_poller.retry import Delivered, FunctionError, Throttled, Unreachable

FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:orders"


def headers(**given: str) -> CIMultiDict[str]:
    return CIMultiDict({name.replace("_", "-"): value for name, value in given.items()})


def test_a_reply_without_function_error_is_delivered_with_its_body() -> None:
    outcome = read_reply(200, headers(x_amz_executed_version="7", X_AMZN_REQUESTID="r-1"), b'{"batch')
    assert outcome == Delivered(status_code=200, executed_version="7", request_id="r-1", body=b'{"batch')


def test_a_plain_http_server_that_sends_no_aws_headers_delivers() -> None:
    outcome = read_reply(204, headers(), b"")
    assert outcome == Delivered(status_code=204, executed_version="$LATEST", request_id="", body=b"")


def test_a_raised_exception_is_a_function_error_with_type_and_message() -> None:
    body = b'{"errorMessage": "no departure time", "errorType": "ValueError", "stackTrace": []}'
    outcome = read_reply(200, headers(X_Amz_Function_Error="Unhandled", x_amzn_RequestId="r-2"), body)
    assert outcome == FunctionError(
        status_code=200,
        executed_version="$LATEST",
        request_id="r-2",
        function_error="Unhandled",
        error_type="ValueError",
        message="no departure time",
    )


@pytest.mark.parametrize(
    ("body", "error_type", "message"),
    [
        (b"Task timed out after 2.00 seconds", "Unknown", "Task timed out after 2.00 seconds"),
        (b'{"errorType": "Sandbox.Timedout"}', "Sandbox.Timedout", ""),
        (b'{"errorMessage": "2024 Task timed out"}', "Unknown", "2024 Task timed out"),
        (b'["not", "an", "object"]', "Unknown", '["not", "an", "object"]'),
        (b'{"errorMessage": {"code": 4}, "errorType": 4}', "4", "{'code': 4}"),
        (b"", "Unknown", ""),
        (b"\xff\xfe", "Unknown", "\ufffd\ufffd"),
    ],
)
def test_an_error_payload_of_any_shape_is_still_a_function_error(
    body: bytes, error_type: str, message: str
) -> None:
    outcome = read_reply(200, headers(X_Amz_Function_Error="Unhandled"), body)
    assert isinstance(outcome, FunctionError)
    assert (outcome.error_type, outcome.message) == (error_type, message)


def test_a_long_error_message_is_cut() -> None:
    body = b'{"errorMessage": "' + b"x" * 100_000 + b'", "errorType": "E"}'
    outcome = read_reply(200, headers(X_Amz_Function_Error="Unhandled"), body)
    assert isinstance(outcome, FunctionError)
    assert len(outcome.message) == 1000


def test_429_is_throttled_with_the_reason_and_the_wait_that_lambda_names() -> None:
    body = b'{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","message":"Rate Exceeded."}'
    outcome = read_reply(429, headers(Retry_After="3", x_amzn_ErrorType="TooManyRequestsException"), body)
    assert outcome == Throttled(
        request_id="", reason="ReservedFunctionConcurrentInvocationLimitExceeded", retry_after_s=3.0
    )


@pytest.mark.parametrize("wait", ["Fri, 31 Dec 1999 23:59:59 GMT", "-1", "nan", "inf", ""])
def test_a_retry_after_that_is_no_number_of_seconds_is_passed_over(wait: str) -> None:
    outcome = read_reply(429, headers(Retry_After=wait), b"")
    assert outcome == Throttled(request_id="", reason="Rate exceeded", retry_after_s=None)


@pytest.mark.parametrize(
    ("status", "error_type", "body", "reason"),
    [
        (
            404,
            "ResourceNotFoundException",
            b'{"Type":"User","Message":"Function not found: arn"}',
            "Invoke answered 404 ResourceNotFoundException: Function not found: arn",
        ),
        (
            403,
            "AccessDeniedException",
            b'{"Message":"User: x is not authorized"}',
            "Invoke answered 403 AccessDeniedException: User: x is not authorized",
        ),
        (
            500,
            "ServiceException:http://internal.amazon.com/coral/",
            b'{"message":null}',
            'Invoke answered 500 ServiceException: {"message":null}',
        ),
        (503, "", b"<html>down</html>", "Invoke answered 503: <html>down</html>"),
        (502, "", b"", "Invoke answered 502: no message"),
        (302, "", b"", "Invoke answered 302: no message"),
    ],
)
def test_other_answers_mean_that_the_function_was_not_reached(
    status: int, error_type: str, body: bytes, reason: str
) -> None:
    outcome = read_reply(status, headers(x_amzn_ErrorType=error_type), body)
    expected = error_type.partition(":")[0] or f"HTTP{status}"
    assert outcome == Unreachable(reason=reason, error_type=expected)


def test_the_error_code_is_found_in_the_body_too() -> None:
    outcome = read_reply(400, headers(), b'{"__type": "com.amazonaws#UnknownOperation", "message": "what?"}')
    assert outcome == Unreachable(
        reason="Invoke answered 400 UnknownOperation: what?", error_type="UnknownOperation"
    )


@pytest.mark.parametrize("code", ["RequestTooLargeException", "RequestEntityTooLargeException", ""])
def test_a_payload_over_the_limit_has_one_error_type_whoever_rejects_it(code: str) -> None:
    outcome = read_reply(413, headers(x_amzn_ErrorType=code), b"too big")
    assert isinstance(outcome, Unreachable)
    assert outcome.error_type == REQUEST_TOO_LARGE


@pytest.mark.parametrize(
    ("given", "name", "qualifier"),
    [
        (FUNCTION_ARN, FUNCTION_ARN, None),
        (f"{FUNCTION_ARN}:live", FUNCTION_ARN, "live"),
        (f"{FUNCTION_ARN}:$LATEST", FUNCTION_ARN, "$LATEST"),
        ("orders", "orders", None),
    ],
)
def test_a_qualified_arn_is_split_for_the_qualifier_parameter(
    given: str, name: str, qualifier: str | None
) -> None:
    assert split_qualifier(given) == (name, qualifier)


def test_a_function_error_says_where_the_users_code_failed() -> None:
    document = {
        "errorType": "KeyError",
        "errorMessage": "'order'",
        "stackTrace": ['  File "/var/task/app.py", line 9, in handler\n    event["order"]\n'],
    }
    headers = {"X-Amz-Function-Error": "Unhandled"}
    outcome = read_reply(200, headers, orjson.dumps(document))
    assert isinstance(outcome, FunctionError)
    assert (outcome.error_type, outcome.message) == ("KeyError", "'order' (app.py:9 in handler)")
