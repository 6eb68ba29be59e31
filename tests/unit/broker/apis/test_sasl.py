"""The login of one connection, frame by frame: what is answered, what ends it, and for how long it holds."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import virtual_time
from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.sasl_client import (
    ALICE,
    API_VERSIONS,
    BOB,
    METADATA,
    OTHER_PASSWORD,
    PASSWORD,
    SASL_AUTHENTICATE,
    SASL_HANDSHAKE,
    Closed,
    Dialogue,
    ScramClient,
    add_user,
    header,
    mechanisms,
)
from tests.fakes.sasl_script import PLAIN_TOKEN, SOFTWARE, Script
from tidemill_broker.apis import CloseConnection, dispatch
from tidemill_broker.auth.mechanism import Exchange, Step
from tidemill_broker.auth.session import Principal, Session
from tidemill_broker.protocol.errors import ErrorCode

GENERIC = "Authentication failed during {} due to invalid credentials with SASL mechanism {}"


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path, "connection.failed.authentication.delay.ms=0") as opened:
        add_user(opened.broker.scram_users, ALICE, PASSWORD)
        add_user(opened.broker.scram_users, BOB, OTHER_PASSWORD)
        yield opened


@pytest.fixture
def dialogue(inner: InnerBroker) -> Dialogue:
    return Dialogue(inner, mechanisms(inner.broker.scram_users))


class Clock:
    """Both of the broker's clocks, moved by hand."""

    def __init__(self, inner: InnerBroker) -> None:
        self.s = 0.0
        start_ms = inner.broker.now_ms()
        inner.broker.monotonic_s = lambda: self.s
        inner.broker.now_ms = lambda: start_ms + int(self.s * 1000)


@pytest.mark.parametrize(
    ("moves", "outcomes"),
    [
        # The ways in.
        ("versions scram first last metadata", "ok ok ok ok ok"),
        ("scram first last metadata", "ok ok ok ok"),
        ("scram first last versions metadata", "ok ok ok ok ok"),
        ("bad-versions versions scram first last", "42 ok ok ok ok"),
        ("versions plain password metadata", "ok ok ok ok"),
        ("old-scram bare-first bare-last metadata", "ok ok ok ok"),
        ("old-plain bare-plain metadata", "ok ok ok"),
        # Not before the end.
        ("bad-versions " * 6, "42 42 42 42 42 end"),
        ("metadata", "end"),
        ("garbage", "end"),
        ("versions metadata", "ok end"),
        ("versions versions", "ok end"),
        ("versions first", "ok end"),
        ("first", "end"),
        ("scram metadata", "ok end"),
        ("scram versions", "ok 34end"),
        ("scram scram", "ok 34end"),
        ("scram plain", "ok 34end"),
        ("scram first metadata", "ok ok end"),
        ("scram first scram", "ok ok 34end"),
        # Not by another way than the one that was shaken on.
        ("gssapi", "33end"),
        ("versions gssapi", "ok 33end"),
        ("scram password", "ok 58end"),
        ("scram bare-first", "ok end"),
        ("plain first", "ok 58end"),
        ("old-scram first", "ok end"),
        ("old-scram metadata", "ok end"),
        ("old-plain bare-first", "ok end"),
        # Nor out of order.
        ("scram last", "ok 58end"),
        ("scram first first", "ok ok 58end"),
        ("scram first wrong", "ok ok 58end"),
        ("scram wrong", "ok 58end"),
        ("plain wrong", "ok 58end"),
        ("scram-256 first last", "ok ok 58end"),
        # After the end.
        ("scram first last scram metadata", "ok ok ok 34 ok"),
        ("scram first last last metadata", "ok ok ok 34 ok"),
        ("plain password plain password", "ok ok 34 34"),
    ],
)
async def test_what_follows_on_what(dialogue: Dialogue, moves: str, outcomes: str) -> None:
    assert await Script(dialogue).play(moves) == outcomes


async def test_a_login_gives_the_connection_its_session_and_its_rights(dialogue: Dialogue) -> None:
    before = dialogue.connection.rights

    await dialogue.log_in(ScramClient())

    assert dialogue.open
    assert str(dialogue.connection.session.principal) == "User:alice"
    assert dialogue.connection.session.mechanism == "SCRAM-SHA-512"
    assert dialogue.connection.rights is not before
    assert dialogue.connection.rights.session is dialogue.connection.session


