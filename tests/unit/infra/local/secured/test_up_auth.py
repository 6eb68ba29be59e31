"""What `--auth` means, and what `up` says and writes for it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from cryptography import x509

from tidemill_broker.auth.tls import issuing
from tidemill_broker.listeners import PORTS, ListenerName
from tidemill_cli.announcement import announcement
from tidemill_cli.errors import UserError, explain
from tidemill_cli.run import up
from tidemill_local.auth import broker_settings, check_ports, listeners, parse_auth
from tidemill_local.launcher import Ready
from tidemill_local.programs import Programs
from tidemill_local.secured.access import Access, certificate_secret, make_certificates
from tidemill_local.settings import read_settings


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ("none", ("plaintext",)),
        ("iam", ("iam",)),
        (" IAM, scram ,mtls", ("iam", "scram", "tls")),
        ("plain", ("scram",)),
        ("mtls,none", ("plaintext", "tls")),
    ],
)
def test_each_mechanism_opens_its_listener_and_only_none_the_plaintext_one(
    text: str, opened: tuple[str, ...]
) -> None:
    assert listeners(parse_auth(text)) == opened


@pytest.mark.parametrize("text", ["", ",", "scram,kerberos", "all"])
def test_what_is_no_mechanism_is_rejected_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match="takes none, iam, scram, mtls, plain, separated by commas"):
        parse_auth(text)


@pytest.mark.parametrize(
    ("asked", "flags"),
    [
        ({"auth": "iam,scram", "iam_port": 9098, "scram_port": 9098}, "--iam-port and --scram-port"),
        ({"auth": "iam", "iam_port": 9098, "port": 9098}, "--port and --iam-port"),
    ],
)
def test_two_listeners_on_one_port_are_rejected_at_once(
    tmp_path: Path, asked: dict[str, Any], flags: str
) -> None:
    with pytest.raises(UserError, match=f"^{flags} are both 9098: give each a port of its own, or 0.$"):
        up(data_dir=tmp_path / "none", **asked)
    assert not (tmp_path / "none").exists()


def test_any_free_port_may_be_asked_for_twice_and_what_is_closed_has_none() -> None:
    check_ports({"--port": 0, "--iam-port": 0, "--scram-port": 9096})
    ports = {**PORTS, "tls": PORTS["iam"]}
    assert read_settings(auth=parse_auth("iam"), ports=ports).listeners == {"iam": 9098}


def test_a_certificate_is_demanded_unless_everybody_may_come() -> None:
    assert broker_settings(parse_auth("mtls"), "")["ssl.client.auth"] == "required"
    assert broker_settings(parse_auth("mtls,none"), "")["ssl.client.auth"] == "requested"


def test_plain_is_offered_only_when_asked_for() -> None:
    assert "PLAIN" not in broker_settings(parse_auth("scram"), "")["sasl.enabled.mechanisms"]
    assert broker_settings(parse_auth("plain"), "")["sasl.enabled.mechanisms"].endswith(",PLAIN")


def test_with_iam_the_programs_sign_as_the_brokers_administrator() -> None:
    """The user's own AWS credentials are nobody's in this Kafka; without iam they stay."""
    own = {
        "AWS_ACCESS_KEY_ID": "own",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_PROFILE": "p",
    }
    environs = {
        auth: Programs(read_settings(auth=parse_auth(auth), environ=own), "http://127.0.0.1:1", 0).environ
        for auth in ("iam", "scram")
    }
    assert {name: environs["iam"].get(name) for name in own} == {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_SESSION_TOKEN": None,
        "AWS_PROFILE": None,
    }
    assert own.items() <= environs["scram"].items()


def test_what_is_announced_holds_no_secret(tmp_path: Path) -> None:
    """Secrets are in the files that are named, each readable for its user only."""
    settings = read_settings(data_dir=tmp_path, auth=parse_auth("iam,scram,mtls,plain"), environ={})
    access = Access(settings, {})
    access.prepare()
    servers: dict[ListenerName, str] = {
        name: f"127.0.0.1:{port}" for name, port in settings.listeners.items()
    }
    clients = access.write_clients(servers)
    ready = Ready(
        endpoint_url="http://127.0.0.1:1",
        bootstrap_servers="127.0.0.1:2",
        listeners=servers,
        cluster_arn="arn",
        region="us-east-1",
        pids={},
    )
    said = announcement(ready, clients, settings)
    kept = clients[0].kept
    written = "".join(file.read_text() for file in settings.clients_dir.iterdir())
    for secret in (kept.scram_password, kept.secret_access_key):
        assert secret in written
        assert secret not in said + repr(clients) + repr(kept)
    assert all(client.servers in said for client in clients)
    assert {file.stat().st_mode & 0o777 for file in settings.clients_dir.iterdir()} == {0o600}


def clients_of(data_dir: Path, auth: str) -> set[str]:
    settings = read_settings(data_dir=data_dir, auth=parse_auth(auth), environ={})
    access = Access(settings, {})
    access.prepare()
    access.write_clients({name: f"127.0.0.1:{port}" for name, port in settings.listeners.items()})
    return {file.name.partition(".")[0].partition("_")[0] for file in settings.clients_dir.iterdir()}


def test_client_files_are_those_of_the_mechanisms_that_are_on(tmp_path: Path) -> None:
    """A file of another start would name a port that is closed, or an old password."""
    assert clients_of(tmp_path, "iam,mtls,plain") == {"iam", "mtls", "scram", "plain"}
    assert clients_of(tmp_path, "scram") == {"scram"}


def test_who_lists_topics_without_credentials_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients_of(tmp_path, "iam")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match=r"no AWS credentials: .*iam\.env"):
        runpy.run_path(str(tmp_path / "clients" / "iam_python.py"), run_name="__main__")


@pytest.mark.parametrize("name", ["broker.pem", "client.pem"])
def test_a_certificate_of_another_ca_is_rejected_before_anything_starts(tmp_path: Path, name: str) -> None:
    """Else each program starts, and none trusts another."""
    make_certificates(tmp_path / "ours")
    make_certificates(tmp_path / "foreign")
    (tmp_path / "ours" / name).write_bytes((tmp_path / "foreign" / name).read_bytes())
    with pytest.raises(ValueError, match=f"{name} was not issued by the CA beside it.*: delete it, and run"):
        make_certificates(tmp_path / "ours")
    (tmp_path / "ours" / name).unlink()
    make_certificates(tmp_path / "ours")


@pytest.mark.parametrize("name", ["broker.pem", "client.pem"])
def test_an_expired_certificate_is_rejected_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_certificates(tmp_path)
    (tmp_path / name).unlink()
    with monkeypatch.context() as patched:
        patched.setattr(issuing, "DAYS", 0)
        authority = issuing.Authority.open(tmp_path)
        authority.issue_broker(()) if name == "broker.pem" else authority.issue_client("client")
    with pytest.raises(ValueError, match=rf"{name} expired on [0-9-]+: delete it, and run this again"):
        make_certificates(tmp_path)


def test_who_is_denied_is_told_where_the_missing_right_is_named() -> None:
    problem = explain(TopicAuthorizationFailedError("orders"))
    assert problem is not None
    assert "tidemill_broker.audit denied" in str(problem.hint)


def test_a_certificates_secret_holds_key_and_chain_up_to_the_root() -> None:
    """The form of CLIENT_CERTIFICATE_TLS_AUTH; the root is added where the chain lacks it."""
    key = "-----BEGIN PRIVATE KEY-----\nk\n-----END PRIVATE KEY-----\n"
    certificate = "-----BEGIN CERTIFICATE-----\nc\n-----END CERTIFICATE-----\n"
    root = "-----BEGIN CERTIFICATE-----\nr\n-----END CERTIFICATE-----\n"
    expected = {"privateKey": key, "certificate": certificate + root}
    assert certificate_secret(key + certificate, root) == expected
    assert certificate_secret(key + certificate + root, root) == expected


def test_the_brokers_certificate_is_for_the_host_that_clients_are_told(tmp_path: Path) -> None:
    """Else they find it at `--host`, and do not trust it."""
    settings = read_settings(data_dir=tmp_path, host="10.0.0.5", auth=parse_auth("mtls"), environ={})
    Access(settings, {}).prepare()
    certificate = x509.load_pem_x509_certificates((settings.tls_dir / "broker.pem").read_bytes())[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert {"10.0.0.5", "127.0.0.1"} <= set(addresses)
