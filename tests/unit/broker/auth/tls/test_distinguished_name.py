"""A certificate's subject in Java's spelling; what is no certificate is a ValueError."""

from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.certificates import Authority
from tidemill_broker.auth.tls.distinguished_name import spell_name, subject_of

ISSUED = Authority().issue("client").certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("attributes", "spelled"),
    [
        ([], ""),
        ([(NameOID.COMMON_NAME, "alice")], "CN=alice"),
        (
            [
                (NameOID.COUNTRY_NAME, "SE"),
                (NameOID.ORGANIZATION_NAME, "A, B"),
                (NameOID.COMMON_NAME, " a+b "),
            ],
            r"CN=\ a\+b\ ,O=A\, B,C=SE",
        ),
        ([(NameOID.EMAIL_ADDRESS, "a@b")], "1.2.840.113549.1.9.1=#1603614062"),
        ([(NameOID.COMMON_NAME, "   ")], r"CN=\ \ \ "),
    ],
)
def test_a_name_is_spelled_from_its_last_part_on(
    attributes: list[tuple[x509.ObjectIdentifier, str]], spelled: str
) -> None:
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])
    assert spell_name(name.public_bytes()) == spelled


def test_parts_that_stand_together_are_joined() -> None:
    part = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "b")]
    )
    assert spell_name(x509.Name([part]).public_bytes()) == "CN=a+UID=b"


def test_the_subject_of_a_certificate_is_found() -> None:
    assert spell_name(subject_of(ISSUED)) == "CN=client"


@given(st.integers(0, len(ISSUED) - 1), st.integers(0, 255), st.integers(0, len(ISSUED)))
def test_a_damaged_certificate_is_a_value_error_or_a_name(at: int, byte: int, length: int) -> None:
    damaged = bytearray(ISSUED)
    damaged[at] = byte
    with contextlib.suppress(ValueError):
        assert isinstance(spell_name(subject_of(bytes(damaged[:length]))), str)


@given(st.binary(max_size=60))
def test_bytes_from_anywhere_are_a_value_error_or_a_name(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(spell_name(content), str)
