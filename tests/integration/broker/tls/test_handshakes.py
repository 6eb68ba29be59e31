"""Who gets through a TLS listener, as whom; whoever does not is told why, and so is the audit log."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.certificates import DAY, Authority
from tests.fakes.raw_kafka import Disconnected, RawKafka
from tests.harness.processes import wait_until
from tests.harness.tls_broker import TlsBroker, tls_broker
from tidemill_broker.commands import init_tls

METADATA, CREATE_TOPICS, DESCRIBE_CLUSTER = 3, 19, 60
API_VERSIONS_FRAME = bytes.fromhex("0012 0000 00000007 ffff")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    rules = "RULE:^CN=mapped-([a-z]+).*$/$1/,RULE:^CN=refused$//,DEFAULT"
    with tls_broker(
        tmp_path_factory.mktemp("secured"),
        ssl_principal_mapping_rules=rules,
        allow_everyone_if_no_acl_found="false",  # so the audit log tells who was denied
    ) as running:
        yield running


def client(running: TlsBroker, name: str) -> Path:
    """The keystore of CN=name, by the broker's CA."""
    assert init_tls.main([str(running.tls_dir), "--client", name]) == 0
    return running.tls_dir / f"{name}.pem"


def principal(running: TlsBroker, keystore: Path | None, listener: str = "tls") -> str:
    """Who the broker says this client is."""
    context = None if listener == "plaintext" else running.trusting(keystore)
    with closing(RawKafka(running.port(listener), context)) as asking:
        topics = [{"name": "t", "num_partitions": 1, "replication_factor": 1}]
        asking.ask(CREATE_TOPICS, 7, topics=topics)
        port = asking._socket.getsockname()[1]
    line = wait_until(lambda: denied(running, port), what="a line of the audit log")
    found = re.search(r"principal=(\S+)", line)
    assert found is not None, line
    return found[1]


def rejects(running: TlsBroker, listener: str, context: ssl.SSLContext) -> None:
    """The handshake succeeds, and nothing is answered."""
    asking = RawKafka(running.port(listener), context)
    with closing(asking), pytest.raises(Disconnected):
        asking.ask(METADATA, 9, topics=[])


def denied(running: TlsBroker, port: int) -> str | None:
    lines = (line for line in running.audited() if f":{port}" in line and " denied " in line)
    return next(lines, None)


def failed_login(running: TlsBroker, listener: str, reason: str) -> str:
    """The audit line of a login that failed for this reason."""
    return wait_until(
        lambda: next(
            (line for line in running.audited() if f"listener={listener}" in line and reason in line), None
        ),
        what=f"an audit line that says {reason!r}",
    )


@pytest.mark.parametrize(
    ("name", "user"),
    [("alice", '"User:CN=alice"'), ("mapped-duke", "User:duke"), (None, "User:ANONYMOUS")],
)
def test_a_client_is_whom_its_certificate_names(secured: TlsBroker, name: str | None, user: str) -> None:
    assert principal(secured, None if name is None else client(secured, name)) == user


def test_a_client_in_the_clear_is_nobody(secured: TlsBroker) -> None:
    assert principal(secured, None, "plaintext") == "User:ANONYMOUS"


def test_a_certificate_that_the_rules_leave_no_user_does_not_come_in(secured: TlsBroker) -> None:
    rejects(secured, "tls", secured.trusting(client(secured, "refused")))
    line = failed_login(secured, "tls", "ssl.principal.mapping.rules leave nothing")
    assert "claimed=" in line
    assert "CN=refused" in line


@pytest.mark.parametrize(
    ("case", "alert", "reason"),
    [
        ("of another CA", "unknown ca", "self-signed certificate in certificate chain"),
        ("expired", "certificate expired", "certificate has expired"),
        ("for a server only", "unsupported certificate", "unsuitable certificate purpose"),
    ],
)
def test_a_certificate_that_does_not_verify_is_rejected_with_tlss_alert(
    secured: TlsBroker, tmp_path: Path, case: str, alert: str, reason: str
) -> None:
    keystore = tmp_path / "client.pem"
    if case == "of another CA":
        keystore.write_text(Authority().issue("alice").keystore_pem)
    elif case == "expired":
        keystore.write_text(expired_client(secured.tls_dir))
    else:
        keystore = secured.tls_dir / "broker.pem"
    with pytest.raises(ssl.SSLError, match=alert.replace(" ", "[ _]")):
        greet(secured.port("tls"), secured.trusting(keystore), "127.0.0.2")
    failed_login(secured, "tls", reason)


