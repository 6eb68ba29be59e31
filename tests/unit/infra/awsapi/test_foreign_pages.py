"""Which requests are a web page's from elsewhere, on the servers of ours and in front of moto."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

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
    "host",
    [
        "evil.example",
        "evil.example.:4580",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[x",
        "x.local",
        "x.local:4580",
        "router.home.arpa",
        "x.internal",
        "docker.internal.evil.example",
        "evil@localhost",
        "localhost,evil.example",
        "127.0.0.1:4580.evil.example",
        "localhost:4580\n",
        "[127.0.0.1.evil]",
    ],
)
def test_a_name_of_the_public_dns_may_not_call_over_loopback(host: str) -> None:
    """A server that listens on the network on purpose may be called by its name there."""
    assert is_public_name(host)
    assert is_foreign(None, None, host, on_loopback=True)
    assert not is_foreign(None, None, host, on_loopback=False)


LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "console.localhost")
PORTS = st.one_of(st.just(""), st.integers(0, 65535).map(lambda port: f":{port}"))


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:4580.evil.example",
        "http://localhost:4580@evil.example",
        "http://evil.example/http://localhost",
        "http://localhost/",
        "http://localhost,http://localhost",
        "https://evil.example,http://localhost:4580",
        "http://localhost https://evil.example",
        "HTTP://LOCALHOST.evil.example",
        "ftp://localhost",
        "chrome-extension://localhost",
        "//localhost",
        "http://localho\u017ft",
        "null",
        "",
    ],
)
def test_an_origin_is_matched_whole(origin: str) -> None:
    assert is_foreign(origin, None, "127.0.0.1:4580", on_loopback=True)


@given(name=st.sampled_from(LOCAL_NAMES), port=PORTS, scheme=st.sampled_from(("http://", "https://")))
def test_a_page_of_any_port_of_this_machine_may_call(name: str, port: str, scheme: str) -> None:
    assert not is_foreign(scheme + name + port, "same-site", "localhost:4580", on_loopback=True)
    assert not is_foreign(scheme + name + port, "cross-site", "127.0.0.1:4580", on_loopback=True)


@given(
    name=st.sampled_from(LOCAL_NAMES),
    port=PORTS,
    added=st.text(st.characters(exclude_categories=("Nd", "Cs")), min_size=1),
)
def test_whatever_follows_an_origin_makes_it_foreign(name: str, port: str, added: str) -> None:
    """Digits apart, which may be of a port, and a name below .localhost."""
    origin = f"http://{name}{port}{added}"
    assume(not origin.lower().endswith(".localhost"))
    assert is_foreign(origin, None, "localhost", on_loopback=True)


@given(site=st.text(max_size=20))
@example("Cross-Site")
@example("CROSS-SITE")
@example("cross-site,same-origin")
@example("")
def test_a_relation_that_fetch_metadata_does_not_know_is_foreign(site: str) -> None:
    assume(site not in {"same-origin", "same-site", "none"})
    assert is_foreign(None, site, "localhost", on_loopback=True)
    assert site == "cross-site" or is_foreign("http://localhost", site, "localhost", on_loopback=True)


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_text_ends_the_check(origin: str, site: str, host: str) -> None:
    assert is_foreign(origin, site, host, on_loopback=True) in {True, False}


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ({"HTTP_ORIGIN": "https://evil.example"}, "403 Forbidden"),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, "403 Forbidden"),
        ({"HTTP_SEC_FETCH_SITE": "Cross-Site"}, "403 Forbidden"),
        ({"HTTP_ORIGIN": "http://localhost:3000,https://evil.example"}, "403 Forbidden"),
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
