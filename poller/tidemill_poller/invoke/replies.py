"""Replies of the Lambda API: of Invoke as Outcomes, of GetFunctionConfiguration as revisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from tidemill_poller.invoke.frames import first_frame
from tidemill_poller.retry import Delivered, FunctionError, Outcome, Throttled, Unreachable

# Long enough to be useful in a status or a span, short enough for both.
MESSAGE_CHARS_MAX: Final = 1000

# Lambda's name for 413, which other servers in front of a function spell otherwise or not at all: the event
# is larger than the function's side takes, and retry.decide makes it smaller.
REQUEST_TOO_LARGE: Final = "RequestTooLargeException"


# An alias that is pointed elsewhere changes the version alone.
_REVISION_MEMBERS: Final = ("Version", "RevisionId", "CodeSha256", "LastModified")


def read_reply(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """One HTTP reply of the Invoke API as an Outcome. `headers` is case-insensitive."""
    request_id = headers.get("x-amzn-RequestId", "")
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's success class
        function_error = headers.get("X-Amz-Function-Error")
        version = headers.get("X-Amz-Executed-Version", "$LATEST")
        if function_error is None:
            return Delivered(status_code=status, executed_version=version, request_id=request_id, body=body)
        error_type, message = _function_error(body)
        return FunctionError(
            status_code=status,
            executed_version=version,
            request_id=request_id,
            function_error=function_error,
            error_type=error_type,
            message=message,
        )
    code, message, reason = _service_error(headers, body)
    if status == 429:  # noqa: PLR2004 - Too Many Requests
        return Throttled(
            request_id=request_id,
            reason=reason or message or code or "Rate exceeded",
            retry_after_s=_seconds(headers.get("Retry-After")),
        )
    if status == 413:  # noqa: PLR2004 - Content Too Large
        return Unreachable(
            reason=f"The event is too large for the function: {message}", error_type=REQUEST_TOO_LARGE
        )
    sentence = f"Invoke answered {status}{' ' + code if code else ''}: {message or 'no message'}"
    return Unreachable(reason=sentence, error_type=code or f"HTTP{status}")


def read_revision(status: int, body: bytes) -> str | None:
    """Return what a GetFunctionConfiguration reply says of the function's revision.

    None when it does not say, or an update is under way. A function that does not exist has a revision too:
    creating it is an update.
    """
    if status == 404:  # noqa: PLR2004 - Not Found
        return "absent"
    found = _json_object(body)
    if status != 200 or found.get("LastUpdateStatus") == "InProgress" or found.get("State") == "Pending":  # noqa: PLR2004 - OK
        return None
    return " ".join(str(found.get(name, "")) for name in _REVISION_MEMBERS)


def _function_error(body: bytes) -> tuple[str, str]:
    """Return errorType, and errorMessage with the first frame of the user's code.

    What is no error document is the message itself (RIE's timeouts).
    """
    parsed = _json_object(body)
    error_type, message = parsed.get("errorType"), parsed.get("errorMessage")
    if message is None and error_type is None:
        message = body[:MESSAGE_CHARS_MAX].decode(errors="replace")
    stack = parsed.get("stackTrace") or parsed.get("trace")
    where = first_frame(stack) if isinstance(stack, list) else ""
    said = str(message or "")[:MESSAGE_CHARS_MAX]
    return str(error_type or "Unknown"), f"{said} {where}" if where else said


def _service_error(headers: Mapping[str, str], body: bytes) -> tuple[str, str, str]:
    """(code, message, Reason) of an AWS error reply; text of any other server stands in for the message."""
    parsed = _json_object(body)
    # The header may carry a namespace after a colon, the body one before a hash.
    code = headers.get("x-amzn-ErrorType", "").partition(":")[0]
    code = code or str(parsed.get("__type") or parsed.get("code") or "").rpartition("#")[2]
    message = parsed.get("message") or parsed.get("Message")
    if message is None:
        message = body[:MESSAGE_CHARS_MAX].decode(errors="replace").strip()
    return code, str(message)[:MESSAGE_CHARS_MAX], str(parsed.get("Reason") or "")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not one that Lambda sends."""
    try:
        seconds = float(header) if header is not None else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def one_line(error: BaseException) -> str:
    """Return what an error says, or else its name, on one line."""
    return " ".join(str(error).split())[:MESSAGE_CHARS_MAX] or type(error).__name__
