"""The quick signature is botocore's signature."""

from __future__ import annotations

import datetime as dt
from typing import Any

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from tidemill_poller.invoke.signing import Endpoint, Signer

ARN = "arn:aws:lambda:eu-central-1:123456789012:function:orders"
NOW = dt.datetime(2026, 11, 21, 10, 0, 1, tzinfo=dt.UTC)


def botocore_signature(
    url: str,
    payload: bytes,
    headers: dict[str, str],
    credentials: ReadOnlyCredentials,
    now: dt.datetime,
) -> str:
    """What SigV4Auth writes for a request with these headers; X-Amz-* ones are its own work."""
    sent = {k: v for k, v in headers.items() if not k.startswith(("X-Amz", "Authorization", "Accept-"))}
    request = AWSRequest(method="POST", url=url, data=payload, headers=sent)
    original = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *_args, **_kwargs: now
    try:
        SigV4Auth(credentials, "lambda", "eu-central-1").add_auth(request)
    finally:
        botocore.auth.get_current_datetime = original
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJ=="])
@pytest.mark.parametrize("arn", [ARN, f"{ARN}:live", f"{ARN}:$LATEST", "orders", "ü öö"])
@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:4582",
        "https://lambda.eu-central-1.amazonaws.com",
        "http://localhost:80/base/",
        "https://host:8443",
        "http://[::1]:4582",
    ],
)
@pytest.mark.parametrize("payload", [b"", b'{"records": {}}', b"\x00\xff" * 10_000])
def test_it_signs_as_botocore_does(endpoint: str, arn: str, token: str | None, payload: bytes) -> None:
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    signer = Signer(Endpoint(url=endpoint, region="eu-central-1", ca_bundle=None))
    url, headers = signer.sign(arn, payload, credentials, NOW.timestamp())
    assert headers["Authorization"] == botocore_signature(str(url), payload, headers, credentials, NOW)
    assert headers.get("X-Amz-Security-Token") == token


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    qualifier=st.text(st.sampled_from("azAZ09-_$"), min_size=1, max_size=20),
    payload=st.binary(max_size=200),
    seconds=st.integers(min_value=1_600_000_000, max_value=2_000_000_000),
)
def test_it_signs_as_botocore_does_at_any_time_with_any_secret(
    secret: str, qualifier: str, payload: bytes, seconds: int
) -> None:
    credentials = ReadOnlyCredentials("AK", secret, None)
    now = dt.datetime.fromtimestamp(seconds, dt.UTC)
    signer = Signer(Endpoint(url="http://127.0.0.1:1", region="eu-central-1", ca_bundle=None))
    url, headers = signer.sign(f"{ARN}:{qualifier}", payload, credentials, seconds)
    assert headers["Authorization"] == botocore_signature(str(url), payload, headers, credentials, now)


def test_the_signing_key_follows_the_day_and_the_secret() -> None:
    signer = Signer(Endpoint(url="http://127.0.0.1:1", region="eu-central-1", ca_bundle=None))
    for secret in ("one", "two", "one"):
        for day in (0, 1, 0):
            now = NOW + dt.timedelta(days=day)
            credentials = ReadOnlyCredentials("AK", secret, None)
            url, headers = signer.sign(ARN, b"", credentials, now.timestamp())
            assert headers["Authorization"] == botocore_signature(str(url), b"", headers, credentials, now)


def test_the_table_of_targets_stays_bounded(monkeypatch: Any) -> None:
    signer = Signer(Endpoint(url="http://127.0.0.1:1", region="eu-central-1", ca_bundle=None))
    monkeypatch.setattr("tidemill_poller.invoke.signing._TARGETS_MAX", 3)
    credentials = ReadOnlyCredentials("AK", "secret", None)
    for number in range(20):
        signer.sign(f"{ARN}-{number}", b"", credentials, 0)
        assert len(signer._targets) <= 3
