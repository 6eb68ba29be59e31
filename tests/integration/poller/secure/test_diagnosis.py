"""Why a cluster cannot be entered is told by broker, step and error; ours and Apache Kafka alike."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.fakes.certificates import DAY, Authority
from tests.integration.poller.secure.closed_kafka import ClosedKafka
from tests.integration.poller.secure.msk import Msk
from tidemill_poller.errors import ClientNotTrusted, LoginFailed, ServerNotTrusted, SourceUnavailable
from tidemill_poller.kafka_auth import ClientOptions
from tidemill_poller.kafka_auth.tls import client_context
from tidemill_poller.source.connecting import diagnose


class Door:
    """The listeners of a broker, and a context that trusts it."""

    def __init__(self, servers: Mapping[str, str], trusting: ssl.SSLContext) -> None:
        self.servers, self.trusting = servers, trusting

    def fault(self, listener: str, **options: Any) -> SourceUnavailable | None:
        given = ClientOptions(bootstrap_servers="", **options)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(diagnose(given, [self.servers[listener]]))


@pytest.fixture
def ours(msk: Msk) -> Door:
    ports = msk.broker.ready["listeners"]
    servers = {"plaintext": ports["plaintext"], "sasl": ports["scram"], "tls": ports["tls"]}
    return Door(
        {name: f"localhost:{port}" for name, port in servers.items()},
        client_context(ca_file=msk.certificates / "ca.pem"),
    )


@pytest.fixture
def apache(kafka: ClosedKafka, authority: Authority) -> Door:
    servers = kafka.servers | {"sasl": kafka.servers["scram"]}
    return Door(servers, client_context(ca_file=None, root_ca=authority.pem))


@pytest.fixture(params=["ours", pytest.param("apache", marks=pytest.mark.kafka)])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.getfixturevalue(request.param)
    return found


def wrong(mechanism: str) -> dict[str, Any]:
    return {"sasl_mechanism": mechanism, "username": "nobody", "password": "planted"}


def test_what_is_open_has_no_fault(door: Door) -> None:
    assert door.fault("plaintext") is None


@pytest.mark.parametrize("listener", ["tls", "sasl"])
def test_plaintext_where_more_is_wanted(door: Door, listener: str) -> None:
    told = f"{door.servers[listener]}: first request", "does this listener want TLS, or a login?"
    expect(door.fault(listener), SourceUnavailable, *told)


def test_tls_where_none_is_spoken(door: Door) -> None:
    fault = door.fault("plaintext", ssl_context=door.trusting)
    expect(fault, SourceUnavailable, "TLS handshake", "does this listener speak TLS?")


def test_tls_without_a_login_where_one_is_wanted(door: Door) -> None:
    fault = door.fault("sasl", ssl_context=door.trusting)
    expect(fault, ClientNotTrusted, "first request", "a client certificate, or a login?")


def test_a_certificate_of_an_unknown_ca(door: Door) -> None:
    fault = door.fault("tls", ssl_context=client_context(ca_file=None))
    expect(fault, ServerNotTrusted, "TLS handshake", "TIDEMILL_POLLER_CA_FILE")


@pytest.mark.parametrize(
    ("hosts", "valid_for", "told"),
    [(("elsewhere.example",), DAY, "Hostname mismatch"), (("localhost",), -DAY, "certificate has expired")],
)
def test_a_certificate_of_another_host_or_of_the_past(
    authority: Authority, tmp_path: Path, hosts: tuple[str, ...], valid_for: timedelta, told: str
) -> None:
    """Whatever CA is trusted."""
    (tmp_path / "server.pem").write_text(
        authority.issue("server", hosts=hosts, valid_for=valid_for).keystore_pem
    )
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(tmp_path / "server.pem")
    trusting = client_context(ca_file=None, root_ca=authority.pem)

    async def attempt() -> SourceUnavailable | None:
        async with await asyncio.start_server(lambda *_: None, "localhost", 0, ssl=serving) as server:
            address = f"localhost:{server.sockets[0].getsockname()[1]}"
            return await diagnose(ClientOptions(bootstrap_servers="", ssl_context=trusting), [address])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        expect(runner.run(attempt()), ServerNotTrusted, "TLS handshake", told)


def test_a_wrong_password(door: Door) -> None:
    fault = door.fault("sasl", ssl_context=door.trusting, **wrong("SCRAM-SHA-512"))
    expect(fault, LoginFailed, "login by SCRAM-SHA-512", "SaslAuthenticationFailed")


def test_a_mechanism_that_is_not_offered(door: Door) -> None:
    async def sign() -> str:
        return "planted"

    fault = door.fault("sasl", ssl_context=door.trusting, sasl_mechanism="OAUTHBEARER", sign=sign)
    expect(fault, LoginFailed, "login by OAUTHBEARER", "this listener does not offer that mechanism")


def test_a_token_that_cannot_be_signed(door: Door) -> None:
    async def sign() -> str:
        raise LoginFailed("No token can be signed: Unable to locate credentials")

    fault = door.fault("sasl", ssl_context=door.trusting, sasl_mechanism="OAUTHBEARER", sign=sign)
    assert fault is not None
    assert isinstance(fault, LoginFailed)


def expect(fault: SourceUnavailable | None, kind: type[SourceUnavailable], *told: str) -> None:
    assert type(fault) is kind, fault
    assert [part for part in told if part not in str(fault)] == [], fault
    assert "planted" not in str(fault)
