"""Which documents moto gets to read, and how AWS rejects the others, protocol by protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill_local.aws.documents import (
    DEPTH_MAX,
    DOCUMENT_BYTES_MAX,
    ELEMENTS_MAX,
    FIELDS_MAX,
    VALUES_MAX,
    rejection,
)
from tidemill_local.aws_errors import reply_of


def signed(service: str, **more: str) -> Mapping[str, str]:
    scope = f"AKIA/20261201/us-east-1/{service}/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


JSON = signed("dynamodb", Content_Type="application/x-amz-json-1.0", X_Amz_Target="DynamoDB_20120810.PutItem")
UNSIGNED_JSON = {"X-Amz-Target": "AmazonSQS.SendMessage"}
REST_JSON = signed("apigateway", Content_Type="application/json; charset=utf-8")
FORM = signed("sns", Content_Type="application/x-www-form-urlencoded")
S3 = signed("s3")


@pytest.mark.parametrize("headers", [JSON, UNSIGNED_JSON, REST_JSON])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1),
        b'{"\\":[":' * 100,
        b"[" + b"0," * VALUES_MAX + b"0]",
        b"{" + b",".join(b'"%d":0' % number for number in range(VALUES_MAX + 1)) + b"}",
        b'{"a":',
        b"\xff",
        b"{}x",
    ],
    ids=["lists", "objects", "one too deep", "brackets in names", "values", "keys", "cut", "bytes", "more"],
)
def test_a_json_document_that_costs_too_much_is_a_serialization_exception(
    headers: Mapping[str, str], body: bytes
) -> None:
    error = rejection("POST", "", headers, body)
    assert error is not None
    assert (error.status, error.code) == (400, "SerializationException")
    reply = reply_of(error, headers, "", "id")
    assert json.loads(reply.body)["message"].startswith("The document ")
    assert reply.headers["x-amzn-ErrorType"] == "SerializationException"


@pytest.mark.parametrize("headers", [JSON, UNSIGNED_JSON, REST_JSON])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
        b"[" + b"[0]," * 30_000 + b"0]",
        json.dumps({"MessageBody": json.dumps([{"a": ["\\", '"']}] * 60_000)}).encode(),
        b'{"a":NaN,"b":"\\ud800"}',
    ],
    ids=["nothing", "empty", "as deep as may be", "wide", "JSON in a text", "what Python reads"],
)
def test_a_json_document_within_the_bounds_is_read(headers: Mapping[str, str], body: bytes) -> None:
    assert rejection("POST", "", headers, body) is None


_VALUES = st.recursive(
    st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(_VALUES)
@settings(max_examples=30, deadline=None)
def test_no_text_passes_for_structure(value: object) -> None:
    """Brackets, commas and quotes inside of texts are counted as text."""
    deep = {"text": '[{,"\\' * 100, "value": value}
    assert rejection("POST", "", JSON, json.dumps(deep).encode()) is None


def test_a_document_beyond_the_size_is_413_and_an_object_is_none() -> None:
    body = b" " * (DOCUMENT_BYTES_MAX + 1)
    for headers in (JSON, REST_JSON, FORM):
        assert getattr(rejection("POST", "", headers, body), "status", None) == 413
    assert rejection("PUT", "x-id=PutObject", S3, body) is None
    assert rejection("PUT", "partNumber=1&uploadId=x", S3, body) is None


def test_a_form_of_too_many_fields_is_malformed_input() -> None:
    body = b"Action=Publish" + b"&a=1" * FIELDS_MAX
    error = rejection("POST", "", FORM, body)
    assert error is not None
    reply = reply_of(error, FORM, "", "id")
    assert reply.status == 400
    assert b"<Type>Sender</Type><Code>MalformedInput</Code>" in reply.body
    assert rejection("POST", "", FORM, b"Action=Publish" + b"&a=1" * (FIELDS_MAX - 1)) is None


@pytest.mark.parametrize(
    ("method", "query"),
    [("POST", "delete"), ("POST", "uploadId=x"), ("PUT", "tagging"), ("PUT", "versionId=1&tagging=")],
)
@pytest.mark.parametrize(
    "body",
    [
        b"<a>" * 300_000,
        b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1),
        b"<a>" + b"<b></b>" * (ELEMENTS_MAX + 1) + b"</a>",
        b"<a>",
        b"no XML",
    ],
    ids=["deep", "one too deep", "wide", "cut", "none"],
)
def test_a_document_of_s3_that_costs_too_much_is_malformed_xml(method: str, query: str, body: bytes) -> None:
    error = rejection(method, query, S3, body)
    assert error is not None
    assert b"<Code>MalformedXML</Code>" in reply_of(error, S3, query, "id").body


def test_the_longest_documents_of_s3_are_read() -> None:
    part = b"<Part><PartNumber>1</PartNumber><ETag>e</ETag><ChecksumSHA256>c</ChecksumSHA256></Part>"
    body = b"<CompleteMultipartUpload>" + part * 10_000 + b"</CompleteMultipartUpload>"
    assert rejection("POST", "uploadId=x", S3, body) is None


@pytest.mark.parametrize("query", ["", "partNumber=1&uploadId=x", "x-id=PutObject", "X-Amz-Signature=0"])
def test_an_object_of_s3_is_not_looked_into(query: str) -> None:
    headers = {**S3, "Content-Type": "application/json"}
    assert rejection("PUT", query, headers, b"[" * 1_000_000) is None