def expired_client(tls_dir: Path) -> str:
    """A keystore of CN=late by the broker's CA, whose day is over."""
    script = (
        f"cd {tls_dir} && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        " -subj /CN=late -keyout late.key"
        " | openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -out late.crt"
    )
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    return (tls_dir / "late.key").read_text() + (tls_dir / "late.crt").read_text()


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """From an address of its own, for the audit log tells each only some of its failures."""
    return socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))


def greet(port: int, context: ssl.SSLContext, source: str = "127.0.0.1") -> bytes:
    """Ask for the versions; in TLS 1.3 a client hears of its refusal only when it reads."""
    with (
        connect(port, source) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(len(API_VERSIONS_FRAME).to_bytes(4, "big") + API_VERSIONS_FRAME)
        return tls.recv(4)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(secured: TlsBroker, version: ssl.TLSVersion) -> None:
    context = secured.trusting(secured.tls_dir / "alice.pem")
    context.minimum_version = context.maximum_version = version
    assert len(greet(secured.port("tls"), context)) == 4


def test_only_tls_1_2_resumes_sessions(secured: TlsBroker) -> None:
    """TLS 1.2 has tickets; in TLS 1.3 the broker gives none, so each connection shows its certificate."""
    for version, resumes in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, False)):
        context = secured.trusting(secured.tls_dir / "alice.pem")
        context.minimum_version = context.maximum_version = version
        session: ssl.SSLSession | None = None
        for reused in (False, resumes):
            with (
                connect(secured.port("tls")) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
            ):
                tls.sendall(len(API_VERSIONS_FRAME).to_bytes(4, "big") + API_VERSIONS_FRAME)
                assert len(tls.recv(4)) == 4
                assert tls.session_reused is reused
                session = tls.session if resumes else None


def test_tls_1_1_is_not(secured: TlsBroker) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secured.port('tls')}", "-tls1_1", "-cipher"]
    done = subprocess.run(
        [*command, "ALL:@SECLEVEL=0"], input="", capture_output=True, text=True, check=False
    )
    assert "alert protocol version" in done.stderr
    failed_login(secured, "tls", "unsupported protocol (older than TLS 1.2)")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (len(API_VERSIONS_FRAME).to_bytes(4, "big") + API_VERSIONS_FRAME, "no TLS at all"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP on a Kafka listener"),
    ],
)
@pytest.mark.parametrize("listener", ["tls", "scram", "iam"])
def test_bytes_in_the_clear_end_the_connection_of_a_tls_listener(
    secured: TlsBroker, listener: str, content: bytes, reason: str
) -> None:
    with connect(secured.port(listener), "127.0.0.3") as plain:
        plain.sendall(content)
        while plain.recv(100):  # an alert, perhaps
            pass
    failed_login(secured, listener, reason)


def test_sasl_listeners_ask_for_no_certificate_and_believe_none(secured: TlsBroker, tmp_path: Path) -> None:
    keystore = tmp_path / "client.pem"
    keystore.write_text(Authority().issue("alice", valid_for=-DAY).keystore_pem)
    assert len(greet(secured.port("scram"), secured.trusting(keystore))) == 4


@pytest.mark.parametrize("listener", ["scram", "iam"])
def test_nothing_is_served_before_a_login(secured: TlsBroker, listener: str) -> None:
    rejects(secured, listener, secured.trusting())


def test_every_client_is_told_the_address_of_its_own_listener(secured: TlsBroker) -> None:
    for listener, context in (("plaintext", None), ("tls", secured.trusting(secured.tls_dir / "alice.pem"))):
        with closing(RawKafka(secured.port(listener), context)) as asking:
            told = {(node.host, node.port) for node in asking.ask(METADATA, 9, topics=[]).brokers}
            told |= {(node.host, node.port) for node in asking.ask(DESCRIBE_CLUSTER, 0).brokers}
        assert told == {("127.0.0.1", secured.port(listener))}


def test_a_client_of_another_ca_may_not_pretend_to_be_the_broker(secured: TlsBroker) -> None:
    """The client's side: it trusts the folder's CA only, and the names that init-tls put in."""
    for host in ("localhost", "127.0.0.1"):
        with connect(secured.port("tls")) as plain:
            secured.trusting().wrap_socket(plain, server_hostname=host).close()
    with (
        connect(secured.port("tls")) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    failed_login(secured, "tls", "the client does not trust the broker's CA")
    with connect(secured.port("tls")) as plain, pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        secured.trusting().wrap_socket(plain, server_hostname="other.example")
    failed_login(secured, "tls", "rejects the broker's certificate: its name or its dates")
