"""A certificate authority of a test's own: issues certificates for brokers and clients, in PEM.

They name their issuer's key, which Python 3.13 asks for (ssl.VERIFY_X509_STRICT, by RFC 5280).
"""

from __future__ import annotations

import ipaddress
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)
_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate, the chain up to its root, and its key."""

    certificate: x509.Certificate
    chain_pem: str
    key: Key

    @property
    def key_pem(self) -> str:
        return self.encrypted(NoEncryption())

    @property
    def keystore_pem(self) -> str:
        """Key, then chain: one file, as Kafka and TLS servers read it."""
        return self.key_pem + self.chain_pem

    def encrypted(self, how: KeySerializationEncryption) -> str:
        """The key in PKCS#8."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()

    def pbes1(self, password: str) -> str:
        """The key as AWS takes it; nothing but OpenSSL's command encrypts by PBES1 any more."""
        command = ["openssl", "pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES", "-passout", f"pass:{password}"]
        done = subprocess.run(command, input=self.key_pem, capture_output=True, text=True, check=True)
        return done.stdout


class Authority:
    """One root."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._root = (
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return _pem(self._root)

    def issue(
        self,
        common_name: str,
        *,
        hosts: tuple[str, ...] = (),
        valid_for: timedelta = DAY,
        key: Key | None = None,
    ) -> Issued:
        """A certificate for a server at these hosts and addresses, or for a client."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key, valid_for).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_san(h) for h in hosts]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate=certificate, chain_pem=_pem(certificate) + self.pem, key=key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, valid_for: timedelta = DAY
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + valid_for)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _san(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
