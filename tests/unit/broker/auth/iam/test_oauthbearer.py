"""OAUTHBEARER takes the frame and the URL that AWS's signers write, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fakes.iam_door import NOW_MS, Door, open_door
from tests.oracles.iam_tokens import TEMPORARY, frame, msk_host, signer, url_of, url_token
from tidemill_broker.auth.mechanism import AuthenticationFailed


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return open_door(tmp_path)


URL = url_of(signer(TEMPORARY, at_ms=NOW_MS, host=msk_host()))
ORIGIN, _, QUERY = URL.partition("?")


@pytest.mark.parametrize(
    "url",
    [
        URL,
        URL + "&User-Agent=aws-msk-iam-sasl-signer-go%2F1.0.4+go1.22+%2A",
        f"{ORIGIN}?User-Agent=x&{QUERY}",
        f"{ORIGIN}?{'&'.join(reversed(QUERY.split('&')))}",
        f"{ORIGIN}?{'&'.join(sorted(QUERY.split('&')))}",
        f"{ORIGIN[:-1]}?{QUERY}",  # Java's has no path
        URL.replace("%2F", "%2f"),
        URL.replace("Action=kafka-cluster%3AConnect", "Action=kafka-cluster:Connect"),
    ],
)
def test_a_url_says_the_same_in_any_order_and_spelling(door: Door, url: str) -> None:
    assert door.session(frame(url)).access_key_id == TEMPORARY.access_key_id


@pytest.mark.parametrize(
    "url",
    [
        "",
        ORIGIN,
        QUERY,
        URL.replace("https", "http"),
        URL.replace("https", "kafka"),
        URL.replace(ORIGIN, "https://localhost/"),
        URL.replace(ORIGIN, "https://kafka.eu-west-1.amazonaws.com.evil.example/"),
        URL.replace(ORIGIN, "https://user@kafka.eu-west-1.amazonaws.com/"),
        URL.replace(ORIGIN, "https://kafka.eu-west-1.amazonaws.com:443/"),
        URL.replace(ORIGIN, "https://KAFKA.eu-west-1.amazonaws.com/"),
        URL.replace(ORIGIN, ORIGIN + "path"),
        URL + "#fragment",
        URL + "\n",
        URL + " ",
        URL + "&",
        URL + "&Extra=1",
        URL + "&Action=kafka-cluster%3AConnect",
        URL + "&X-Amz-Expires=900",
        URL + "&%41ction=kafka-cluster%3AConnect",
        URL + "&User-Agent=a&User-Agent=b",
        URL + "&x-amz-date=20251121T154640Z",
        URL + "&User-Agent=%",
        URL + "&User-Agent=%f",
        URL + "&User-Agent=%ff",
        URL + "&a" * 5000,
        URL.replace("%2B", "+").replace("kafka-cluster%3A", "kafka-cluster%3a%20"),
        URL.replace("%2B", "%20"),
        URL.replace("%2B", "%252B"),
        URL.replace("Signature=", "Signature=0"),
        re.sub("Signature=.*", "Signature=", URL),
        re.sub("&X-Amz-Signature=.*", "", URL),
        re.sub("Signature=.*", lambda found: found[0].upper(), URL),
        *(re.sub(f"&?{name}=[^&]*", "", URL) for name in re.findall("[A-Z][A-Za-z-]+(?==)", URL)),
        *(URL.replace(f"{name}=", f"{name.lower()}=") for name in re.findall("[A-Z][A-Za-z-]+(?==)", URL)),
        *(URL.replace(f"{name}=", f"{name}=0") for name in re.findall("[A-Z][A-Za-z-]+(?==)", URL)),
    ],
)
def test_a_url_that_differs_lets_nobody_in(door: Door, url: str) -> None:
    door.rejects(frame(url))


def test_a_url_for_another_region_lets_nobody_in_though_its_host_fits(door: Door) -> None:
    assert "region us-east-1" in door.rejects(url_token(at_ms=NOW_MS, region="us-east-1")).reason


GOOD = frame(URL)
BEARER = GOOD.removeprefix(b"n,,\x01auth=Bearer ").removesuffix(b"\x01\x01")


@pytest.mark.parametrize(
    "token",
    [
        GOOD,
        frame(URL, extensions="logicalCluster=lkc-1\x01traceId=a b\x01"),
        GOOD.replace(b"Bearer", b"bearer"),
        GOOD.replace(b"Bearer ", b"BEARER   "),
        GOOD.replace(b"n,,", b"n,a=,"),
        b"n,,\x01auth=Bearer " + BEARER + b"=" * (-len(BEARER) % 4) + b"\x01\x01",
        b"n,,\x01x=1\x01auth=Bearer " + BEARER + b"\x01\x01",
    ],
)
def test_a_frame_may_have_what_rfc_7628_allows(door: Door, token: bytes) -> None:
    assert door.session(token)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01",
        b"n,,\x01\x01",
        GOOD.replace(b"n,,", b"y,,"),
        GOOD.replace(b"n,,", b"p=tls-unique,,"),
        GOOD.replace(b"n,,", b"n,a=root,"),
        GOOD.replace(b"n,,", b"n,,,"),
        GOOD.replace(b"n,,", b""),
        GOOD + b"\x01",
        GOOD + GOOD,
        GOOD[:-1],
        GOOD.replace(b"auth=", b"Auth="),
        GOOD.replace(b"auth=", b"auth ="),
        GOOD.replace(b"Bearer ", b"Basic "),
        GOOD.replace(b"Bearer ", b"Bearer"),
        GOOD.replace(b"Bearer ", b""),
        GOOD[:-1] + b"auth=Bearer " + BEARER + b"\x01\x01",
        GOOD[:-1] + b"auth=Bearer x\x01\x01",
        b"n,,\x01auth=Bearer x\x01auth=Bearer " + BEARER + b"\x01\x01",
        GOOD[:-1] + b"k3y=1\x01\x01",
        GOOD[:-1] + b"key=\x01\x01",
        GOOD[:-1] + b"key=\xff\x01\x01",
        GOOD.replace(BEARER, BEARER + b"A"),
        GOOD.replace(BEARER, BEARER + b"==="),
        GOOD.replace(BEARER, BEARER.replace(b"_", b"/")[:40] + b"+"),
        GOOD.replace(BEARER, b"A"),
        GOOD.replace(BEARER, b"gIGC"),
        b"n,,\x01" + b"\x01" * 16_000,
        frame(URL + "&User-Agent=" + "a" * 20_000),
    ],
)
def test_a_frame_that_differs_lets_nobody_in(door: Door, token: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        door.mechanism("OAUTHBEARER").begin().respond(token)
