"""AWS_MSK_IAM takes the one object that AWS's clients write, for a host of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.iam_door import Door, make_json, open_door
from tests.oracles.iam_tokens import TEMPORARY, fields_of
from tidemill_broker.auth.mechanism import AuthenticationFailed


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return open_door(tmp_path)


def edited(**changes: Any) -> bytes:
    """A temporary key's object with other values under these keys (`_` for `-`); None takes a key away."""
    fields = fields_of(make_json(TEMPORARY))
    for name, value in changes.items():
        fields[name.replace("_", "-")] = value
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


@pytest.mark.parametrize("key", sorted(set(fields_of(make_json(TEMPORARY))) - {"user-agent"}))
def test_an_object_lets_nobody_in_once_a_value_is_changed_or_gone(door: Door, key: str) -> None:
    value = fields_of(make_json(TEMPORARY))[key]
    assert door.session(edited(**{key: value}))
    others = [None, "", value + "0", value[:-1], value.upper(), value.lower(), value.swapcase(), value + "\n"]
    others += [
        f" {value}",
        value[1:],
        value * 200,
        f"{value}\0",
        "\ud800",
        "\x1f",
        0,
        True,
        [value],
        {"": value},
    ]
    for other in others:
        if other != value:
            door.rejects(edited(**{key: other}))


def test_the_user_agent_is_free_text(door: Door) -> None:
    assert door.session(edited(user_agent="aws-msk-iam-auth/2.3.6/ 日本 \n"))


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"{}",
        b"null",
        b"NaN",
        b"[]",
        b"[" * 16_000,
        b'{"a":' * 3000,
        b"9" * 16_000,
        edited(extra="1"),
        edited(**{"X-Amz-Date": "20251121T154640Z"}),
        edited().replace(b'{"version"', b'{"version": "2020_10_22", "version"'),
        edited().replace(b'{"version"', b'{"host": "localhost", "version"'),
        edited() + b"{}",
        edited() + b"\0",
        b"\xef\xbb\xbf" + edited(),
        edited().decode().encode("utf-16"),
        edited().replace(b"localhost", b"\xff"),
        b" " * 20_000 + edited(),
        json.dumps([fields_of(edited())]).encode(),
        json.dumps({key.title(): value for key, value in fields_of(edited()).items()}).encode(),
        json.dumps({key.upper(): value for key, value in fields_of(edited()).items()}).encode(),
    ],
    ids=lambda token: token[:24].decode(errors="replace"),
)
def test_what_is_not_the_one_object_lets_nobody_in(door: Door, token: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        door.mechanism("AWS_MSK_IAM").begin().respond(token)


@pytest.mark.parametrize(
    "host", ["LOCALHOST", "localhost.", "127.0.0.1", "::1", "[::1]", "0:0:0:0:0:0:0:1", "b-1.brokers.example"]
)
def test_the_host_may_be_any_of_ours_however_it_is_spelled(door: Door, host: str) -> None:
    assert door.session(make_json(host=host))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost:9098",
        "brokers.example",
        "a.b.brokers.example",
        "",
        "127.0.0.2",
        "*",
        "x" * 9000,
    ],
)
def test_what_was_signed_for_another_host_lets_nobody_in(door: Door, host: str) -> None:
    rejection = door.rejects(make_json(host=host))

    assert len(rejection.reason) < 400


def test_the_host_names_are_those_of_the_moment(door: Door) -> None:
    """A certificate that was renewed with other names counts at once."""
    token = make_json(host="new.example")
    door.rejects(token)
    door.hosts |= {"new.example"}

    assert door.session(token)
