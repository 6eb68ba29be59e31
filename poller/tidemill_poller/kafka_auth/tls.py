"""TLS contexts for the Kafka client: who is trusted, and the certificate that is shown.

The certificate and the host are always verified; no setting turns that off. A private key is never on a disk:
ssl takes files only, so it gets one in memory, encrypted under a password that is used once. Blocks a little:
call it in a thread.
"""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from tidemill_poller.errors import CertificateInvalid, InvalidSettings
from tidemill_poller.kafka_auth.certificates import ClientCertificate


def client_context(
    *, ca_file: Path | None, root_ca: str | None = None, certificate: ClientCertificate | None = None
) -> ssl.SSLContext:
    """Trust the system's CAs, those of `ca_file` and of `root_ca` (PEM), and show `certificate`.

    Raises InvalidSettings if `ca_file` cannot be read, and CertificateInvalid if OpenSSL does not take the
    certificate, e.g. for a key that is too short.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        _trust(context, ca_file)
    if root_ca is not None:
        context.load_verify_locations(cadata=root_ca)
    if certificate is not None:
        _show(context, certificate)
    return context


def _trust(context: ssl.SSLContext, ca_file: Path) -> None:
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # SSLError is one
        raise InvalidSettings(
            f"TIDEMILL_POLLER_CA_FILE: {ca_file} cannot be used: {error.strerror or error}:"
            " name a file of CA certificates in PEM"
        ) from error


def _show(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    password = secrets.token_bytes(32).hex()
    key = certificate.key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())
    )
    with _as_file(certificate.chain_pem + b"\n" + key) as name:
        try:
            context.load_cert_chain(name, password=password)
        except ssl.SSLError as error:
            raise CertificateInvalid(
                f"OpenSSL does not take the client certificate of the secret {certificate.secret_id}:"
                f" {error.reason}"
            ) from error


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Name a file with this content: in memory on Linux, elsewhere a temporary one of the user's own."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
