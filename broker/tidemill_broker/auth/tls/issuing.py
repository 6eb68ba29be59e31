"""A private certificate authority in a folder: made once, and certificates that it issues.

EC P-256; what OpenSSL's strict checks and Java ask of a certificate is in each. Files are PEM; a private key
is readable by its owner only, and never written over without being asked. `commands.init_tls` calls it.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tidemill_broker.auth.tls.contexts import CA_FILE, KEYSTORE_FILE
from tidemill_broker.durable_files import write_durably
from tidemill_broker.errors import BrokerError

CA_KEY_FILE: Final = "ca.key"
DEFAULT_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
CA_DAYS: Final = 3650
DAYS: Final = 825
# Clocks differ: a certificate is good a little before it was made.
BACKDATED: Final = timedelta(hours=1)
_PUBLIC: Final = 0o644
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_HOST_CHARACTERS_MAX: Final = 253
_FIX: Final = "restore both files, or remove the folder: then all of it is made anew, by a new CA"
_AGAIN: Final = "delete it, and run this again"
_RESERVED: Final = frozenset({"ca", "broker"})


class IssuingFault(BrokerError, ValueError):
    """A certificate that cannot be issued; the text names the fix."""


class Authority:
    """The CA in a folder."""

    def __init__(
        self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
    ) -> None:
        self.directory = directory
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, directory: Path) -> "Authority":
        """Take the folder's CA, or make one. Raises IssuingFault and OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file, file = directory / CA_KEY_FILE, directory / CA_FILE
        if not key_file.exists() and not file.exists():
            return cls._made(directory)
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
        except (OSError, ValueError, TypeError) as fault:
            raise IssuingFault(
                f"the CA in {directory} ({CA_FILE}, {CA_KEY_FILE}) cannot be read ({fault}): {_FIX}"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise IssuingFault(f"{key_file} is not the key of {file}: {_FIX}")
        return cls(directory, key, certificate)

    @classmethod
    def _made(cls, directory: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = _common_name("Tidemill CA")
        builder = (
            _builder(name, name, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        certificate = builder.sign(key, hashes.SHA256())
        # The certificate last: while it is missing, the next run says so instead of making another CA.
        write_durably(directory / CA_KEY_FILE, _pem(key))
        public = certificate.public_bytes(serialization.Encoding.PEM)
        write_durably(directory / CA_FILE, public, mode=_PUBLIC)
        return cls(directory, key, certificate)

    def issue_broker(self, hosts: Sequence[str]) -> Path:
        """Issue the broker's keystore for these names and addresses. Raises IssuingFault."""
        names = [_general_name(host) for host in dict.fromkeys((*hosts, *DEFAULT_HOSTS))]
        extension = x509.SubjectAlternativeName(names)
        return self._issue(KEYSTORE_FILE, "broker", ExtendedKeyUsageOID.SERVER_AUTH, extension)

    def issue_client(self, name: str) -> Path:
        """Issue a client's keystore, NAME.pem, for CN=NAME. Raises IssuingFault."""
        return self._issue(client_file(name), name, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def vouch_for(self, file: str) -> None:
        """Raise IssuingFault unless the folder's file is a certificate of this CA, and still good."""
        keystore = self.directory / file
        certificate = _first_certificate(keystore)
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            raise IssuingFault(
                f"{keystore} was not issued by the CA beside it, so nobody here would trust it: {_AGAIN}"
            ) from None
        if certificate.not_valid_after_utc <= datetime.now(UTC):
            raise IssuingFault(f"{keystore} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: {_AGAIN}")

    def _issue(
        self,
        file: str,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_common_name(common_name), self._certificate.subject, key.public_key(), DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        chain = certificate.public_bytes(serialization.Encoding.PEM)
        write_durably(self.directory / file, _pem(key) + chain)
        return self.directory / file


def hosts_of(keystore: Path) -> tuple[str, ...]:
    """The names and addresses in a broker's keystore. Raises IssuingFault."""
    certificate = _first_certificate(keystore)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as fault:
        raise IssuingFault(f"{keystore} cannot be read ({fault}): {_AGAIN}") from None
    return tuple(str(name.value) for name in names)


def _first_certificate(keystore: Path) -> x509.Certificate:
    try:
        content = keystore.read_bytes()
        return x509.load_pem_x509_certificate(content[content.index(b"-----BEGIN CERTIFICATE") :])
    except (OSError, ValueError) as fault:
        raise IssuingFault(f"{keystore} cannot be read ({fault}): {_AGAIN}") from None


def client_file(name: str) -> str:
    """The name of a client's keystore. Raises IssuingFault."""
    if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise IssuingFault(
            f"--client {name}: give a name of 1 to 64 letters, digits, '.', '_' and '-', not ca or broker"
        )
    return f"{name}.pem"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    labels = host.removeprefix("*.").split(".")
    if len(host) > _HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise IssuingFault(f"--host {host}: give a DNS name or an IP address, without a port")
    return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
