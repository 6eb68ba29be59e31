"""The session that a verified certificate gives, also where TLS resumed and nobody verified it again."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fakes.certificates import Authority
from tidemill_broker.auth.session import UNAUTHENTICATED
from tidemill_broker.auth.tls.contexts import NotLetIn, certificate_session
from tidemill_broker.auth.tls.principal_rules import PrincipalRules

CERTIFICATE = Authority().issue("alice").certificate
EXPIRES_S = CERTIFICATE.not_valid_after_utc.timestamp()


@dataclass
class Shown:
    """What OpenSSL says of a connection's other side, as ssl.SSLObject tells it."""

    certificate: x509.Certificate | None = CERTIFICATE
    session_reused: bool = False

    def getpeercert(self, *, binary_form: bool = False) -> Any:
        if self.certificate is None:
            return None
        if binary_form:
            return self.certificate.public_bytes(Encoding.DER)
        return {"notAfter": f"{self.certificate.not_valid_after_utc:%b %d %H:%M:%S %Y} GMT"}


def session(shown: Shown, now_s: float, rules: str = "DEFAULT") -> Any:
    return certificate_session(cast("ssl.SSLObject", shown), PrincipalRules(rules), now_s)


def test_a_certificate_makes_a_user_and_none_makes_nobody() -> None:
    found = session(Shown(), EXPIRES_S - 1)
    assert (str(found.principal), found.mechanism) == ("User:CN=alice", "SSL")
    assert session(Shown(certificate=None), 0) is UNAUTHENTICATED


def test_a_certificate_that_expired_since_its_session_began_lets_nobody_in() -> None:
    assert str(session(Shown(session_reused=True), EXPIRES_S - 1).principal) == "User:CN=alice"
    with pytest.raises(NotLetIn) as raised:
        session(Shown(session_reused=True), EXPIRES_S + 1)
    assert (raised.value.claimed, raised.value.reason) == (
        "CN=alice",
        "the certificate has expired since its TLS session began",
    )


def test_who_is_rejected_by_the_rules_is_named_in_the_rejection() -> None:
    with pytest.raises(NotLetIn, match=r"no rule of ssl\.principal\.mapping\.rules") as raised:
        session(Shown(), 0, "RULE:^CN=bob$/bob/")
    assert raised.value.claimed == "CN=alice"
