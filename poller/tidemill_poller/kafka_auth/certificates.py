"""Client certificates and root CAs as AWS takes them from a secret: checked before anything connects.

Pure: the time is an argument. AWS Lambda Developer Guide, kafka-cluster-auth: PEM, the key in PKCS#8,
encrypted with PBES1 only. What AWS rejects is rejected here, with the command that fixes it.

See docs/decisions/0962.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tidemill_poller.errors import CertificateInvalid
from tidemill_poller.kafka_auth.secrets import Secret, read_object, read_text

_BEGIN: Final = re.compile(r"^-----BEGIN CERTIFICATE-----\r?$", re.MULTILINE)
_PLAIN: Final = "-----BEGIN PRIVATE KEY-----"
_ENCRYPTED: Final = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
_ENCRYPTED_END: Final = "-----END ENCRYPTED PRIVATE KEY-----"
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
"""The object identifier 1.2.840.113549.1.5.13 in DER (RFC 8018 A.4)."""
_ALGORITHM_WITHIN: Final = 24
"""EncryptedPrivateKeyInfo (RFC 5958) begins with the algorithm: two headers, then its identifier."""

_TO_PKCS8: Final = "openssl pkcs8 -topk8 -nocrypt -in key.pem -out key.p8"
_TO_PBES1: Final = "openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -in key.pem -out key.p8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A chain, the client's own certificate first, and its key."""

    secret_id: str
    chain_pem: bytes
    key: PrivateKeyTypes = field(repr=False)


def read_client_certificate(secret: Secret, *, now: datetime) -> ClientCertificate:
    """Read `certificate`, `privateKey` and, for an encrypted key, `privateKeyPassword`.

    Raises CertificateInvalid, which names the secret, the key in it and the fix, if one cannot be used.
    """
    found = read_object(secret, CertificateInvalid)
    pem = read_text(secret, found, "certificate", CertificateInvalid)
    chain = _certificates(secret, pem)
    key = _private_key(secret, found)
    if chain[0].public_key() != key.public_key():
        raise _invalid(
            secret,
            "'privateKey' does not belong to the first certificate under 'certificate':"
            " the client's own comes first, then intermediates and root",
        )
    if not chain[0].not_valid_before_utc <= now <= chain[0].not_valid_after_utc:
        raise _invalid(
            secret,
            f"the client certificate is valid from {chain[0].not_valid_before_utc:%Y-%m-%d %H:%M} to"
            f" {chain[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC only: renew it",
        )
    return ClientCertificate(secret_id=secret.id, chain_pem=_as_pem(chain), key=key)


def read_root_ca(secret: Secret) -> str:
    """Read `certificate`: one or more CAs in PEM.

    Raises CertificateInvalid as `read_client_certificate` does.
    """
    found = read_object(secret, CertificateInvalid)
    pem = read_text(secret, found, "certificate", CertificateInvalid)
    return _as_pem(_certificates(secret, pem)).decode("ascii")


def _certificates(secret: Secret, pem: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        found = []
    # Strictly, as documented: the parser would take spaces for line ends.
    if not found or len(_BEGIN.findall(pem)) != len(found):
        raise _invalid(
            secret,
            "'certificate' is not in PEM: each certificate begins and ends with its own line,"
            " and line ends are \\n in the secret's JSON",
        )
    return found


def _as_pem(chain: list[x509.Certificate]) -> bytes:
    """Write them without what else the text held: ssl takes no comment beyond ASCII, and any key it meets."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain)


def _private_key(secret: Secret, found: dict[str, Any]) -> PrivateKeyTypes:
    pem = read_text(secret, found, "privateKey", CertificateInvalid).strip()
    if pem.startswith(_ENCRYPTED):
        _check_encryption(secret, pem)
        password = read_text(secret, found, "privateKeyPassword", CertificateInvalid).encode()
    elif pem.startswith(_PLAIN):
        password = None
    else:
        raise _invalid(secret, f"'privateKey' is not in PKCS#8 PEM: convert it with `{_TO_PKCS8}`")
    try:
        return load_pem_private_key(pem.encode(), password)
    except (UnsupportedAlgorithm, ValueError, TypeError):
        what = "'privateKey' cannot be read: it is damaged"
        if password is not None:
            what = f"'privateKeyPassword' does not open 'privateKey': check it, or encrypt by `{_TO_PBES1}`"
        # Without the cause: a library's message may quote the key.
        raise _invalid(secret, what) from None


def _check_encryption(secret: Secret, pem: str) -> None:
    body = pem.removeprefix(_ENCRYPTED).partition(_ENCRYPTED_END)[0]
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        raise _invalid(secret, "'privateKey' is damaged: its body is not base64") from None
    if _PBES2 in der[:_ALGORITHM_WITHIN]:
        raise _invalid(
            secret,
            "'privateKey' is encrypted with PBES2, which AWS does not take:"
            f" encrypt it with PBES1 by `{_TO_PBES1}`",
        )


def _invalid(secret: Secret, what: str) -> CertificateInvalid:
    return CertificateInvalid(f"The secret {secret.id} cannot be used: {what}.")
