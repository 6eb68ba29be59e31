"""A mapping enters a secured cluster, says why when it cannot, and goes on by itself once that is fixed."""

from __future__ import annotations

import time

import pytest

from tests.fakes.certificates import DAY, Authority
from tests.integration.poller.secure.closed_kafka import ClosedKafka
from tests.integration.poller.secure.world import Secrets, SecureWorld, until
from tests.oracles.secure_apache_kafka import SESSION_MS
from tidemill_poller.errors import (
    AccessDenied,
    CertificateInvalid,
    ClientNotTrusted,
    LoginFailed,
    ServerNotTrusted,
)
from tidemill_poller.mapping import State

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="session")
def root_ca(secrets: Secrets, authority: Authority) -> str:
    return secrets.put("root-ca", certificate=authority.pem)


def scram_user(kafka: ClosedKafka, secrets: Secrets, user: str, *, given: str | None = None) -> str:
    """A user of Kafka, and the secret that names it; with another password if `given` says so."""
    kafka.set_password(user, f"planted-{user}")
    return secrets.put(user, username=user, password=given or f"planted-{user}")


def test_every_mechanism_delivers(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, authority: Authority, root_ca: str
) -> None:
    plain = secrets.put("paula", username="paula", password="planted-paula")
    scram = scram_user(kafka, secrets, "simone")
    issued = authority.issue("carol")
    certificate = {"certificate": issued.chain_pem}
    open_key = secrets.put("carol", **certificate, privateKey=issued.key_pem)
    locked_key = secrets.put(
        "carol-locked", **certificate, privateKey=issued.pbes1("planted-1"), privateKeyPassword="planted-1"
    )
    ways = [
        ("scram", {"BASIC_AUTH": plain}, "paula"),
        ("scram", {"SASL_SCRAM_256_AUTH": scram}, "simone"),
        ("scram", {"SASL_SCRAM_512_AUTH": scram}, "simone"),
        ("tls", {"CLIENT_CERTIFICATE_TLS_AUTH": open_key}, "carol"),
        ("tls", {"CLIENT_CERTIFICATE_TLS_AUTH": locked_key}, "carol"),
    ]
    mappings = [
        world.add(
            kafka.source(listener),
            {**access, "SERVER_ROOT_CA_CERTIFICATE": root_ca},
            allow=kafka.reader(user),
        )
        for listener, access, user in ways
    ]

    async def scenario() -> None:
        for mapping in mappings:
            await world.produce(mapping)
        for mapping in mappings:
            await world.becomes(mapping, "OK")

    world.run(scenario)
    assert [world.function.running, len(world.function.calls)] == [0, len(mappings)]


def test_a_wrong_password_is_reported_and_fixed_in_the_secret(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, root_ca: str
) -> None:
    secret = scram_user(kafka, secrets, "wilma", given="planted-wrong")
    access = {"SASL_SCRAM_512_AUTH": secret, "SERVER_ROOT_CA_CERTIFICATE": root_ca}
    mapping = world.add(kafka.source("scram"), access, allow=kafka.reader("wilma"))

    async def scenario() -> None:
        await world.becomes(mapping, LoginFailed.problem)
        stored = world.stored(mapping)
        assert (stored.state, stored.state_transition_reason) == (State.ENABLED, "EVENT_SOURCE_AUTHN_ERROR")
        assert f"{kafka.servers['scram']}: login by SCRAM-SHA-512" in world.reason(mapping)
        await world.produce(mapping)
        secrets.put("wilma", username="wilma", password="planted-wilma")
        await world.becomes(mapping, "OK")
        assert world.stored(mapping).state_transition_reason == "USER_INITIATED"

    world.run(scenario)


def test_missing_rights_are_reported_and_fixed_by_an_acl(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, root_ca: str
) -> None:
    """Of the topic first, then of the group; and taken away while it runs."""
    secret = scram_user(kafka, secrets, "nora")
    access = {"SASL_SCRAM_256_AUTH": secret, "SERVER_ROOT_CA_CERTIFICATE": root_ca}
    mapping = world.add(kafka.source("scram"), access)

    async def scenario() -> None:
        await world.becomes(mapping, AccessDenied.problem)
        assert "TopicAuthorizationFailedError" in world.reason(mapping)
        assert world.stored(mapping).state_transition_reason == "EVENT_SOURCE_AUTHZ_ERROR"
        kafka.allow("nora", topic=mapping.topic)
        await until(lambda: "GroupAuth" in world.reason(mapping), lambda: world.told(mapping))
        await world.produce(mapping)
        kafka.allow("nora", group=mapping.topic)
        await world.becomes(mapping, "OK")
        await world.commits(mapping, 1)
        kafka.forbid("nora", topic=mapping.topic)
        await world.becomes(mapping, AccessDenied.problem)
        await world.produce(mapping)
        kafka.allow("nora", topic=mapping.topic)
        await world.delivers(mapping, 2)
        await world.becomes(mapping, "OK")

    world.run(scenario)
    assert world.seen(mapping) == [0, 1]


