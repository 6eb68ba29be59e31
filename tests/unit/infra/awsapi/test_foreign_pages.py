"""Which requests are a web page's from elsewhere, on the servers of ours and in front of moto."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill_awsapi import is_foreign, is_public_name
from tidemill_local.aws.foreign_pages import refusing_foreign_pages


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:4580",
        "localhost",
        "[::1]:4580",
        "192.168.1.7:4580",
        "bucket.s3.localhost:4580",
        "tidemill:4580",
        "host.docker.internal:4580",
        "",
    ],
)
def test_an_address_or_a_name_that_is_not_in_the_public_dns_may_call(host: str) -> None:
    assert not is_foreign(None, None, host, on_loopback=True)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example.:4580", "localhost.evil.example", "127.0.0.1.evil.example", "[x"]
)
def test_a_name_of_the_public_dns_may_not_call_over_loopback(host: str) -> None:
    """A server that listens on the network on purpose may be called by its name there."""
    assert is_public_name(host)
    assert is_foreign(None, None, host, on_loopback=True)
    assert not is_foreign(None, None, host, on_loopback=False)


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ({"HTTP_ORIGIN": "https://evil.example"}, "403 Forbidden"),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, "403 Forbidden"),
        ({"HTTP_HOST": "evil.example:4580"}, "403 Forbidden"),
        ({"HTTP_ORIGIN": "http://localhost:3000"}, "200 OK"),
        ({}, "200 OK"),
    ],
)
def test_the_embedded_aws_answers_no_page_from_elsewhere(page: dict[str, str], status: str) -> None:
    """Moto allows every origin by CORS: whoever found its port could read queues and secrets."""
    statuses: list[str] = []

    def moto(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"secrets"]

    answer = refusing_foreign_pages(moto)
    environ = {"HTTP_HOST": "127.0.0.1:5000", **page}
    body = b"".join(answer(environ, lambda status, *_: statuses.append(status)))  # type: ignore[arg-type]  # all of WSGI that is used
    assert statuses == [status]
    assert body == (b"secrets" if status == "200 OK" else b"")
