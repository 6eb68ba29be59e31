"""Access keys that come and go while the broker runs: who may log in, and what a session still may."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.iam_identities import USER
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.harness.processes import wait_until
from tests.harness.tls_broker import TlsBroker, tls_broker
from tests.oracles.iam_tokens import (
    LONG_TERM,
    REGION,
    TEMPORARY,
    Keys,
    fields_of,
    json_token,
    signer,
    url_token,
)
from tidemill_broker.commands import identity

METADATA, SASL_HANDSHAKE, SASL_AUTHENTICATE = 3, 17, 36
UNKNOWN_TOPIC, TOPIC_DENIED, LOGIN_FAILED = 3, 29, 58


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_REGION", REGION)
        with tls_broker(tmp_path_factory.mktemp("identities")) as broker:
            yield broker


class Client:
    """One connection to the iam listener."""

    def __init__(self, live: TlsBroker) -> None:
        plain = socket.create_connection(("127.0.0.1", live.port("iam")), timeout=10)
        self._socket = live.trusting().wrap_socket(plain, server_hostname="localhost")
        self._replies = self._socket.makefile("rb")

    def ask(self, key: int, version: int, **members: Any) -> Any:
        frame = request_frame(request(key, version, **members))
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
        length = self._replies.read(4)
        return read_response(key, version, length + self._replies.read(int.from_bytes(length, "big")))

    def log_in(self, mechanism: str, token: bytes) -> Any:
        assert self.ask(SASL_HANDSHAKE, 1, mechanism=mechanism).error_code == 0
        return self.ask(SASL_AUTHENTICATE, 2, auth_bytes=token)

    def describe(self, topic: str) -> int:
        """The error code of a topic that does not exist; only who may describe it is told so."""
        (told,) = self.ask(METADATA, 8, topics=[{"name": topic}], allow_auto_topic_creation=False).topics
        return int(told.error_code)

    def close(self) -> None:
        self._socket.close()


def run(live: TlsBroker, *arguments: str) -> int:
    return identity.main([*arguments, "--data-dir", str(live.broker.data_dir / "data")])


def add(live: TlsBroker, keys: Keys, monkeypatch: pytest.MonkeyPatch, *policies: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{keys.secret}\n{keys.session_token or ''}\n"))
    given = ("--access-key-id", keys.access_key_id, "--secret-from-stdin", *(policies or ("--admin",)))
    assert run(live, "add", "--principal", USER, *given) == 0


def remove(live: TlsBroker, keys: Keys) -> None:
    """Returns once nobody gets in with it any more."""
    assert run(live, "remove", keys.access_key_id) == 0
    wait_until(lambda: answer(live, "AWS_MSK_IAM", keys).error_code == LOGIN_FAILED)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def answer(live: TlsBroker, mechanism: str, keys: Keys) -> Any:
    make = url_token(keys, at_ms=now_ms()) if mechanism == "OAUTHBEARER" else None
    with closing(Client(live)) as client:
        return client.log_in(mechanism, make or json_token(signer(keys, at_ms=now_ms())))


@pytest.mark.parametrize("mechanism", ["AWS_MSK_IAM", "OAUTHBEARER"])
def test_a_key_lets_in_once_it_is_added_and_no_more_once_it_is_removed(
    live: TlsBroker, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = answer(live, mechanism, TEMPORARY)
    assert refused.error_code == LOGIN_FAILED
    assert refused.error_message.endswith("]: Access denied")
    assert refused.error_message[1:37] in live.audited()[-1]

    add(live, TEMPORARY, monkeypatch)
    wait_until(lambda: answer(live, mechanism, TEMPORARY).error_code == 0)
    remove(live, TEMPORARY)


def test_a_live_session_loses_its_rights_within_a_second_once_its_key_is_removed(
    live: TlsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(live, LONG_TERM, monkeypatch)
    wait_until(lambda: answer(live, "AWS_MSK_IAM", LONG_TERM).error_code == 0)
    with closing(Client(live)) as client:
        assert client.log_in("AWS_MSK_IAM", json_token(signer(LONG_TERM, at_ms=now_ms()))).error_code == 0
        assert client.describe("orders") == UNKNOWN_TOPIC
        run(live, "remove", LONG_TERM.access_key_id)
        removed_s = time.monotonic()
        wait_until(lambda: client.describe("orders") == TOPIC_DENIED)

    assert time.monotonic() - removed_s < (1 if not os.environ.get("CI") else 5)


def test_a_session_is_told_how_long_its_credentials_live(
    live: TlsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    add(live, TEMPORARY, monkeypatch, "--admin", "--expires", ends)
    told = wait_until(lambda: (reply := answer(live, "OAUTHBEARER", TEMPORARY)).error_code == 0 and reply)
    remove(live, TEMPORARY)

    assert told.auth_bytes == b""
    assert timedelta(seconds=590) < told.session_lifetime <= timedelta(seconds=600)


def test_no_secret_no_token_and_no_signature_is_in_the_log(
    live: TlsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(live, TEMPORARY, monkeypatch)
    token = json_token(signer(TEMPORARY, at_ms=now_ms()))
    for presented in (token, token[:-3], token + b"}", token.replace(b"eu-west-1", b"us-east-1")):
        with closing(Client(live)) as client:
            client.log_in("AWS_MSK_IAM", presented)
    remove(live, TEMPORARY)

    secrets = (TEMPORARY.secret, str(TEMPORARY.session_token), fields_of(token)["x-amz-signature"])
    assert [secret for secret in secrets if secret in live.broker.log] == []
    assert TEMPORARY.access_key_id in live.broker.log
