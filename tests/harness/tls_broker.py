"""Our broker with every listener on, and the folder of certificates that `init-tls` made for it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.tidemill_broker import TidemillBroker
from tidemill_broker.commands import init_tls

LISTENERS = ("plaintext", "tls", "scram", "iam")


@dataclass(frozen=True)
class TlsBroker:
    """The running broker, and what its clients trust."""

    broker: TidemillBroker
    tls_dir: Path

    def port(self, listener: str) -> int:
        port: int = self.broker.ready["listeners"][listener]
        return port

    def trusting(self, keystore: Path | None = None) -> ssl.SSLContext:
        """A client's context that trusts the broker, and shows this certificate; strict as Python 3.13's."""
        context = ssl.create_default_context(cafile=self.tls_dir / "ca.pem")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if keystore is not None:
            context.load_cert_chain(keystore)
        return context

    def audited(self) -> list[str]:
        """The lines of the audit log so far."""
        return [line for line in self.broker.log.splitlines() if " tidemill_broker.audit " in line]


@contextmanager
def tls_broker(directory: Path, **settings: str) -> Iterator[TlsBroker]:
    """A broker on free ports; settings with `_` for `.`."""
    tls_dir = directory / "tls"
    assert init_tls.main([str(tls_dir)]) == 0
    assert init_tls.main([str(tls_dir), "--client", "alice"]) == 0
    flags = [part for name in LISTENERS for part in ("--listener", f"{name}=0")]
    broker = TidemillBroker(
        data_dir=directory / "broker",
        flags=(*flags, "--tls-dir", str(tls_dir)),
        settings={name.replace("_", "."): value for name, value in settings.items()},
    )
    broker.start()
    try:
        yield TlsBroker(broker, tls_dir)
    finally:
        broker.stop()
