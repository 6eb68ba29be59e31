"""Calls of IAM and STS on the embedded AWS while its keys open Kafka."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlencode

import pytest

from tidemill_local.aws.iam_calls import around_iam

SIGNED = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"
)

FORBIDDEN = "Action=AssumeRole&RoleArn=a&PolicyArns.member.1.arn=arn"


class Aws:
    """A WSGI application that reads its body, and the story of what happened."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.story.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
        start_response("200 OK", [])
        return [b"answer"]


def call(aws: Aws, service: str | None = "sts", **parameters: str) -> tuple[str, str]:
    """The status and body of one call."""
    body = urlencode(parameters).encode()
    statuses: list[str] = []
    environ = {
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": SIGNED.format(service) if service else "",
        "wsgi.input": io.BytesIO(body),
    }
    application = around_iam(aws, lambda: aws.story.append("exported"), read_after_s=0)
    chunks = application(environ, lambda status, _headers: statuses.append(status))  # type: ignore[arg-type]  # of the protocol's callable only the call is used
    return statuses[0], b"".join(chunks).decode()


@pytest.mark.parametrize("action", ["AssumeRole", "CreateAccessKey", "AssumeRoleWithWebIdentity"])
def test_a_key_is_told_before_its_reply_is_sent(action: str) -> None:
    """Who has the key comes in at once; AWS still gets the whole body."""
    aws = Aws()
    assert call(aws, None if "Web" in action else "sts", Action=action, RoleArn="a") == ("200 OK", "answer")
    assert aws.story == [f"Action={action}&RoleArn=a", "exported"]


@pytest.mark.parametrize(
    ("action", "parameter"),
    [
        ("AssumeRole", "PolicyArns.member.1.arn"),
        ("AssumeRole", "Tags.member.1.Key"),
        ("AssumeRoleWithSAML", "Policy"),
        ("CreateUser", "PermissionsBoundary"),
        ("PutUserPermissionsBoundary", "PermissionsBoundary"),
    ],
)
def test_a_limit_that_moto_ignores_is_rejected(action: str, parameter: str) -> None:
    """Else the key could do more in Kafka than on AWS."""
    aws = Aws()
    status, body = call(aws, Action=action, **{parameter: "arn:aws:iam::aws:policy/ReadOnly"})
    assert status == "403 Forbidden"
    assert f"of {action}" in body
    assert aws.story == []


def test_other_services_and_other_calls_pass_untouched() -> None:
    aws = Aws()
    call(aws, "sqs", Action="CreateUser", PermissionsBoundary="x")
    call(aws, "iam", Action="ListUsers")
    assert aws.story == ["Action=CreateUser&PermissionsBoundary=x", "Action=ListUsers"]


@pytest.mark.parametrize(
    ("body", "differences", "status"),
    [
        (FORBIDDEN, {}, "403 Forbidden"),
        ("", {"QUERY_STRING": FORBIDDEN}, "403 Forbidden"),
        ("", {"QUERY_STRING": FORBIDDEN, "HTTP_AUTHORIZATION": ""}, "403 Forbidden"),
        (FORBIDDEN, {"CONTENT_TYPE": "text/plain"}, "403 Forbidden"),
        (FORBIDDEN, {"CONTENT_TYPE": "Application/X-WWW-Form-Urlencoded"}, "403 Forbidden"),
        (FORBIDDEN + "&x=" + "x" * 5_000_000, {}, "413 Request Entity Too Large"),
    ],
    ids=["form", "query", "unsigned query", "another type", "capitals", "hidden behind 5 MB"],
)
def test_a_limit_that_moto_ignores_is_seen_wherever_moto_reads_it(
    body: str, differences: dict[str, str], status: str
) -> None:
    """Else the key could do more in Kafka than its caller said."""
    aws, statuses = Aws(), []
    environ = {
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": SIGNED.format("sts"),
        "wsgi.input": io.BytesIO(body.encode()),
        **differences,
    }
    answer = around_iam(aws, lambda: None, read_after_s=0)
    b"".join(answer(environ, lambda status, _headers: statuses.append(status)))  # type: ignore[arg-type]  # as above
    assert statuses == [status]
    assert aws.story == []
