"""Owns which documents moto gets to read: valid ones, of bounded depth and number of values.

moto reads a document of any depth by recursion and fails; AWS answers 400. Pure; called in a thread. Objects
of S3 and other blobs are not looked into.
"""

import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl
from xml.parsers import expat

from tidemill_awsapi import credential_scope
from tidemill_local.aws_errors import AwsError

# DynamoDB's BatchWriteItem takes 16 MB, the most of moto's JSON services that AWS documents.
DOCUMENT_BYTES_MAX: Final = 16 * 1024 * 1024
# DynamoDB's items nest 32 deep. Python's recursion ends at 1,000 calls, and moto makes several for a level.
DEPTH_MAX: Final = 64
VALUES_MAX: Final = 100_000
# Query services flatten lists into fields; the longest, of EC2, have a thousand members.
FIELDS_MAX: Final = 10_000
# CompleteMultipartUpload names 10,000 parts with up to eight elements each.
ELEMENTS_MAX: Final = 100_000
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]|,', re.DOTALL)
_OBJECT_PARAMETERS: Final = frozenset({"partNumber", "uploadId", "versionId", "x-id"})


def rejection(method: str, query_string: str, headers: Mapping[str, str], body: bytes) -> AwsError | None:
    """Return the error that answers this request, None if moto may read it."""
    scope = credential_scope(headers, query_string)
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if "X-Amz-Target" in headers or content_type.startswith("application/x-amz-json"):
        return _of_size(body) or _of_json(body)
    if scope is not None and scope.service == "s3":
        return _of_size(body) or _of_xml(body) if _is_s3_document(method, query_string) and body else None
    if scope is not None and content_type == "application/json":
        return _of_size(body) or _of_json(body)
    if content_type == "application/x-www-form-urlencoded" or (scope is not None and not content_type):
        return _of_size(body) or _of_form(body)
    return None


def _of_size(body: bytes) -> AwsError | None:
    if len(body) <= DOCUMENT_BYTES_MAX:
        return None
    return AwsError(
        status=413,
        code="RequestEntityTooLargeException",
        xml_code="RequestEntityTooLarge",
        message=f"Request must be smaller than {DOCUMENT_BYTES_MAX} bytes",
    )


def _of_json(body: bytes) -> AwsError | None:
    if not body:
        return None
    fault = _json_fault(body)
    if fault is None:
        return None
    return AwsError(status=400, code="SerializationException", xml_code="MalformedInput", message=fault)


def _json_fault(body: bytes) -> str | None:
    openings = body.count(b"[") + body.count(b"{")
    if openings > DEPTH_MAX or openings + body.count(b",") > VALUES_MAX:
        depth = values = 0
        for match in _TOKENS.finditer(body):
            token = body[match.start()]
            values += token in b"[{,"
            depth += (token in b"[{") - (token in b"]}")
            if depth > DEPTH_MAX:
                return f"The document nests more than {DEPTH_MAX} deep."
            if values > VALUES_MAX:
                return f"The document has more than {VALUES_MAX} values."
    try:
        json.loads(body)
    except ValueError:
        return "The document is not valid JSON."
    return None


def _of_form(body: bytes) -> AwsError | None:
    if body.count(b"&") < FIELDS_MAX:
        return None
    message = f"The request has more than {FIELDS_MAX} fields."
    return AwsError(status=400, code="MalformedInputException", xml_code="MalformedInput", message=message)


def _is_s3_document(method: str, query_string: str) -> bool:
    """Return whether the body is one of S3's own documents, and not an object's bytes."""
    names = {
        name for name, _ in parse_qsl(query_string, keep_blank_values=True) if not name.startswith("X-Amz-")
    }
    return method in {"POST", "PUT"} and (method == "POST" or not names <= _OBJECT_PARAMETERS)


def _of_xml(body: bytes) -> AwsError | None:
    if body.count(b"<") > 2 * ELEMENTS_MAX or not _is_shallow_xml(body):
        message = "The XML you provided was not well-formed or did not validate against our published schema"
        return AwsError(status=400, code="MalformedXML", xml_code="MalformedXML", message=message)
    return None


def _is_shallow_xml(body: bytes) -> bool:
    parser = expat.ParserCreate()
    opened: list[str] = []

    def open_element(name: str, _attributes: dict[str, str]) -> None:
        opened.append(name)
        if len(opened) > DEPTH_MAX:
            raise _TooDeep

    parser.StartElementHandler = open_element
    parser.EndElementHandler = lambda _name: opened.pop()
    try:
        parser.Parse(body, True)  # noqa: FBT003 - expat's own signature
    except (expat.ExpatError, _TooDeep):
        return False
    return True


class _TooDeep(Exception):
    pass
