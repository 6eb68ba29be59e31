"""SCRAM and PLAIN by themselves: the RFCs' vectors, Kafka's dialect, and all the ways to be rejected."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import random
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.sasl_client import ALICE, BOB, OTHER_PASSWORD, PASSWORD, ScramClient, add_user, spoilt
from tidemill_broker.auth.mechanism import AuthenticationFailed, Exchange, Step
from tidemill_broker.auth.scram.keys import (
    SCRAM_NAMES,
    ScramName,
    credential_of,
    digest,
    keyed,
    salted_password,
)
from tidemill_broker.auth.scram.mechanism import ScramMechanism
from tidemill_broker.auth.scram.plain import PlainMechanism
from tidemill_broker.auth.scram.users import ScramUsers


@pytest.fixture
def users(tmp_path: Path) -> ScramUsers:
    users = ScramUsers(tmp_path / "scram.json")
    add_user(users, ALICE, PASSWORD)
    add_user(users, BOB, OTHER_PASSWORD)
    return users


def begin(users: ScramUsers, mechanism: ScramName = "SCRAM-SHA-512") -> Exchange:
    return ScramMechanism(mechanism, users).begin()


def step(exchange: Exchange, token: bytes) -> Step:
    result = exchange.respond(token)
    assert isinstance(result, Step)
    return result


def rejection(exchange: Exchange, token: bytes) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        exchange.respond(token)
    return caught.value


def test_the_exchange_of_rfc_7677_comes_out_byte_for_byte(tmp_path: Path) -> None:
    """RFC 7677 section 3: user `user`, password `pencil`."""
    salt = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = salted_password("SCRAM-SHA-256", "pencil", salt, 4096)
    users = ScramUsers(tmp_path / "scram.json")
    credential = credential_of("SCRAM-SHA-256", salted, salt=salt, iterations=4096)
    users.alter([], {("user", "SCRAM-SHA-256"): credential})
    make_nonce = lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"  # noqa: E731 - the server's half, as in the RFC
    exchange = ScramMechanism("SCRAM-SHA-256", users, make_nonce=make_nonce).begin()

    first = step(exchange, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    last = step(
        exchange,
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    )

    assert (
        first.token
        == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert last.token == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert last.session is not None
    assert str(last.session.principal) == "User:user"


def test_the_keys_of_rfc_5802_come_out_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 5802 section 5 is SCRAM-SHA-1, which no Kafka speaks: only the arithmetic is tried with it."""
    hashes: Any = {"SCRAM-SHA-1": "sha1"}
    monkeypatch.setattr("tidemill_broker.auth.scram.keys.HASHES", hashes)
    sha1: Any = "SCRAM-SHA-1"
    salted = salted_password(sha1, "pencil", b64decode("QSXCR+Q6sek8bf92"), 4096)
    keys = credential_of(sha1, salted, salt=b"", iterations=4096)
    message = (
        b"n=user,r=fyko+d2lbbFgONRv9qkxdawL,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
        b"s=QSXCR+Q6sek8bf92,i=4096,c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j"
    )
    proof = b64decode("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
    client_key = bytes(a ^ b for a, b in zip(keyed(sha1, keys.stored_key, message), proof, strict=True))

    assert digest(sha1, client_key) == keys.stored_key
    assert keyed(sha1, keys.server_key, message) == b64decode("rmF9pqV8S7suAoZWja4dJRkFsKQ=")


@pytest.mark.parametrize("mechanism", SCRAM_NAMES)
@pytest.mark.parametrize(
    ("name", "gs2_header", "extensions"),
    [
        (ALICE, "n,,", ""),
        (ALICE, "n,a=alice,", ""),
        ("a=b,c", "n,,", ""),
        ("a=b,c", "n,a=a=3Db=2Cc,", ""),
        (ALICE, "n,,", ",a=1,foo=bar baz"),
        (ALICE, "n,,", ",tokenauth=false"),
    ],
)
def test_who_knows_the_password_gets_in(
    users: ScramUsers, mechanism: ScramName, name: str, gs2_header: str, extensions: str
) -> None:
    """Extensions are not understood, but what was said is what is signed."""
    add_user(users, name, PASSWORD)
    client = ScramClient(mechanism=mechanism, username=name, gs2_header=gs2_header, extensions=extensions)
    exchange = begin(users, mechanism)

    last = step(exchange, client.final(step(exchange, client.first()).token))

    assert client.verifies(last.token)
    assert last.session is not None
    assert (last.session.principal.name, last.session.mechanism) == (name, mechanism)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\0",
        b"n,,",
        b"n,,n=alice",
        b"n,,n=alice,r=",
        b"n,,n=,r=abc",
        b"n,,n=al=ice,r=abc",
        b"n,,n=alice,r=a,b",
        b"n,,n=alice,r=a b",
        b"n,,r=abc,n=alice",
        b"n,,m=must,n=alice,r=abc",
        b"n,,n=alice,r=abc,",
        b"n,,n=alice,r=abc,1=x",
        b"n,,n=alice,r=abc\0",
        b"y,,n=alice,r=abc",
        b"p=tls-unique,,n=alice,r=abc",
        b"p=tls-exporter,,n=alice,r=abc",
        b"n,a=,n=alice,r=abc",
        b"n,bob,n=alice,r=abc",
        "n,,n=älice,r=abc".encode(),
        b"n,,n=alice,r=abc,tokenauth=true",
        b"\xff" * 100,
    ],
)
def test_another_first_message_is_rejected_and_then_nothing_is_taken(users: ScramUsers, first: bytes) -> None:
    exchange = begin(users)

    assert rejection(exchange, first).public is None
    assert rejection(exchange, ScramClient().first()).reason == "a message after the end of the exchange"


