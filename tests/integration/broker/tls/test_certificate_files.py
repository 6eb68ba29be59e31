"""The broker's certificate files: it does not start without them, and takes up new ones while it runs."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.certificates import Authority
from tests.fakes.raw_kafka import RawKafka
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import ROOT
from tests.harness.tls_broker import TlsBroker, tls_broker
from tidemill_broker.commands import init_tls

METADATA = 3


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--listener", "iam=0"], 1, "(iam) need a certificate: make one by `tidemill broker init-tls DIR`"),
        (
            ["--listener", "tls=0", "--tls-dir", "no/such"],
            1,
            "no/such/broker.pem cannot be read (No such file",
        ),
        (["--listener", "tls=9094", "--listener", "iam=9094"], 2, "port 9094 is given twice"),
    ],
)
def test_it_does_not_start_without_a_way_in(
    tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    own = ["--data-dir", str(tmp_path / "data"), "--port", "0", "--control-port", "0"]
    refused = subprocess.run(
        [sys.executable, "-m", "tidemill_broker", *own, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
        check=False,
    )
    assert refused.returncode == status
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[TlsBroker]:
    with tls_broker(tmp_path) as running:
        yield running


def serial_number(running: TlsBroker, listener: str = "tls") -> str | None:
    """Of the certificate that a new connection sees; None: the client does not trust it."""
    try:
        pem = ssl.get_server_certificate(
            ("127.0.0.1", running.port(listener)), ca_certs=str(running.tls_dir / "ca.pem"), timeout=5
        )
    except ssl.SSLError:
        return None
    return pem


def test_new_connections_get_new_certificates_and_a_broken_file_changes_nothing(secured: TlsBroker) -> None:
    keystore = secured.tls_dir / "broker.pem"
    first = serial_number(secured)
    assert init_tls.main([str(secured.tls_dir), "--renew", "--host", "kafka.local"]) == 0
    wait_until(lambda: serial_number(secured) not in (None, first), what="the new certificate")
    second = {listener: serial_number(secured, listener) for listener in ("tls", "scram", "iam")}
    good = keystore.read_text()
    keystore.write_text(good[: len(good) // 2])
    wait_until(lambda: "keeping the certificates" in secured.broker.log, what="the error in the log")
    assert secured.broker.log.count("keeping the certificates") == 1
    assert {listener: serial_number(secured, listener) for listener in second} == second
    # Fixed by the certificate of another CA, which clients trust from now on.
    other = Authority()
    (secured.tls_dir / "ca.pem").write_text(other.pem)
    keystore.write_text(other.issue("broker", hosts=("localhost",)).keystore_pem)
    wait_until(lambda: serial_number(secured), what="the certificate of the other CA")
    client = secured.tls_dir / "other.pem"
    client.write_text(other.issue("other").keystore_pem)
    with closing(RawKafka(secured.port("tls"), secured.trusting(client))) as asking:
        assert asking.ask(METADATA, 9, topics=[]).brokers