async def test_a_mechanism_that_is_not_offered_is_rejected_with_the_list(dialogue: Dialogue) -> None:
    reply = await dialogue.shake_hands("SCRAM-SHA-1")

    assert reply.error_code is ErrorCode.unsupported_sasl_mechanism
    assert set(reply.mechanisms) == {"SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"}
    assert dialogue.connection.ending


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("client", [ScramClient(password="wrong"), ScramClient(username="nobody")])
async def test_a_failed_login_is_told_in_kafkas_words(
    dialogue: Dialogue, client: ScramClient, version: int
) -> None:
    await dialogue.shake_hands()
    first = await dialogue.authenticate(client.first(), version)
    last = await dialogue.authenticate(client.final(first.auth_bytes), version)

    assert last.error_code is ErrorCode.sasl_authentication_failed
    assert last.error_message == GENERIC.format("authentication", "SCRAM-SHA-512")
    assert last.auth_bytes == b""
    assert dialogue.connection.ending
    assert str(dialogue.connection.session.principal) == "User:ANONYMOUS"


async def test_nothing_is_taken_after_a_failed_login(dialogue: Dialogue) -> None:
    await dialogue.log_in(ScramClient(password="wrong"))

    assert await dialogue.log_in(ScramClient()) is None
    assert not dialogue.open


@pytest.mark.parametrize("key", [SASL_HANDSHAKE, SASL_AUTHENTICATE])
@pytest.mark.parametrize("version", [-1, 3, 99])
async def test_versions_that_nobody_speaks_end_the_connection(
    dialogue: Dialogue, key: int, version: int
) -> None:
    if key == SASL_AUTHENTICATE:
        await dialogue.shake_hands()

    with pytest.raises(Closed) as closed:
        await dialogue.send(header(key, version) + b"\0" * 20)
    assert closed.value.reply is None


async def test_api_versions_of_the_future_may_be_asked_again(dialogue: Dialogue) -> None:
    reply = await dialogue.send(header(API_VERSIONS, 99))
    assert read_response(API_VERSIONS, 0, reply or b"").error_code is ErrorCode.unsupported_version

    assert (await dialogue.ask(API_VERSIONS, 3, **SOFTWARE)).error_code is ErrorCode.none
    assert dialogue.connection.software_name == "test"


def test_the_answer_to_a_failed_login_comes_late(tmp_path: Path) -> None:
    """connection.failed.authentication.delay.ms (KIP-306)."""

    async def scenario() -> float:
        with inner_broker(tmp_path, "connection.failed.authentication.delay.ms=250") as inner:
            dialogue = Dialogue(inner, mechanisms(inner.broker.scram_users))
            await dialogue.log_in(ScramClient())
            return virtual_time.now_s() - virtual_time.START_S

    assert virtual_time.run(scenario()) == pytest.approx(0.25)


async def test_what_comes_while_a_login_is_checked_ends_the_connection(dialogue: Dialogue) -> None:
    """The server does not read on while the stage is busy; this is what stands behind it."""
    await dialogue.shake_hands("PLAIN")
    frame = request_frame(request(SASL_AUTHENTICATE, 2, auth_bytes=PLAIN_TOKEN))
    checked: Any = dispatch(dialogue.inner.broker, dialogue.connection, memoryview(frame))
    stage = dialogue.connection.sasl
    assert stage is not None
    assert stage.busy

    with pytest.raises(CloseConnection):
        dispatch(dialogue.inner.broker, dialogue.connection, memoryview(frame))
    await checked
    assert not stage.busy


