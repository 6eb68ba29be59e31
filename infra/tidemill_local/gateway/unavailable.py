"""Owns AWS's 503 in the protocol of the service requested: rest-json, json 1.x, query XML, S3 XML. Pure.

SDKs retry a 503 in their own shape: a program that is being started again costs a pause, no error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tidemill_awsapi import credential_scope

_STATUS = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """One 503 reply."""

    headers: Mapping[str, str]
    body: bytes
    status: int = _STATUS


def unavailable(message: str, headers: Mapping[str, str], query_string: str, request_id: str) -> Unavailable:
    """The reply for a service that does not answer; ``message`` must not quote the request."""
    content_type = headers.get("Content-Type", "")
    scope = credential_scope(headers, query_string)
    if "X-Amz-Target" in headers or content_type.startswith("application/x-amz-json"):
        body = json.dumps({"__type": "ServiceUnavailableException", "message": message})
        reply_type = content_type or "application/x-amz-json-1.0"
    elif scope is not None and scope.service == "s3":
        reply_type = "application/xml"
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>ServiceUnavailable</Code><Message>{message}</Message>"
            f"<RequestId>{request_id}</RequestId></Error>"
        )
    elif content_type.startswith("application/x-www-form-urlencoded"):
        reply_type = "text/xml"
        body = (
            f"<ErrorResponse><Error><Type>Receiver</Type><Code>ServiceUnavailable</Code>"
            f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    else:
        reply_type = "application/json"
        body = json.dumps({"Type": "Service", "message": message})
    reply_headers = {
        "Content-Type": reply_type,
        "x-amzn-ErrorType": "ServiceUnavailableException",
        "x-amzn-RequestId": request_id,
    }
    return Unavailable(headers=reply_headers, body=body.encode())
