"""What a secret must hold; each fault names the secret and the fix, and never what the secret holds."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from tests.fakes.certificates import DAY, Authority, Issued
from tidemill_poller.errors import CertificateInvalid, SecretInvalid
from tidemill_poller.kafka_auth.certificates import read_client_certificate, read_root_ca
from tidemill_poller.kafka_auth.options import ClientOptions
from tidemill_poller.kafka_auth.secrets import Secret, read_login
from tidemill_poller.kafka_auth.tls import client_context

NOW = datetime.now(UTC)


def secret(text: str = "", **content: object) -> Secret:
    return Secret(id="arn:secret", version="1", text=text or json.dumps(content))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def issued(authority: Authority) -> Issued:
    return authority.issue("client")


def test_a_login_is_user_and_password_and_whatever_else_there_is() -> None:
    login = read_login(secret(username="u", password="p", engine="kafka"))
    assert (login.username, login.password) == ("u", "p")


@pytest.mark.parametrize(
    ("held", "fault"),
    [
        (secret("planted"), "is no JSON object"),
        (secret('["planted"]'), "is no JSON object"),
        (secret(password="planted"), "has no text under 'username'"),
        (secret(username="planted"), "has no text under 'password'"),
        (secret(username="u", password=""), "has no text under 'password'"),
        (secret(username="u", password=["planted"]), "has no text under 'password'"),
        (secret(username="u", password="planted\ud800"), "half a character .* under 'password'"),
        (secret('{"planted":' * 20_000), "is no JSON object"),
    ],
)
def test_a_login_that_cannot_be_read_names_the_secret_and_what_is_missing(held: Secret, fault: str) -> None:
    with pytest.raises(SecretInvalid, match=fault) as raised:
        read_login(held)
    assert "arn:secret" in str(raised.value)
    assert raised.value.problem == "PROBLEM: SASL authentication failed."
    assert_untold(raised.value)


def test_keys_are_taken_plain_and_encrypted_by_pbes1(issued: Issued) -> None:
    plain = secret(certificate=issued.chain_pem, privateKey=issued.key_pem)
    locked = secret(
        certificate=issued.chain_pem, privateKey=issued.pbes1("planted"), privateKeyPassword="planted"
    )
    for held in (plain, locked):
        read = read_client_certificate(held, now=NOW)
        assert read.key.public_key() == issued.key.public_key()
        client_context(ca_file=None, certificate=read)


def test_a_key_encrypted_by_pbes2_is_rejected_as_on_aws(issued: Issued) -> None:
    locked = issued.encrypted(BestAvailableEncryption(b"planted"))
    held = secret(certificate=issued.chain_pem, privateKey=locked, privateKeyPassword="planted")
    with pytest.raises(CertificateInvalid, match=r"PBES2, which AWS does not take.*PBE-SHA1-3DES") as raised:
        read_client_certificate(held, now=NOW)
    assert_untold(raised.value)


def certificate_faults(issued: Issued, authority: Authority) -> list[tuple[str, dict[str, str], str]]:
    chain, key = issued.chain_pem, issued.key_pem
    locked = issued.pbes1("planted")
    pkcs1 = subprocess.run(["openssl", "ec"], input=key, capture_output=True, text=True, check=True).stdout
    return [
        ("no key", {"certificate": chain}, "has no text under 'privateKey'"),
        ("no certificate", {"privateKey": key}, "has no text under 'certificate'"),
        ("no PEM", {"certificate": "planted", "privateKey": key}, "'certificate' is not in PEM"),
        (
            "one line",
            {"certificate": chain.replace("\n", " "), "privateKey": key},
            "begins and ends with its own line",
        ),
        ("not PKCS#8", {"certificate": chain, "privateKey": pkcs1}, "not in PKCS#8.*openssl pkcs8 -topk8"),
        ("damaged", {"certificate": chain, "privateKey": key[:80] + key[90:]}, "it is damaged"),
        ("no password", {"certificate": chain, "privateKey": locked}, "no text under 'privateKeyPassword'"),
        (
            "wrong password",
            {"certificate": chain, "privateKey": locked, "privateKeyPassword": "planted-2"},
            "'privateKeyPassword' does not open 'privateKey'",
        ),
        (
            "half a character",
            {"certificate": chain, "privateKey": locked, "privateKeyPassword": "planted\ud800"},
            "half a character .* under 'privateKeyPassword'",
        ),
        (
            "another's key",
            {"certificate": authority.issue("other").chain_pem, "privateKey": key},
            "does not belong to the first certificate",
        ),
        (
            "root first",
            {"certificate": authority.pem + chain, "privateKey": key},
            "the client's own comes first",
        ),
    ]


def test_a_certificate_that_cannot_be_used_is_reported_with_the_fix(
    issued: Issued, authority: Authority
) -> None:
    for name, content, fault in certificate_faults(issued, authority):
        with pytest.raises(CertificateInvalid, match=fault) as raised:
            read_client_certificate(secret(**content), now=NOW)
        assert "arn:secret" in str(raised.value), name
        assert raised.value.problem == "PROBLEM: Provided certificate or private key is invalid."
        assert_untold(raised.value)


def test_what_stands_around_certificates_does_not_count(issued: Issued, authority: Authority) -> None:
    around = "# Größe: 1\r\n" + authority.issue("other").key_pem
    held = secret(certificate=around + issued.chain_pem, privateKey=issued.key_pem)
    certificate = read_client_certificate(held, now=NOW)
    root_ca = read_root_ca(secret(certificate=around + authority.pem.replace("\n", "\r\n")))
    client_context(ca_file=None, root_ca=root_ca, certificate=certificate)


@pytest.mark.parametrize("at", [NOW - 3 * DAY, NOW + 2 * DAY])
def test_a_certificate_out_of_its_time_is_rejected(issued: Issued, at: datetime) -> None:
    held = secret(certificate=issued.chain_pem, privateKey=issued.key_pem)
    with pytest.raises(CertificateInvalid, match="UTC only: renew it"):
        read_client_certificate(held, now=at)


def test_a_root_ca_is_pem_or_rejected(authority: Authority) -> None:
    assert read_root_ca(secret(certificate=authority.pem)) == authority.pem
    with pytest.raises(CertificateInvalid, match="not in PEM"):
        read_root_ca(secret(certificate="MIIB"))


def test_no_repr_shows_a_secret(issued: Issued) -> None:
    held = secret(username="planted-user", password="planted", certificate=issued.chain_pem)
    options = ClientOptions(bootstrap_servers="a:1", username="planted-user", password="planted")
    certificate = read_client_certificate(
        secret(certificate=issued.chain_pem, privateKey=issued.key_pem), now=NOW
    )
    for value in (held, read_login(held), options):
        assert "planted" not in repr(value)
    assert "key" not in repr(certificate)


def assert_untold(error: BaseException | None) -> None:
    """Nothing of the secret in an error, or in those that it came of."""
    while error is not None:
        assert "planted" not in f"{error} {error!r} {vars(error)}"
        assert "planted" not in str(getattr(error, "doc", ""))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
