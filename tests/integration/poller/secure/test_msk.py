"""A mapping enters an MSK cluster by its ARN alone: our own broker, over each mechanism."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.poller.secure.msk import (
    ACCESS_KEY_ID,
    RIGHTS,
    SECRET_KEY,
    SESSION_MS,
    SESSION_TOKEN,
    Msk,
)
from tests.integration.poller.secure.world import Secrets, SecureWorld, until
from tests.oracles.secure_apache_kafka import set_password
from tidemill_poller.errors import AccessDenied, LoginFailed
from tidemill_poller.mapping import SelfManagedSource


@pytest.fixture
def world(
    msk: Msk, secrets: Secrets, tmp_path: Path, untold: list[str], monkeypatch: pytest.MonkeyPatch
) -> SecureWorld:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KAFKA", f"http://127.0.0.1:{msk.broker.ready['control_port']}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    return SecureWorld(msk.plaintext, tmp_path / "poller", shown=untold, ca_file=msk.certificates / "ca.pem")


def test_each_mechanism_is_taken_by_the_arn(world: SecureWorld, msk: Msk, secrets: Secrets) -> None:
    """IAM without a secret, though TLS is there, too; and on through several sessions."""
    set_password(AdminClient({"bootstrap.servers": msk.plaintext}), "mia", "planted-mia")
    login = secrets.put("AmazonMSK_mia", username="mia", password="planted-mia")
    pem = (msk.certificates / "client.pem").read_text()
    key, _, chain = pem.partition("-----BEGIN CERTIFICATE-----")
    certificate = secrets.put("msk-client", certificate=f"-----BEGIN CERTIFICATE-----{chain}", privateKey=key)
    ways = [{}, {"SASL_SCRAM_512_AUTH": login}, {"CLIENT_CERTIFICATE_TLS_AUTH": certificate}]
    mappings = [world.add(msk.source, access) for access in ways]
    own = SelfManagedSource(bootstrap_servers=(f"localhost:{msk.broker.ready['listeners']['iam']}",))
    mappings.append(world.add(own, {"IAM_AUTH": ""}))

    async def scenario() -> None:
        for mapping in mappings:
            await world.produce(mapping)
        for mapping in mappings:
            await world.becomes(mapping, "OK")
        ends_s, sent = time.monotonic() + 2.5 * SESSION_MS / 1000, 1
        while time.monotonic() < ends_s:
            sent += 1
            for mapping in mappings:
                await world.produce(mapping)
                await world.delivers(mapping, sent)
                assert world.result(mapping) == "OK"

    world.run(scenario)
    for mapping in mappings:
        seen = world.seen(mapping)
        assert seen == list(range(len(seen)))
        assert world.metrics.of(mapping.uuid)["esm.rebalances"] == 1
    servers = [msk.broker.ready["listeners"][name] for name in ("iam", "scram", "tls")]
    assert {server.rpartition(":")[2] for server in world.entered} == {str(port) for port in servers}


def test_what_iam_denies_is_reported_and_fixed_by_a_policy(world: SecureWorld, msk: Msk) -> None:
    """Connect, then the topic, then the group; and taken away while it runs."""
    msk.let("DescribeTopic")
    mapping = world.add(msk.source, {})

    async def scenario() -> None:
        await world.becomes(mapping, LoginFailed.problem)
        assert "login by OAUTHBEARER" in world.reason(mapping)
        msk.let("Connect")
        await world.becomes(mapping, AccessDenied.problem)
        await until(lambda: "TopicAuth" in world.reason(mapping), lambda: world.told(mapping))
        msk.let("Connect", "DescribeTopic", "ReadData")
        await until(lambda: "GroupAuth" in world.reason(mapping), lambda: world.told(mapping))
        await world.produce(mapping)
        msk.let(*RIGHTS)
        await world.becomes(mapping, "OK")
        await world.commits(mapping, 1)
        msk.let("Connect", "DescribeTopic", "DescribeGroup", "AlterGroup")
        await world.becomes(mapping, AccessDenied.problem)
        await world.produce(mapping)
        msk.let(*RIGHTS)
        await world.delivers(mapping, 2)
        await world.becomes(mapping, "OK")

    world.run(scenario)
    assert world.seen(mapping) == [0, 1]
