"""The same logins, move by move, to our stage and to Apache Kafka's: outcomes, codes and sentences are equal.

Ours is asked through `dispatch`, Kafka over a SASL listener without TLS. What differs on purpose is written
in docs/decisions/0911.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_raw_requests import ask
from tests.fakes.inner_broker import InnerBroker, inner_broker
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
    add_user,
    mechanisms,
)
from tests.fakes.sasl_script import Script
from tests.oracles.apache_kafka import ApacheKafka, free_port_pair, jars_or_skip
from tidemill_broker.auth.scram.keys import SCRAM_NAMES, salted_password
from tidemill_broker.protocol.errors import ErrorCode

pytestmark = pytest.mark.kafka

DESCRIBE_QUOTAS, DESCRIBE_USERS, ALTER_USERS = 48, 50, 51
SHA_256, SHA_512 = 1, 2
SALT = b"a salt of at least some length"
# How long Kafka may take to end a connection behind its last answer.
ENDING_S = 0.3
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
PLAIN_LOGIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{ALICE}="{PASSWORD}";'


@dataclass
class SaslKafka:
    kafka: ApacheKafka
    sasl_port: int


@pytest.fixture(scope="module")
def sasl_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaslKafka]:
    """Apache Kafka with a SASL listener; SCRAM-SHA-256 sessions last a minute, others for ever."""
    jars_or_skip()
    port, sasl_port = free_port_pair(), free_port_pair()
    where = f"PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port}"
    properties = {
        "listeners": f"{where},CONTROLLER://127.0.0.1:{port + 1}",
        "advertised.listeners": where,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN",
        "listener.name.sasl.scram-sha-256.sasl.jaas.config": SCRAM_LOGIN,
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
        "listener.name.sasl.plain.sasl.jaas.config": PLAIN_LOGIN,
        "listener.name.sasl.scram-sha-256.connections.max.reauth.ms": "60000",
        "connection.failed.authentication.delay.ms": "1",
    }
    kafka = ApacheKafka(data_dir=tmp_path_factory.mktemp("sasl"), properties=properties, port=port).start()
    try:
        for name, password in ((ALICE, PASSWORD), (BOB, OTHER_PASSWORD)):
            for mechanism in (SHA_256, SHA_512):
                alter(kafka, upsertions=[upsertion(name, mechanism, password=password)])
        yield SaslKafka(kafka, sasl_port)
    finally:
        kafka.kill()


def upsertion(name: str, mechanism: int, iterations: int = 4096, password: str = PASSWORD) -> dict[str, Any]:
    salted = salted_password(SCRAM_NAMES[mechanism == SHA_512], password, SALT, max(iterations, 1))
    return {
        "name": name,
        "mechanism": mechanism,
        "iterations": iterations,
        "salt": SALT,
        "salted_password": salted,
    }


def deletion(name: str, mechanism: int) -> dict[str, Any]:
    return {"name": name, "mechanism": mechanism}


def alter(broker: InnerBroker | ApacheKafka, **members: Any) -> list[tuple[str, ErrorCode, str | None]]:
    if isinstance(broker, InnerBroker):
        reply = broker.ask(ALTER_USERS, 0, **members)
    else:
        reply = ask(broker, ALTER_USERS, 0, **members)
    return sorted((each.user, each.error_code, each.error_message) for each in reply.results)


class Wire:
    """A connection to Kafka's SASL listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, frame: bytes) -> bytes | None:
        self._writer.write(struct.pack(">i", len(frame)) + frame)
        try:
            length = await self._reader.readexactly(4)
            reply = length + await self._reader.readexactly(int.from_bytes(length, "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(None) from None
        if _may_be_the_last(frame, reply) and await self._ends():
            raise Closed(reply)
        return reply

    async def _ends(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                return await self._reader.read(1) == b""
        return False


def _may_be_the_last(frame: bytes, reply: bytes) -> bool:
    key, version = struct.unpack_from(">hh", frame)
    if key == METADATA:
        return True
    flexible = key == SASL_AUTHENTICATE and version >= 2
    error = reply[8 + flexible : 10 + flexible]
    return key in (SASL_HANDSHAKE, SASL_AUTHENTICATE, API_VERSIONS) and error != b"\0\0"


@asynccontextmanager
async def connected(kafka: SaslKafka) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", kafka.sasl_port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


async def played_to_kafka(kafka: SaslKafka, moves: str) -> tuple[str, list[str]]:
    async with connected(kafka) as wire:
        script = Script(wire)
        return await script.play(moves), script.messages


async def played_to_tidemill(directory: Path, moves: str) -> tuple[str, list[str]]:
    settings = ["connection.failed.authentication.delay.ms=0"]
    if "-256" in moves:
        settings.append("connections.max.reauth.ms=60000")
    with inner_broker(directory, *settings) as inner:
        add_user(inner.broker.scram_users, ALICE, PASSWORD)
        add_user(inner.broker.scram_users, BOB, OTHER_PASSWORD)
        script = Script(Dialogue(inner, mechanisms(inner.broker.scram_users)))
        return await script.play(moves), script.messages


LOGIN_256 = "as-alice-of-256 scram-256 first last"


@pytest.mark.parametrize(
    "moves",
    [
        "versions scram first last metadata",
        "scram old-first old-last metadata",
        "bad-versions versions scram first last",
        "versions plain password metadata",
        "old-scram bare-first bare-last metadata",
        "old-plain bare-plain metadata",
        "metadata",
        "garbage",
        "versions metadata",
        "versions versions",
        "first",
        "scram metadata",
        "scram versions",
        "scram plain",
        "scram first scram",
        "gssapi",
        "versions gssapi",
        "scram password",
        "plain first",
        "old-scram first",
        "scram last",
        "scram first first",
        "scram first wrong",
        "scram first replay",
        "scram first proofless",
        "as-alice-guessing scram first last",
        "as-alice-guessing scram old-first old-last",
        "as-bob scram first last metadata",
        "as-alice-for-bob scram first",
        "as-alice-for-alice scram first last",
        "as-alice-with-extensions scram first last",
        "as-delegation-token scram first",
        "as-älice scram first",
        "as-alice-bound scram first",
        "as-alice-unbound scram first",
        "plain guess",
        "plain wrong",
        "plain passwordless",
        "plain nameless",
        "plain four-parts",
        "plain nine-parts",
        "plain password-for-bob",
        "scram first last scram metadata",
        "scram first last last metadata",
        f"{LOGIN_256} metadata",
        f"{LOGIN_256} scram-256 first last metadata",
        f"{LOGIN_256} scram-256 metadata",
        f"{LOGIN_256} scram-256 first last scram-256 metadata",
        f"{LOGIN_256} scram first",
        f"{LOGIN_256} as-alice-guessing scram-256 first last",
        f"{LOGIN_256} as-bob scram-256 first last",
    ],
)
async def test_a_login_goes_as_in_kafka(sasl_kafka: SaslKafka, tmp_path: Path, moves: str) -> None:
    kafka = await played_to_kafka(sasl_kafka, moves)

    assert await played_to_tidemill(tmp_path, moves) == kafka


async def test_an_unknown_user_fails_with_kafkas_words_but_one_step_later(
    sasl_kafka: SaslKafka, tmp_path: Path
) -> None:
    """Kafka tells who exists: decision 0911."""
    moves = "as-nobody scram first last"
    outcomes, messages = await played_to_kafka(sasl_kafka, moves)

    assert outcomes == "ok 58end"
    assert await played_to_tidemill(tmp_path, moves) == ("ok ok 58end", ["", *messages])


@pytest.mark.parametrize(
    ("deletions", "upsertions"),
    [
        ([], []),
        ([], [upsertion("carol", SHA_512)]),
        ([], [upsertion("carol", SHA_512), upsertion("dave", SHA_256, 16_384)]),
        ([], [upsertion("carol", SHA_256), upsertion("carol", SHA_512)]),
        ([deletion("carol", SHA_256)], [upsertion("carol", SHA_512)]),
        ([deletion("nobody", SHA_256)], []),
        ([deletion("alice", SHA_256), deletion("alice", SHA_512)], []),
        ([deletion("", SHA_256)], [upsertion("", SHA_512)]),
        ([deletion("", SHA_256), deletion("", SHA_512)], []),
        ([deletion("alice", 0)], [upsertion("carol", 3)]),
        ([], [upsertion("carol", SHA_512, 4095), upsertion("dave", SHA_512, 16_385)]),
        ([], [upsertion("carol", 0, 1)]),
        ([], [upsertion("", 0, 1)]),
        ([deletion("nobody", SHA_256)], [upsertion("carol", SHA_512)]),
        ([deletion("nobody", SHA_256)], [upsertion("nobody", SHA_512)]),
        ([], [upsertion("carol", SHA_512) | {"salt": b""}]),
    ],
)
def test_users_are_altered_as_in_kafka(
    sasl_kafka: SaslKafka, tmp_path: Path, deletions: list[Any], upsertions: list[Any]
) -> None:
    expected = alter(sasl_kafka.kafka, deletions=deletions, upsertions=upsertions)
    made = [name for name, error, _ in expected if error is ErrorCode.none]
    for each in upsertions:
        if each["name"] in made:
            alter(sasl_kafka.kafka, deletions=[deletion(each["name"], each["mechanism"])])
    with inner_broker(tmp_path) as inner:
        add_user(inner.broker.scram_users, ALICE, PASSWORD)

        assert alter(inner, deletions=deletions, upsertions=upsertions) == expected


@pytest.mark.parametrize("users", [None, [], [ALICE], [ALICE, BOB], ["nobody", ALICE], [ALICE, ALICE], [""]])
def test_users_are_described_as_in_kafka(
    sasl_kafka: SaslKafka, tmp_path: Path, users: list[str] | None
) -> None:
    asked = None if users is None else [{"name": name} for name in users]
    expected = ask(sasl_kafka.kafka, DESCRIBE_USERS, 0, users=asked)
    with inner_broker(tmp_path) as inner:
        for name, password in ((ALICE, PASSWORD), (BOB, OTHER_PASSWORD)):
            add_user(inner.broker.scram_users, name, password)
        told = inner.ask(DESCRIBE_USERS, 0, users=asked)

    assert (told.error_code, told.error_message) == (expected.error_code, expected.error_message)
    assert sorted(map(described, told.results)) == sorted(map(described, expected.results))


def described(result: Any) -> tuple[Any, ...]:
    infos = sorted((each.mechanism, each.iterations) for each in result.credential_infos)
    return result.user, result.error_code, result.error_message, infos


def component(entity_type: str, match_type: int = 2, match: str | None = None) -> dict[str, Any]:
    return {"entity_type": entity_type, "match_type": match_type, "match": match}


@pytest.mark.parametrize(
    "components",
    [
        [],
        [component("user")],
        [component("user", 1), component("client-id", 0, "x")],
        [component("")],
        [component("user"), component("user", 1)],
        [component("group")],
        [component("user", 3)],
        [component("ip"), component("user")],
    ],
)
def test_quotas_are_described_as_in_kafka_before_anybody_sets_one(
    sasl_kafka: SaslKafka, tmp_path: Path, components: list[Any]
) -> None:
    """kafka-configs asks for them before it tells SCRAM users."""
    expected = ask(sasl_kafka.kafka, DESCRIBE_QUOTAS, 1, components=components, strict=False)
    with inner_broker(tmp_path) as inner:
        assert inner.ask(DESCRIBE_QUOTAS, 1, components=components, strict=False) == expected
