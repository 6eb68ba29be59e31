"""The broker's certificate and its clients' CAs: read at the start, read again when their files change.

New connections get the new ones, old connections keep theirs. Files that became unusable change nothing but
the log. `__main__` opens them and runs `watch`.

See docs/decisions/0903.
"""

import asyncio
import logging
import ssl
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509

from tidemill_broker.auth.tls.contexts import ClientAuth, TlsFault, names_host, server_context

logger = logging.getLogger(__name__)

WATCH_S: Final = 0.25
WARN_S: Final = 14 * 86_400
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_Stamp = tuple[tuple[int, int, int] | None, ...]


class _Loaded(NamedTuple):
    """What one reading of the files gave."""

    verifying: ssl.SSLContext
    plain: ssl.SSLContext
    names: frozenset[str]
    expires_s: float


class Certificates:
    """Contexts from the files as they are now. Raises TlsFault where they cannot be used at the start.

    `advertised`: the host that clients of each listener are told, which the certificate should name.
    """

    def __init__(
        self,
        keystore: Path,
        truststore: Path | None,
        client_auth: ClientAuth,
        *,
        advertised: Mapping[str, str] | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._keystore = keystore
        self._truststore = truststore
        self._client_auth: ClientAuth = client_auth
        self._advertised = advertised or {}
        self._now_s = now_s
        self._warned = False
        self._stamp = self._files()
        self._loaded = self._load()
        if self._stamp[0] is not None and keystore.stat().st_mode & _OTHERS:
            logger.warning("other users can read the private key in %s: chmod 600 it", keystore)

    def context(self, *, verifies: bool) -> ssl.SSLContext:
        """The context for a new connection; `verifies`: with ssl.client.auth, else clients show nothing."""
        return self._loaded.verifying if verifies else self._loaded.plain

    @property
    def names(self) -> frozenset[str]:
        """DNS names and IP addresses in the broker's certificate."""
        return self._loaded.names

    def reload(self) -> bool:
        """Read the files again if they have changed; whether there is something new. Never raises."""
        stamp = self._files()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._loaded = self._load()
        except (TlsFault, OSError) as fault:
            logger.error("keeping the certificates that were read before: %s", fault)  # noqa: TRY400 - said
            return False
        logger.info("new connections get the new certificates keystore=%s", self._keystore)
        return True

    async def watch(self) -> None:
        """Watch the files for ever. A change counts once it has stood still: none is read half-written."""
        seen = self._stamp
        while True:
            await asyncio.sleep(WATCH_S)
            found = self._files()
            if found == seen:
                self.reload()
            seen = found
            self._warn_of_expiry()

    def _load(self) -> _Loaded:
        verifying = server_context(self._keystore, self._truststore, self._client_auth)
        plain = server_context(self._keystore, None, "none")
        certificate = _first_certificate(self._keystore)
        expires_s = certificate.not_valid_after_utc.timestamp()
        if expires_s <= self._now_s():
            raise TlsFault(
                f"the certificate in {self._keystore} expired on {certificate.not_valid_after_utc:%Y-%m-%d}:"
                " no client would take it; make a new one by `tidemill broker init-tls DIR --renew`"
            )
        self._warned = False
        names = _names(certificate)
        self._warn_of_other_hosts(names)
        return _Loaded(verifying, plain, names, expires_s)

    def _warn_of_other_hosts(self, names: frozenset[str]) -> None:
        """No error: who has no check of names on, or names of their own for this address, gets in."""
        others: dict[str, list[str]] = {}
        for listener, host in self._advertised.items():
            if not names_host(host, names):
                others.setdefault(host, []).append(listener)
        for host, listeners in others.items():
            logger.warning(
                "clients of %s are told to connect to %s, which the certificate in %s does not name (but %s):"
                " they will reject it; `tidemill broker init-tls DIR --host %s` makes one that does,"
                " or advertise a host that it names by --set advertised.listeners=…",
                ", ".join(listeners),
                host,
                self._keystore,
                ", ".join(sorted(names)) or "nothing",
                host,
            )

    def _warn_of_expiry(self) -> None:
        left_s = self._loaded.expires_s - self._now_s()
        if left_s < WARN_S and not self._warned:
            self._warned = True
            logger.warning(
                "the certificate in %s expires in %d days: `tidemill broker init-tls DIR --renew`",
                self._keystore,
                max(0, left_s) // 86_400,
            )

    def _files(self) -> _Stamp:
        return tuple(_stamp(file) for file in (self._keystore, self._truststore) if file is not None)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _first_certificate(keystore: Path) -> x509.Certificate:
    """The broker's own: the first in the file, as OpenSSL takes it."""
    try:
        content = keystore.read_bytes()
        return x509.load_pem_x509_certificate(content[content.index(_BEGIN) :])
    except (OSError, ValueError) as error:
        raise TlsFault(f"{keystore} cannot be read: {error}") from None


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    addresses = named.get_values_for_type(x509.IPAddress)
    return frozenset(named.get_values_for_type(x509.DNSName)) | {str(address) for address in addresses}
