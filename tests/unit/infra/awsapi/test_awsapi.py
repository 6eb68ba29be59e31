"""Routing, constraints and the credential scope of tidemill_awsapi, straight from botocore's models."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import MultiDict

from tidemill_awsapi.errors import ApiError, render_error
from tidemill_awsapi.model import load_service
from tidemill_awsapi.parsing import InputParser, RequestParts
from tidemill_awsapi.routing import Router
from tidemill_awsapi.scope import CredentialScope, credential_scope
from tidemill_awsapi.server import Service
from tidemill_awsapi.validation import InputValidator, describe_violations

LAMBDA = Router(load_service("lambda"))
KAFKA = Router(load_service("kafka"))
CLUSTER = "arn:aws:kafka:us-east-1:123456789012:cluster/tidemill/x-1"
ENCODED = "arn%3Aaws%3Akafka%3Aus-east-1%3A123456789012%3Acluster%2Ftidemill%2Fx-1"


@pytest.mark.parametrize(
    ("router", "method", "path", "query", "operation", "labels"),
    [
        (LAMBDA, "GET", "/2015-03-31/functions/", {}, "ListFunctions", {}),
        (LAMBDA, "POST", "/2015-03-31/functions", {}, "CreateFunction", {}),
        (LAMBDA, "POST", "/2015-03-31/functions/f%3A1/invocations", {}, "Invoke", {"FunctionName": "f:1"}),
        (
            LAMBDA,
            "GET",
            "/2018-10-31/layers",
            {"find": "LayerVersion", "Arn": "x"},
            "GetLayerVersionByArn",
            {},
        ),
        (LAMBDA, "GET", "/2018-10-31/layers", {}, "ListLayers", {}),
        (KAFKA, "GET", f"/v1/clusters/{ENCODED}", {}, "DescribeCluster", {"clusterArn": CLUSTER}),
        (KAFKA, "GET", f"/v1/clusters/{CLUSTER}", {}, "DescribeCluster", {"clusterArn": CLUSTER}),
        (KAFKA, "GET", f"/v1/clusters/{CLUSTER}/nodes", {}, "ListNodes", {"clusterArn": CLUSTER}),
        (KAFKA, "GET", "/api/v2/clusters", {}, "ListClustersV2", {}),
    ],
)
def test_a_path_finds_its_operation(
    router: Router, method: str, path: str, query: dict[str, str], operation: str, labels: dict[str, str]
) -> None:
    """Encoded ARNs stay one label, required query items choose, a trailing slash is accepted."""
    assert router.match(method, path, query) == (operation, labels)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("PATCH", "/2015-03-31/functions"), ("GET", "/2015-03-31/functions//x/y/z")],
)
def test_an_unknown_path_finds_nothing(method: str, path: str) -> None:
    assert LAMBDA.match(method, path, {}) is None


def violations(operation: str, **params: Any) -> list[str]:
    return InputValidator(load_service("lambda").operations[operation].input_shape).violations(params)


def test_map_keys_and_values_are_validated_in_the_words_of_aws() -> None:
    """Tags: the sentence quotes the whole map, as Java prints it."""
    assert (
        violations("TagResource", Resource="arn:aws:lambda:us-east-1:123456789012:function:f", Tags={}) == []
    )
    [wrong] = violations(
        "TagResource", Resource="arn:aws:lambda:us-east-1:123456789012:function:f", Tags={"k" * 129: "v"}
    )
    assert wrong.startswith("Value '{" + "k" * 129 + "=v}' at 'tags' failed to satisfy constraint: Map keys")
    assert "[Member must have length less than or equal to 128" in wrong


def test_a_sensitive_value_is_never_quoted() -> None:
    """Environment variables may be secrets: the sentence about them shows none."""
    found = violations(
        "CreateFunction",
        FunctionName="f",
        Role="arn:aws:iam::123456789012:role/r",
        Code={},
        Environment={"Variables": {"1bad": "hunter2"}},
    )
    assert found
    assert "hunter2" not in describe_violations(found)


def test_unicode_letters_satisfy_javas_character_classes() -> None:
    r"""The models' \p{L} and its kin are Java's; Python's re has none of them."""
    resource = "arn:aws:lambda:us-east-1:123456789012:function:f"
    assert violations("TagResource", Resource=resource, Tags={"Größe": "sehr groß"}) == []


def test_a_code_that_the_model_lacks_is_spelt_like_its_siblings() -> None:
    reply = render_error(
        load_service("lambda"), ApiError("RequestEntityTooLargeException", "No.", status=413)
    )
    assert (reply.status, reply.body) == (413, b'{"message":"No.","Type":"User"}')
    reply = render_error(load_service("kafka"), ApiError("Odd", "No.", status=418))
    assert (reply.status, reply.body) == (418, b'{"message":"No."}')


@pytest.mark.parametrize(
    ("headers", "query", "scope"),
    [
        (
            {"Authorization": "AWS4-HMAC-SHA256 Credential=AK/1/eu-west-1/sqs/aws4_request, Signature=0"},
            "",
            CredentialScope(access_key_id="AK", region="eu-west-1", service="sqs"),
        ),
        (
            {},
            "a=b&X-Amz-Credential=AK%2F20261121%2Feu-west-1%2Fs3%2Faws4_request",
            CredentialScope(access_key_id="AK", region="eu-west-1", service="s3"),
        ),
        ({"Authorization": "Bearer x"}, "", None),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=AK/nonsense"}, "", None),
        ({}, "", None),
    ],
)
def test_the_credential_scope_is_read_and_never_trusted(
    headers: dict[str, str], query: str, scope: CredentialScope | None
) -> None:
    assert credential_scope(headers, query) == scope


def test_a_null_member_counts_as_absent() -> None:
    """JSON null is how some SDKs say nothing."""
    parser = InputParser(load_service("lambda").operations["CreateEventSourceMapping"].input_shape)
    parts = RequestParts(
        labels={}, query=MultiDict(), headers={}, body=b'{"FunctionName":"f","BatchSize":null,"New":1}'
    )
    assert parser.parse(parts) == {"FunctionName": "f"}


def test_a_handler_for_no_operation_is_rejected_at_once() -> None:
    async def handler(_call: object) -> dict[str, Any]:
        return {}

    with pytest.raises(ValueError, match="lambda has no operation Misspelt"):
        Service("lambda", {"Misspelt": handler}, region="us-east-1", account_id="123456789012")