def test_another_authorization_id_is_told_by_kafkas_sentence(users: ScramUsers) -> None:
    public = rejection(begin(users), ScramClient(gs2_header="n,a=bob,").first()).public

    assert (
        public
        == "Authentication failed: Client requested an authorization id that is different from username"
    )


def final_with(client: ScramClient, server_first: bytes, change: str) -> bytes:
    final = client.final(server_first)
    nonce = server_first[2:].split(b",")[0].decode()
    return {
        "another proof": spoilt(random.Random(1), final),
        "a short proof": final[: final.rindex(b",p=")] + b",p=AAAA",
        "no proof": final[: final.rindex(b",p=")],
        "an empty proof": final[: final.rindex(b",p=")] + b",p=",
        "zeros for a proof": final[: final.rindex(b",p=")] + b",p=" + b"A" * 86 + b"==",
        "another nonce": client.final(server_first, nonce=nonce[:-1] + ("x" if nonce[-1] != "x" else "y")),
        "the client's nonce alone": client.final(server_first, nonce=client.nonce),
        "a longer nonce": client.final(server_first, nonce=nonce + "x"),
        "another binding": client.final(server_first, binding="y,,"),
        "a binding to bob": client.final(server_first, binding="n,a=bob,"),
        "the first again": client.first(),
        "nothing": b"",
        "half": final[: len(final) // 2],
        "more": final + b",x=y",
    }[change]


@pytest.mark.parametrize(
    "change",
    [
        "another proof",
        "a short proof",
        "no proof",
        "an empty proof",
        "zeros for a proof",
        "another nonce",
        "the client's nonce alone",
        "a longer nonce",
        "another binding",
        "a binding to bob",
        "the first again",
        "nothing",
        "half",
        "more",
    ],
)
@pytest.mark.parametrize("name", [ALICE, "nobody"])
def test_another_last_message_is_rejected_and_cannot_be_repaired(
    users: ScramUsers, name: str, change: str
) -> None:
    client = ScramClient(username=name)
    exchange = begin(users)
    server_first = step(exchange, client.first()).token

    failure = rejection(exchange, final_with(client, server_first, change))

    assert (failure.public, failure.claimed) == (None, name)
    assert rejection(exchange, client.final(server_first)).reason == "a message after the end of the exchange"


def test_a_proof_made_for_another_exchange_is_worth_nothing(users: ScramUsers) -> None:
    """Replayed, or with another user's nonce."""
    client, exchange, other = ScramClient(), begin(users), begin(users)
    answered, seen = step(exchange, client.first()).token, step(other, client.first()).token
    step(exchange, client.final(answered))

    assert rejection(other, client.final(answered)).reason == "the nonce is not this exchange's"
    assert rejection(exchange, client.final(seen)).reason == "a message after the end of the exchange"


def test_an_unknown_user_is_answered_like_a_wrong_password(tmp_path: Path, users: ScramUsers) -> None:
    """The same steps, a salt that stays over restarts, and another for each name and mechanism."""

    def first(users: ScramUsers, mechanism: ScramName, name: str) -> dict[str, str]:
        token = step(begin(users, mechanism), ScramClient(username=name).first()).token.decode()
        return dict(part.split("=", 1) for part in token.split(","))

    told = first(users, "SCRAM-SHA-512", "nobody")
    real = first(users, "SCRAM-SHA-512", ALICE)
    again = ScramUsers(tmp_path / "scram.json")

    assert {name: len(value) for name, value in told.items()} == {n: len(v) for n, v in real.items()}
    assert told["i"] == real["i"]
    assert first(again, "SCRAM-SHA-512", "nobody")["s"] == told["s"]
    assert first(users, "SCRAM-SHA-512", "nobodx")["s"] != told["s"]
    assert first(users, "SCRAM-SHA-256", "nobody")["s"] != told["s"]
    wrong = {}
    for name in (ALICE, "nobody"):
        client, exchange = ScramClient(username=name, password="wrong"), begin(users)
        wrong[name] = rejection(exchange, client.final(step(exchange, client.first()).token))
    assert {each.public for each in wrong.values()} == {None}
    assert {name: each.reason for name, each in wrong.items()} == {
        ALICE: "wrong password",
        "nobody": "no such user",
    }


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of hashes, as they are worked out."""
    done: list[str] = []
    real_hmac, real_new, real_pbkdf2 = hmac.digest, hashlib.new, hashlib.pbkdf2_hmac

    def count_hmac(key: bytes, message: bytes, name: str) -> bytes:
        done.append(f"hmac {name}")
        return real_hmac(key, message, name)

    def count_new(name: str, message: bytes) -> Any:
        done.append(name)
        return real_new(name, message)

    def count_pbkdf2(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        done.append(f"{iterations} {name}")
        return real_pbkdf2(name, password, salt, iterations)

    monkeypatch.setattr("tidemill_broker.auth.scram.keys.hmac.digest", count_hmac)
    monkeypatch.setattr("tidemill_broker.auth.scram.keys.hashlib.new", count_new)
    monkeypatch.setattr("tidemill_broker.auth.scram.keys.hashlib.pbkdf2_hmac", count_pbkdf2)
    return done


async def test_an_unknown_user_costs_the_same_hashes_as_a_wrong_password(
    users: ScramUsers, hashed: list[str]
) -> None:
    """Counted, because a clock would lie now and then."""
    users.alter([(BOB, "SCRAM-SHA-512")], {})  # bob has one mechanism only
    spent = {}
    for name in (ALICE, BOB, "nobody"):
        hashed.clear()
        exchange = begin(users)
        server_first = step(exchange, ScramClient(username=name).first()).token
        nonce = server_first[2:].split(b",")[0]
        rejection(exchange, b"c=biws,r=" + nonce + b",p=" + b"A" * 86 + b"==")
        with pytest.raises(AuthenticationFailed):
            await plain(users, f"\0{name}\0wrong".encode())
        spent[name] = list(hashed)

    assert users.find("SCRAM-SHA-256", BOB).known
    assert spent[ALICE] == spent[BOB] == spent["nobody"]
    assert [each for each in spent["nobody"] if each.startswith("4096")] == ["4096 sha256", "4096 sha512"]


def test_each_exchange_has_a_nonce_of_its_own(users: ScramUsers) -> None:
    nonces = {step(begin(users), ScramClient().first()).token.split(b",")[0] for _ in range(50)}

    assert len(nonces) == 50
    assert all(len(each) >= len(b"r=" + ScramClient().nonce.encode()) + 24 for each in nonces)


async def plain(users: ScramUsers, token: bytes) -> Step:
    step = PlainMechanism(users).begin().respond(token)
    assert inspect.isawaitable(step)
    return await step


@pytest.mark.parametrize("authorization_id", ["", ALICE])
async def test_the_password_itself_opens_too(users: ScramUsers, authorization_id: str) -> None:
    last = await plain(users, f"{authorization_id}\0{ALICE}\0{PASSWORD}".encode())

    assert last.token == b""
    assert last.session is not None
    assert (str(last.session.principal), last.session.mechanism) == ("User:alice", "PLAIN")


@pytest.mark.parametrize(
    ("token", "public"),
    [
        (b"\0alice\0wrong", "Authentication failed: Invalid username or password"),
        (b"\0nobody\0alice-secret", "Authentication failed: Invalid username or password"),
        (b"\0bob\0alice-secret", "Authentication failed: Invalid username or password"),
        (
            b"bob\0alice\0alice-secret",
            "Authentication failed: Client requested an authorization id that is different from username",
        ),
        (b"bob\0alice\0wrong", "Authentication failed: Invalid username or password"),
        (b"", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
        (b"\0\0", "Authentication failed: username not specified"),
        (b"\0alice\0", "Authentication failed: password not specified"),
        (b"\0\0alice-secret", "Authentication failed: username not specified"),
        (b"alice\0alice-secret", "Invalid SASL/PLAIN response: expected 3 tokens, got 2"),
        (b"\0alice\0alice-secret\0", "Invalid SASL/PLAIN response: expected 3 tokens, got 4"),
        (b"\0" * 9, "Invalid SASL/PLAIN response: expected 3 tokens, got 4"),
        (b"\0alice\0\xff", None),
        (b"\0alice\0\xed\xa0\x80", None),
        (b"n,,n=alice,r=abc", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
    ],
)
async def test_anything_else_does_not_open(users: ScramUsers, token: bytes, public: str | None) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        await plain(users, token)

    assert caught.value.public == public
    assert b"secret" not in repr((caught.value, caught.value.__context__)).encode()


def salted(hashed: list[str]) -> int:
    """How often a password was salted since the last question."""
    count = sum(each.startswith("4096") for each in hashed)
    hashed.clear()
    return count


async def log_in_by(mechanism: PlainMechanism, name: str, password: str) -> Step:
    coming = mechanism.begin().respond(f"\0{name}\0{password}".encode())
    assert inspect.isawaitable(coming)
    return await coming


async def test_a_password_that_has_opened_is_not_salted_again(users: ScramUsers, hashed: list[str]) -> None:
    mechanism = PlainMechanism(users)
    await log_in_by(mechanism, ALICE, PASSWORD)
    assert salted(hashed) == len(SCRAM_NAMES)

    again = await log_in_by(mechanism, ALICE, PASSWORD)

    assert again.session is not None
    assert salted(hashed) == 0


async def test_a_password_that_has_opened_makes_no_other_one_cheaper(
    users: ScramUsers, hashed: list[str]
) -> None:
    mechanism = PlainMechanism(users)
    await log_in_by(mechanism, ALICE, PASSWORD)
    for name, password in ((ALICE, "wrong"), (BOB, PASSWORD), ("nobody", PASSWORD), (ALICE, PASSWORD + "x")):
        hashed.clear()
        with pytest.raises(AuthenticationFailed):
            await log_in_by(mechanism, name, password)
        assert salted(hashed) == len(SCRAM_NAMES)


async def test_a_password_that_was_changed_or_taken_away_does_not_open_any_more(users: ScramUsers) -> None:
    mechanism = PlainMechanism(users)
    await log_in_by(mechanism, ALICE, PASSWORD)

    add_user(users, ALICE, OTHER_PASSWORD)
    with pytest.raises(AuthenticationFailed):
        await log_in_by(mechanism, ALICE, PASSWORD)
    await log_in_by(mechanism, ALICE, OTHER_PASSWORD)

    users.alter([(ALICE, name) for name in SCRAM_NAMES], {})
    with pytest.raises(AuthenticationFailed):
        await log_in_by(mechanism, ALICE, OTHER_PASSWORD)


async def test_no_more_passwords_are_remembered_than_there_is_room_for(
    users: ScramUsers, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill_broker.auth.scram.plain.PROOFS_MAX", 1)
    mechanism = PlainMechanism(users)
    for name, password, times in ((ALICE, PASSWORD, 2), (BOB, OTHER_PASSWORD, 2), (BOB, OTHER_PASSWORD, 0)):
        hashed.clear()
        await log_in_by(mechanism, name, password)
        assert salted(hashed) == times
    hashed.clear()

    await log_in_by(mechanism, ALICE, PASSWORD)

    assert salted(hashed) == len(SCRAM_NAMES)


async def test_one_message_is_all_that_plain_takes(users: ScramUsers) -> None:
    exchange = PlainMechanism(users).begin()
    with pytest.raises(AuthenticationFailed):
        await exchange.respond(b"")  # type: ignore[misc]  # PLAIN's steps are awaited

    assert rejection(exchange, b"\0alice\0alice-secret").reason == "a message after the end of the exchange"


def test_no_key_is_in_a_repr(users: ScramUsers) -> None:
    found = users.find("SCRAM-SHA-512", ALICE)

    assert repr(found) == "Found(credential=ScramCredential(iterations=4096), known=True)"