async def test_a_failed_login_is_one_line_of_the_audit_without_the_secret(
    dialogue: Dialogue, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await dialogue.log_in(ScramClient(username="mallory", password="guess-4711"))

    (line,) = [each.getMessage() for each in caplog.records if each.name == "tidemill_broker.audit"]
    assert "claimed=mallory" in line
    assert "mechanism=SCRAM-SHA-512" in line
    assert "listener=scram" in line
    assert "guess" not in caplog.text


class LentCredentials:
    """A mechanism whose one token names a user and how long the credentials live, as IAM's does."""

    name = "LENT"

    def __init__(self, inner: InnerBroker) -> None:
        self._inner = inner

    def begin(self, host: str = "") -> Exchange:
        return self

    def respond(self, token: bytes) -> Step:
        user, _, lifetime_ms = token.decode().partition(" ")
        expires_ms = self._inner.broker.now_ms() + int(lifetime_ms) if lifetime_ms else None
        session = Session(
            principal=Principal(type="User", name=user), mechanism="LENT", expires_ms=expires_ms
        )
        return Step(token=b"", session=session)


@pytest.fixture
def lent(inner: InnerBroker) -> Dialogue:
    return Dialogue(inner, {**mechanisms(inner.broker.scram_users), "LENT": LentCredentials(inner)})


async def log_in_for(dialogue: Dialogue, token: bytes) -> Any:
    await dialogue.shake_hands("LENT")
    return await dialogue.authenticate(token)


@pytest.mark.parametrize(
    ("max_reauth_ms", "credentials_ms", "lifetime_ms"),
    [
        (0, "", 0),
        (60_000, "", 60_000),
        (0, "10000", 10_000),
        (60_000, "10000", 10_000),
        (5_000, "10000", 5_000),
        (0, "-1", 0),
    ],
)
async def test_a_session_lasts_as_long_as_its_credentials_and_the_setting_allow(
    tmp_path: Path, max_reauth_ms: int, credentials_ms: str, lifetime_ms: int
) -> None:
    with inner_broker(tmp_path, f"connections.max.reauth.ms={max_reauth_ms}") as inner:
        clock = Clock(inner)
        dialogue = Dialogue(inner, {"LENT": LentCredentials(inner)})
        last = await log_in_for(dialogue, f"alice {credentials_ms}".rstrip().encode())
        limited = bool(max_reauth_ms or credentials_ms)
        stage = dialogue.connection.sasl
        assert stage is not None

        assert last.session_lifetime == timedelta(milliseconds=lifetime_ms)
        assert stage.expires_s == (lifetime_ms / 1000 if limited else None)
        clock.s = lifetime_ms / 1000
        assert await dialogue.ask(METADATA, 12) is not None
        clock.s += 0.001
        if limited:
            with pytest.raises(Closed):
                await dialogue.send(request_frame(request(METADATA, 12)))
        else:
            assert await dialogue.ask(METADATA, 12) is not None


async def test_a_session_is_renewed_without_another_connection(inner: InnerBroker, lent: Dialogue) -> None:
    """KIP-368: SaslHandshake and SaslAuthenticate again, before the end or at it, and no ApiVersions."""
    clock = Clock(inner)
    await log_in_for(lent, b"alice 10000")
    for _ in range(3):
        clock.s += 9.5
        last = await log_in_for(lent, b"alice 10000")
        assert last.session_lifetime == timedelta(seconds=10)
        assert await lent.ask(METADATA, 12) is not None
    clock.s += 11
    assert (await log_in_for(lent, b"alice 10000")).error_code is ErrorCode.none


async def test_a_renewal_goes_through_or_ends_the_connection(inner: InnerBroker, lent: Dialogue) -> None:
    Clock(inner)
    await log_in_for(lent, b"alice 10000")
    await lent.shake_hands("LENT")
    assert not lent.open

    with pytest.raises(Closed):
        await lent.send(request_frame(request(METADATA, 12)))


async def test_a_renewal_is_no_way_to_send_what_takes_long_to_read(
    inner: InnerBroker, lent: Dialogue
) -> None:
    Clock(inner)
    await log_in_for(lent, b"alice 10000")
    await lent.shake_hands("LENT")
    longest = inner.broker.settings.sasl_server_max_receive_size

    with pytest.raises(Closed):
        await lent.send(request_frame(request(SASL_AUTHENTICATE, 2, auth_bytes=b"x" * longest)))


async def test_a_renewal_may_not_change_the_principal(inner: InnerBroker, lent: Dialogue) -> None:
    Clock(inner)
    await log_in_for(lent, b"alice 10000")
    last = await log_in_for(lent, b"bob 10000")

    assert last.error_code is ErrorCode.sasl_authentication_failed
    assert last.error_message == "Cannot change principals during re-authentication from User.alice: User.bob"
    assert lent.connection.ending
    assert lent.connection.session.principal.name == "alice"


async def test_a_renewal_may_not_change_the_mechanism(inner: InnerBroker, lent: Dialogue) -> None:
    Clock(inner)
    await log_in_for(lent, b"alice 10000")

    assert (await lent.shake_hands("SCRAM-SHA-512")).error_code is ErrorCode.none
    with pytest.raises(Closed) as closed:
        await lent.send(request_frame(request(SASL_AUTHENTICATE, 2, auth_bytes=ScramClient().first())))
    assert closed.value.reply is None


async def test_a_failed_renewal_is_told_as_one(tmp_path: Path) -> None:
    with inner_broker(
        tmp_path, "connections.max.reauth.ms=10000", "connection.failed.authentication.delay.ms=0"
    ) as inner:
        users = inner.broker.scram_users
        add_user(users, ALICE, PASSWORD)
        dialogue = Dialogue(inner, mechanisms(users))
        Clock(inner)
        await dialogue.log_in(ScramClient())
        last = await dialogue.log_in(ScramClient(password="wrong"))

    assert last.error_message == GENERIC.format("re-authentication", "SCRAM-SHA-512")


async def test_a_session_is_renewed_once_a_second_at_most(inner: InnerBroker, lent: Dialogue) -> None:
    """What comes sooner is a request like others, as in Kafka: refused, and the session stays."""
    clock = Clock(inner)
    clock.s = 5.0
    await log_in_for(lent, b"alice 10000")
    await log_in_for(lent, b"alice 10000")
    clock.s += 0.999
    assert (await lent.shake_hands("LENT")).error_code is ErrorCode.illegal_sasl_state
    assert await lent.ask(METADATA, 12) is not None
    clock.s += 0.001
    assert (await log_in_for(lent, b"alice 10000")).error_code is ErrorCode.none


async def test_a_session_without_an_end_is_not_renewed(lent: Dialogue) -> None:
    await log_in_for(lent, b"alice")

    assert (await lent.shake_hands("LENT")).error_code is ErrorCode.illegal_sasl_state
    assert (await lent.authenticate(b"bob")).error_code is ErrorCode.illegal_sasl_state
    assert lent.connection.session.principal.name == "alice"


async def test_a_user_who_is_gone_stays_connected_and_does_not_come_again(
    inner: InnerBroker, dialogue: Dialogue
) -> None:
    """As on MSK: removing a user does not close live connections."""
    await dialogue.log_in(ScramClient())
    inner.broker.scram_users.alter([(ALICE, "SCRAM-SHA-512"), (ALICE, "SCRAM-SHA-256")], {})

    assert await dialogue.ask(METADATA, 12) is not None
    again = Dialogue(inner, mechanisms(inner.broker.scram_users))
    assert (await again.log_in(ScramClient())).error_code is ErrorCode.sasl_authentication_failed


def test_listeners_that_ask_for_no_login_reject_one(inner: InnerBroker) -> None:
    handshake = inner.ask(SASL_HANDSHAKE, 1, mechanism="PLAIN")
    authenticate = inner.ask(SASL_AUTHENTICATE, 2, auth_bytes=b"")

    assert (handshake.error_code, handshake.mechanisms) == (ErrorCode.illegal_sasl_state, ())
    assert authenticate.error_code is ErrorCode.illegal_sasl_state
    assert authenticate.error_message == "SaslAuthenticate request received after successful authentication"


async def test_a_thousand_logins_at_once_use_no_more_threads_than_two(
    inner: InnerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    def doubt(*_: object) -> bool:
        threads.add(threading.current_thread().name)
        return False

    monkeypatch.setattr("tidemill_broker.auth.scram.plain.matches", doubt)
    offered = mechanisms(inner.broker.scram_users)

    async def fail() -> None:
        dialogue = Dialogue(inner, offered)
        await dialogue.shake_hands("PLAIN")
        assert (await dialogue.authenticate(PLAIN_TOKEN)).error_code is ErrorCode.sasl_authentication_failed

    async with asyncio.TaskGroup() as tasks:
        for _ in range(1000):
            tasks.create_task(fail())
    assert 1 <= len(threads) <= 2
    assert threading.current_thread().name not in threads
