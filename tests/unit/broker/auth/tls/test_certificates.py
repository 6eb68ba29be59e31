"""The broker's certificate and its clients' CAs: each fault of the files, and their exchange."""

from __future__ import annotations

import logging
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.fakes.certificates import DAY, Authority, Issued
from tidemill_broker.auth.tls.certificates import Certificates
from tidemill_broker.auth.tls.contexts import TlsFault

CA = Authority()
HOSTS = ("localhost", "127.0.0.1")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A keystore and a truststore."""
    keystore, truststore = tmp_path / "broker.pem", tmp_path / "ca.pem"
    keystore.write_text(CA.issue("broker", hosts=HOSTS).keystore_pem)
    keystore.chmod(0o600)
    truststore.write_text(CA.pem)
    return keystore, truststore


def encrypted(issued: Issued) -> str:
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:secret"]
    key = subprocess.run(command, input=issued.key_pem, capture_output=True, text=True, check=True).stdout
    return key + issued.chain_pem


def faulty(fault: str) -> str:
    issued = CA.issue("broker", hosts=HOSTS)
    return {
        "another's key": CA.issue("x").key_pem + issued.chain_pem,
        "no key": issued.chain_pem,
        "no certificate": issued.key_pem,
        "an encrypted key": encrypted(issued),
        "no PEM": "nonsense",
        "half": issued.keystore_pem[: len(issued.keystore_pem) // 2],
        "expired": CA.issue("broker", hosts=HOSTS, valid_for=-DAY).keystore_pem,
    }[fault]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("another's key", "its private key does not belong to its first certificate"),
        ("no key", "it needs a private key and a certificate, both in PEM"),
        ("no certificate", "it needs a private key and a certificate, both in PEM"),
        ("an encrypted key", "write its key without a password"),
        ("no PEM", "it needs a private key and a certificate, both in PEM"),
        ("half", "is no keystore in PEM"),
        ("expired", "no client would take it; make a new one by `tidemill broker init-tls DIR --renew`"),
    ],
)
def test_a_keystore_that_cannot_be_used_is_rejected_with_its_fix(
    files: tuple[Path, Path], fault: str, said: str
) -> None:
    keystore, truststore = files
    keystore.write_text(faulty(fault))
    with pytest.raises(TlsFault) as raised:
        Certificates(keystore, truststore, "requested")
    assert str(keystore) in str(raised.value)
    assert said in str(raised.value)
    assert "PRIVATE" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read (No such file or directory)"), ("x", "holds no CA certificates in PEM")],
)
def test_a_truststore_that_cannot_be_used_is_rejected(
    files: tuple[Path, Path], content: str | None, said: str
) -> None:
    keystore, truststore = files
    truststore.unlink()
    if content is not None:
        truststore.write_text(content)
    with pytest.raises(TlsFault, match=said.replace("(", r"\(").replace(")", r"\)")):
        Certificates(keystore, truststore, "required")
    with pytest.raises(TlsFault, match=r"ssl.truststore.location is not set"):
        Certificates(keystore, None, "requested")
    assert Certificates(keystore, None, "none").names == set(HOSTS)


def test_only_one_of_the_contexts_asks_for_certificates(files: tuple[Path, Path]) -> None:
    for client_auth, mode in (
        ("none", ssl.CERT_NONE),
        ("requested", ssl.CERT_OPTIONAL),
        ("required", ssl.CERT_REQUIRED),
    ):
        certificates = Certificates(*files, client_auth)  # type: ignore[arg-type]  # the literals above
        assert certificates.context(verifies=True).verify_mode is mode
        assert certificates.context(verifies=False).verify_mode is ssl.CERT_NONE


def test_changed_files_are_taken_up_once(files: tuple[Path, Path]) -> None:
    keystore, _ = files
    certificates = Certificates(*files, "requested")
    before = certificates.context(verifies=True)
    assert not certificates.reload()
    assert certificates.context(verifies=True) is before
    keystore.write_text(CA.issue("broker", hosts=("kafka.local",)).keystore_pem)
    assert certificates.reload()
    assert not certificates.reload()
    assert certificates.context(verifies=True) is not before
    assert certificates.names == {"kafka.local"}


@pytest.mark.parametrize("fault", ["another's key", "half", "expired"])
def test_files_that_became_unusable_change_nothing_but_the_log(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    keystore, _ = files
    certificates = Certificates(*files, "requested")
    before = certificates.context(verifies=True)
    keystore.write_text(faulty(fault))
    for _ in range(3):
        assert not certificates.reload()
    assert certificates.context(verifies=True) is before
    (line,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert line.startswith("keeping the certificates that were read before: ")
    keystore.unlink()
    assert not certificates.reload()
    keystore.write_text(CA.issue("broker", hosts=HOSTS).keystore_pem)
    assert certificates.reload()


def test_a_key_that_others_may_read_is_told(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    files[0].chmod(0o640)
    Certificates(*files, "requested")
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("kafka.example.com", "::1"), None),
        (("KAFKA.example.com.", "0:0:0:0:0:0:0:1"), None),
        (("*.example.com", "::1"), None),
        (("*.com", "::1"), "kafka.example.com"),
        (("*.kafka.example.com", "example.com", "::1"), "kafka.example.com"),
        (("kafka.example.com", "localhost"), "::1"),
        ((), "kafka.example.com"),
    ],
)
def test_an_advertised_host_that_the_certificate_does_not_name_is_told_once(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture, names: tuple[str, ...], told: str | None
) -> None:
    keystore, _ = files
    keystore.write_text(CA.issue("broker", hosts=("kafka.example.com", "::1")).keystore_pem)
    advertised = {"scram": "kafka.example.com", "iam": "kafka.example.com", "tls": "::1"}
    certificates = Certificates(*files, "requested", advertised=advertised)
    assert not caplog.messages
    keystore.write_text(CA.issue("broker", hosts=names).keystore_pem)
    assert certificates.reload()
    assert not certificates.reload()
    about = [line for line in caplog.messages if f"told to connect to {told}," in line]
    assert len(about) == (told is not None)
    assert len(caplog.messages) == len(set(advertised.values()) if not names else about)
    for line in about:
        assert f"clients of {'tls' if told == '::1' else 'scram, iam'} are told" in line
        assert f"`tidemill broker init-tls DIR --host {told}`" in line
