"""What is sent when an Event invocation is done: Lambda's invocation record, or a dead-letter message. Pure.

The formats are those of "Retaining records of asynchronous invocations" in AWS's documentation.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

Kind = Literal["destination", "dead letter"]
SUCCESS: Final = "Success"
# "the first 1 KB of the error message"
_ERROR_MESSAGE_BYTES: Final = 1024
_OK, _THROTTLED = 200, 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One receiver of the result."""

    kind: Kind
    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an Event invocation ended."""

    condition: str  # Success, RetriesExhausted, EventAgeExceeded
    invoke_count: int
    ended_ms: int
    executed_version: str = ""  # "" if the function was never run
    is_error: bool = False
    response: str = ""  # the last attempt's payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was invoked."""

    request_id: str
    arn: str
    payload: bytes


def invocation_record(request: Request, outcome: Outcome) -> dict[str, Any]:
    """Return the record that goes to a destination."""
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": _time(outcome.ended_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": request.request_id,
            "functionArn": qualified(request.arn),
            "condition": outcome.condition,
            "approximateInvokeCount": outcome.invoke_count,
        },
        "requestPayload": _as_sent(request.payload),
    }
    if outcome.executed_version:
        context: dict[str, Any] = {"statusCode": _OK, "executedVersion": outcome.executed_version}
        if outcome.is_error:
            context["functionError"] = "Unhandled"
        record |= {"responseContext": context, "responsePayload": _as_sent(outcome.response)}
    return record


def dead_letter_attributes(request: Request, outcome: Outcome) -> dict[str, dict[str, str]]:
    """Return the attributes of a dead-letter message; its body is the event as it was sent."""
    message = _error_message(outcome).encode()[:_ERROR_MESSAGE_BYTES].decode(errors="ignore")
    return {
        "RequestID": {"DataType": "String", "StringValue": request.request_id},
        "ErrorCode": {
            "DataType": "Number",
            "StringValue": str(_OK if outcome.executed_version else _THROTTLED),
        },
        # Neither SQS nor SNS takes an empty value.
        "ErrorMessage": {"DataType": "String", "StringValue": message or outcome.condition},
    }


def object_key(request: Request, outcome: Outcome) -> str:
    """Return the name of the object that holds a record in S3."""
    time = _time(outcome.ended_ms)
    name = request.arn.split(":")[6]
    return f"aws/lambda/async/{name}/{time:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"


def qualified(arn: str) -> str:
    """Return the ARN of a function with its qualifier, $LATEST if it has none."""
    return arn if arn.count(":") > _COLONS_OF_A_NAME else f"{arn}:$LATEST"


_COLONS_OF_A_NAME: Final = 6


def _error_message(outcome: Outcome) -> str:
    if not outcome.executed_version:
        return outcome.condition
    document = _json(outcome.response)
    found = document.get("errorMessage") if isinstance(document, Mapping) else None
    return found if isinstance(found, str) else outcome.response


def _as_sent(payload: bytes | str) -> Any:
    """Return JSON as it came, for orjson nests 254 levels at most when it writes, and 1,024 when it reads."""
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return _json(payload)
    return orjson.Fragment(payload)


def _json(payload: bytes | str) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:  # a function may answer what is no JSON
        return payload if isinstance(payload, str) else payload.decode(errors="replace")


def _time(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)