def test_a_server_of_an_unknown_ca_is_not_entered_before_the_ca_is_given(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, authority: Authority
) -> None:
    login = scram_user(kafka, secrets, "ulla")
    ca = secrets.put("ulla-ca", certificate=Authority("Another CA").pem)
    access = {"SASL_SCRAM_512_AUTH": login, "SERVER_ROOT_CA_CERTIFICATE": ca}
    mapping = world.add(kafka.source("scram"), access, allow=kafka.reader("ulla"))

    async def scenario() -> None:
        await world.becomes(mapping, ServerNotTrusted.problem)
        assert "TLS handshake: SSLCertVerificationError" in world.reason(mapping)
        await world.produce(mapping)
        secrets.put("ulla-ca", certificate=authority.pem)
        await world.becomes(mapping, "OK")

    world.run(scenario)


def test_a_certificate_that_is_rejected_is_reported_and_fixed(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, authority: Authority, root_ca: str
) -> None:
    """One of another CA, then one that is rejected before it is shown, then the right one."""
    foreign, expired, good = (
        Authority("Another CA").issue("fritz"),
        authority.issue("fritz", valid_for=-DAY),
        authority.issue("fritz"),
    )
    secret = secrets.put("fritz", certificate=foreign.chain_pem, privateKey=foreign.key_pem)
    access = {"CLIENT_CERTIFICATE_TLS_AUTH": secret, "SERVER_ROOT_CA_CERTIFICATE": root_ca}
    mapping = world.add(kafka.source("tls"), access, allow=kafka.reader("fritz"))

    async def scenario() -> None:
        await world.becomes(mapping, ClientNotTrusted.problem)
        secrets.put("fritz", certificate=expired.chain_pem, privateKey=expired.key_pem)
        await world.becomes(mapping, CertificateInvalid.problem)
        assert "renew it" in world.reason(mapping)
        await world.produce(mapping)
        secrets.put("fritz", certificate=good.chain_pem, privateKey=good.key_pem)
        await world.becomes(mapping, "OK")

    world.run(scenario)


def test_a_rotated_secret_is_used_without_a_gap_or_a_duplicate(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, root_ca: str
) -> None:
    """Records flow on while it drains, connects anew, and leaves a version alone that cannot be used."""
    secret = scram_user(kafka, secrets, "rosa")
    access = {"SASL_SCRAM_512_AUTH": secret, "SERVER_ROOT_CA_CERTIFICATE": root_ca}
    mapping = world.add(kafka.source("scram"), access, allow=kafka.reader("rosa"))

    def joined() -> int:
        return int(world.metrics.of(mapping.uuid).get("esm.rebalances", 0))

    async def scenario() -> None:
        await world.produce(mapping, 5)
        await world.delivers(mapping, 5)
        secrets.put("rosa", username="rosa")
        await world.produce(mapping, 5)
        await world.delivers(mapping, 10)
        assert joined() == 1
        kafka.set_password("rosa", "planted-second")
        secrets.put("rosa", username="rosa", password="planted-second")
        await world.produce(mapping, 5)
        await until(lambda: joined() == 2, lambda: world.told(mapping))
        await world.produce(mapping, 5)
        await world.delivers(mapping, 20)
        await world.becomes(mapping, "OK")

    world.run(scenario)
    assert world.seen(mapping) == list(range(20))


def test_sessions_that_end_are_followed_by_the_next_without_a_trace(
    world: SecureWorld, kafka: ClosedKafka, secrets: Secrets, root_ca: str
) -> None:
    """connections.max.reauth.ms: the broker closes a connection whose session has expired (KIP-368)."""
    secret = scram_user(kafka, secrets, "sarah")
    access = {"SASL_SCRAM_512_AUTH": secret, "SERVER_ROOT_CA_CERTIFICATE": root_ca}
    mapping = world.add(kafka.source("brief"), access, allow=kafka.reader("sarah"))

    async def scenario() -> None:
        await world.produce(mapping)
        await world.becomes(mapping, "OK")
        ends_s = time.monotonic() + 3.5 * SESSION_MS / 1000
        sent = 1
        while time.monotonic() < ends_s:
            await world.produce(mapping)
            sent += 1
            await world.delivers(mapping, sent)
            assert world.result(mapping) == "OK"

    world.run(scenario)
    seen = world.seen(mapping)
    assert seen == list(range(len(seen)))
    assert world.metrics.of(mapping.uuid)["esm.rebalances"] == 1
