"""Owns AWS's error replies in the protocol of the service requested: rest-json, json 1.x, query XML, S3 XML.

Pure. SDKs retry a 503 in their own shape: a program that is being started again costs a pause, no error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidemill_awsapi import credential_scope

_SERVER_FAULT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsError:
    """What is said; ``message`` must not quote the request. XML protocols spell codes in their own way."""

    status: int
    code: str
    xml_code: str
    message: str
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply:
    """One error on the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def unavailable(message: str, *, retry_after_s: int | None = None) -> AwsError:
    """Return the error of a service that cannot answer now."""
    return AwsError(
        status=503,
        code="ServiceUnavailableException",
        xml_code="ServiceUnavailable",
        message=message,
        retry_after_s=retry_after_s,
    )


def reply_of(error: AwsError, headers: Mapping[str, str], query_string: str, request_id: str) -> ErrorReply:
    """Return the reply to a request with these headers and this query."""
    content_type = headers.get("Content-Type", "")
    scope = credential_scope(headers, query_string)
    is_ours = error.status >= _SERVER_FAULT
    if "X-Amz-Target" in headers or content_type.startswith("application/x-amz-json"):
        body = json.dumps({"__type": error.code, "message": error.message})
        reply_type = content_type or "application/x-amz-json-1.0"
    elif scope is not None and scope.service == "s3":
        reply_type = "application/xml"
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{error.xml_code}</Code><Message>{error.message}</Message>"
            f"<RequestId>{request_id}</RequestId></Error>"
        )
    elif content_type.startswith("application/x-www-form-urlencoded"):
        reply_type = "text/xml"
        body = (
            f"<ErrorResponse><Error><Type>{'Receiver' if is_ours else 'Sender'}</Type>"
            f"<Code>{error.xml_code}</Code><Message>{error.message}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    else:
        reply_type = "application/json"
        body = json.dumps({"Type": "Service" if is_ours else "User", "message": error.message})
    reply_headers = {
        "Content-Type": reply_type,
        "x-amzn-ErrorType": error.code,
        "x-amzn-RequestId": request_id,
    }
    if error.retry_after_s is not None:
        reply_headers["Retry-After"] = str(error.retry_after_s)
    return ErrorReply(status=error.status, headers=reply_headers, body=body.encode())
