"""TLS by the standard library: contexts for the listeners, and the session that a client's certificate gives.

TLS 1.2 and 1.3. Files are PEM as Kafka's: the keystore is one file with the private key (PKCS#8) and its
chain, the truststore holds CAs. Imports nothing that a plaintext broker would have to load.
"""

import ssl
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from tidemill_broker.auth.session import UNAUTHENTICATED, Principal, Session
from tidemill_broker.auth.tls.distinguished_name import spell_name, subject_of
from tidemill_broker.auth.tls.principal_rules import NoRuleApplies, PrincipalRules
from tidemill_broker.errors import BrokerError

ClientAuth = Literal["none", "requested", "required"]

CLIENT_AUTH: Final[tuple[ClientAuth, ...]] = get_args(ClientAuth)
# Kafka: SecurityProtocol.SSL. What stands for a mechanism where a certificate is the login.
SSL: Final = "SSL"
# In the folder of --tls-dir, which `issuing` fills.
CA_FILE, KEYSTORE_FILE = "ca.pem", "broker.pem"
_VERIFY: Final = {
    "none": ssl.CERT_NONE,
    "requested": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_FIX: Final = "make one by `tidemill broker init-tls DIR`"


class NotLetIn(BrokerError):
    """A verified certificate whose owner may not come in: who it says it is, and why not."""

    def __init__(self, reason: str, *, claimed: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.claimed = claimed


class TlsFault(BrokerError, ValueError):
    """Files that cannot be used for TLS; the text names the file and the fix, and no secret."""


class TlsContexts(Protocol):
    """The contexts of the TLS listeners, from files as they are now (`certificates.Certificates`)."""

    @property
    def names(self) -> frozenset[str]:
        """The hosts that the certificate names."""
        ...

    def context(self, *, verifies: bool) -> ssl.SSLContext:
        """Return the context for a new connection; `verifies`: of a listener that asks for certificates."""
        ...

    async def watch(self) -> None:
        """Read the files again whenever they change, for ever."""
        ...


def server_context(keystore: Path, truststore: Path | None, client_auth: ClientAuth) -> ssl.SSLContext:
    """Make a listener's context. Raises TlsFault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could make us repeat the dear half of a handshake for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # A resumed session is not verified again: in TLS 1.3 each connection shows its certificate. TLS 1.2 keeps
    # its tickets: without them OpenSSL would keep sessions in memory instead.
    context.num_tickets = 0
    _load_keystore(context, keystore)
    context.verify_mode = _VERIFY[client_auth]
    if client_auth != "none":
        if truststore is None:
            raise TlsFault("ssl.truststore.location is not set: name the PEM file of the clients' CA")
        _load_truststore(context, truststore)
    return context


def certificate_session(connection: ssl.SSLObject, rules: PrincipalRules, now_s: float) -> Session:
    """Give the session of a verified certificate; UNAUTHENTICATED without one. Raises NotLetIn."""
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None:
        return UNAUTHENTICATED
    try:
        name = spell_name(subject_of(certificate))
    except ValueError as fault:
        raise NotLetIn(f"the certificate's subject cannot be read: {fault}") from None
    if connection.session_reused and _expired(connection, now_s):
        raise NotLetIn("the certificate has expired since its TLS session began", claimed=name)
    try:
        user = rules.user(name)
    except NoRuleApplies as rejection:
        raise NotLetIn(str(rejection), claimed=name) from None
    return Session(principal=Principal(type="User", name=user), mechanism=SSL)


def names_host(host: str, names: Collection[str]) -> bool:
    """Tell whether a host is among a certificate's names."""
    ours = {_canonical(each) for each in names}
    asked = _canonical(host)
    # A certificate's wildcard stands for one label (RFC 9525, section 6.3).
    return asked in ours or f"*.{asked.partition('.')[2]}" in ours


def _canonical(host: str) -> str:
    """Spell a name or an address as others spell it: Java writes ::1 as 0:0:0:0:0:0:0:1, some as [::1]."""
    bare = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ip_address(bare))
    except ValueError:
        return bare


def _expired(connection: ssl.SSLObject, now_s: float) -> bool:
    shown: dict[str, Any] = connection.getpeercert() or {}
    return ssl.cert_time_to_seconds(shown["notAfter"]) < now_s


def _load_keystore(context: ssl.SSLContext, keystore: Path) -> None:
    try:
        # Without a password OpenSSL would ask the terminal for one.
        context.load_cert_chain(keystore, password="")
    except ssl.SSLError as error:
        raise TlsFault(f"{keystore} is no keystore in PEM: {_keystore_fix(keystore, error)}") from None
    except OSError as error:
        raise TlsFault(f"{keystore} cannot be read ({error.strerror}): {_FIX}") from None


def _keystore_fix(keystore: Path, error: ssl.SSLError) -> str:
    """OpenSSL says little about a file; what is in it says more."""
    content = keystore.read_bytes()
    if b"PRIVATE KEY-----" not in content or b"-----BEGIN CERTIFICATE-----" not in content:
        return f"it needs a private key and a certificate, both in PEM; {_FIX}"
    if b"ENCRYPTED" in content:
        return "write its key without a password, by openssl pkcs8 -topk8 -nocrypt"
    if error.reason == "KEY_VALUES_MISMATCH":
        return "its private key does not belong to its first certificate"
    return f"it is damaged; {_FIX}"


def _load_truststore(context: ssl.SSLContext, truststore: Path) -> None:
    try:
        context.load_verify_locations(truststore)
    except ssl.SSLError:
        raise TlsFault(f"{truststore} holds no CA certificates in PEM: {_FIX}") from None
    except OSError as error:
        raise TlsFault(f"{truststore} cannot be read ({error.strerror}): {_FIX}") from None
