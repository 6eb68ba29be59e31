"""TLS contexts verify chain and host, whatever is given, and leave no key behind."""

from __future__ import annotations

import os
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.certificates import Authority
from tidemill_poller.errors import CertificateInvalid, InvalidSettings
from tidemill_poller.kafka_auth.certificates import ClientCertificate, read_client_certificate
from tidemill_poller.kafka_auth.secrets import Secret
from tidemill_poller.kafka_auth.tls import client_context


def client_certificate(authority: Authority) -> ClientCertificate:
    issued = authority.issue("client")
    text = f'{{"certificate": {_json(issued.chain_pem)}, "privateKey": {_json(issued.key_pem)}}}'
    return read_client_certificate(Secret(id="s", version="1", text=text), now=datetime.now(UTC))


def _json(pem: str) -> str:
    return '"' + pem.replace("\n", "\\n") + '"'


def test_chain_and_host_are_verified_whatever_is_given() -> None:
    authority = Authority()
    for context in (
        client_context(ca_file=None),
        client_context(ca_file=None, root_ca=authority.pem, certificate=client_certificate(authority)),
    ):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_further_cas_are_trusted_beside_the_system_s(tmp_path: Path) -> None:
    first, second = Authority("First"), Authority("Second")
    (tmp_path / "ca.pem").write_text(first.pem)
    context = client_context(ca_file=tmp_path / "ca.pem", root_ca=second.pem)
    system = len(client_context(ca_file=None).get_ca_certs())
    assert len(context.get_ca_certs()) == system + 2


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidSettings, match=f"TIDEMILL_POLLER_CA_FILE: {file} cannot be used"):
        client_context(ca_file=file)


def test_a_key_is_shown_without_a_file_in_memory_too_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on other systems than Linux; what lies on the disk for a moment is encrypted."""
    certificate = client_certificate(Authority())
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client_context(ca_file=None, certificate=certificate)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_openssl_rejects_is_a_fault_of_the_certificate() -> None:
    """RSA of 1024 bits: too short for the security level that OpenSSL 3 begins with."""
    authority = Authority()
    weak = rsa.generate_private_key(65537, 1024)
    issued = authority.issue("weak", key=weak)
    with pytest.raises(CertificateInvalid, match=r"OpenSSL does not take .* arn:secret"):
        client_context(
            ca_file=None,
            certificate=ClientCertificate(
                secret_id="arn:secret", chain_pem=issued.chain_pem.encode(), key=weak
            ),
        )
