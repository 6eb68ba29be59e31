"""What security costs: TLS and SASL on the way, logins per second, and authorization; beside Apache Kafka.

Both brokers have the same listeners and certificates (EC P-256, TLS 1.3, AES-256-GCM by both sides' own
choice), the same users, and the same client: librdkafka for records, `logins` for logins. The client encrypts
too and shares the machine, so what its CPU costs stands beside each rate.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks import authorization
from tests.benchmarks.broker import PEER, QUICK, Bench, Figures, Load, fetch
from tests.benchmarks.logins import Plan, log_in_often
from tests.benchmarks.report import Row
from tests.harness import secure_brokers
from tests.harness.secure_brokers import (
    ACCESS_KEY_ID,
    PASSWORD,
    REGION,
    SECRET_KEY,
    SESSION_TOKEN,
    USER,
    SecureBroker,
)
from tests.oracles import iam_tokens
from tests.oracles.apache_kafka import PEER_FLAGS
from tests.oracles.secure_apache_kafka import SecureApacheKafka

PASSES = 4
LOGIN_PASSES = 3
LOGINS = 600
WARM_UP_RECORDS = 300_000
WARM_UP_LOGINS = 2_000  # of the handshake, which all have; then of each mechanism as many as are measured
LOAD = Load(records=196_608)
SCRAM, TLS = "SASL_SSL/SCRAM-SHA-512", "TLS"
LISTENERS = {"plaintext": "plaintext", TLS: "tls", SCRAM: "scram"}
HANDSHAKE, MTLS = "TLS handshake alone", "mTLS"
# What Apache Kafka can do too.
COMMON = (HANDSHAKE, MTLS, "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
OURS = (*COMMON, "AWS_MSK_IAM", "OAUTHBEARER")

AllFigures = dict[str, list[float]]


@dataclass(slots=True)
class Side:
    """One broker with everything that is measured of it."""

    secure: SecureBroker
    load: Load
    logins: int
    mechanisms: tuple[str, ...]
    figures: AllFigures = field(default_factory=dict)
    benches: dict[str, Bench] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for way, listener in LISTENERS.items():
            self.benches[way] = Bench(self.secure.broker, self.load, self._client(way, listener))

    def note(self, figures: Figures) -> None:
        for name, figure in figures.items():
            self.figures.setdefault(name, []).append(figure)

    def records(self, way: str) -> Figures:
        """Produce over this listener, then read it back."""
        bench, records = self.benches[way], self.load.records
        with bench.topic() as topic:
            produced, fetched = bench.produce(topic, records), fetch(bench, topic, records)
        return {
            f"{step}{measure} {way}": figure
            for step, moved in (("produce", produced), ("fetch", fetched))
            for measure, figure in zip(("", " cpu", " client"), moved, strict=True)
        }

    def log_in(self, mechanism: str, logins: int | None = None) -> Figures:
        """Logins a second by one mechanism; CPU in ms for each."""
        bench, count = self.benches["plaintext"], logins or self.logins
        cpu_s = bench.cpu_s()
        taken = log_in_often(self._plan(mechanism, count))
        cpu_s = bench.cpu_s() - cpu_s
        return {
            f"logins {mechanism}": count / taken.seconds,
            f"logins cpu {mechanism}": cpu_s * 1000 / count,
            f"logins client {mechanism}": taken.client_cpu_s * 1000 / count,
        }

    def _client(self, way: str, listener: str) -> Mapping[str, str]:
        own = str(self.secure.certificates / "client.pem")
        trusting = {"security.protocol": "SSL", "ssl.ca.location": self.secure.ca}
        ways = {
            "plaintext": {},
            TLS: trusting | {"ssl.certificate.location": own, "ssl.key.location": own},
            SCRAM: trusting
            | {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": USER,
                "sasl.password": PASSWORD,
            },
        }
        return {"bootstrap.servers": self.secure.bootstrap[listener], **ways[way]}

    def _plan(self, mechanism: str, logins: int) -> Plan:
        listener = {MTLS: "tls", "AWS_MSK_IAM": "iam", "OAUTHBEARER": "iam"}.get(mechanism, "scram")
        _, _, port = self.secure.bootstrap[listener].rpartition(":")
        return Plan(
            port=int(port),
            ca=self.secure.ca,
            logins=logins,
            keystore=str(self.secure.certificates / "client.pem") if mechanism == MTLS else "",
            mechanism="" if mechanism in (HANDSHAKE, MTLS) else mechanism,
            token=_token(mechanism),
            user=USER,
            password=PASSWORD,
        )


def _token(mechanism: str) -> str:
    keys = iam_tokens.Keys(access_key_id=ACCESS_KEY_ID, secret=SECRET_KEY, session_token=SESSION_TOKEN)
    now_ms = int(time.time() * 1000)
    match mechanism:
        case "PLAIN":
            return f"\0{USER}\0{PASSWORD}"
        case "AWS_MSK_IAM":
            return iam_tokens.json_token(iam_tokens.signer(keys, at_ms=now_ms, region=REGION)).decode()
        case "OAUTHBEARER":
            return iam_tokens.url_token(keys, at_ms=now_ms, region=REGION).decode()
        case _:
            return ""


def run(*, quick: bool) -> list[Row]:
    """Every figure; the quick run takes our broker alone."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-bench-"))
    try:
        certificates = secure_brokers.make_certificates(folder / "tls")
        ours, theirs = _quick(folder, certificates) if quick else _both(folder, certificates)
        return [*_rows(ours, theirs), *authorization.run(folder / "acls", certificates, quick=quick)]
    finally:
        shutil.rmtree(folder)


@contextmanager
def _tidemill(folder: Path, certificates: Path) -> Iterator[SecureBroker]:
    secure = secure_brokers.start_tidemill(folder / "tidemill", certificates)
    try:
        yield secure
    finally:
        secure.broker.stop()


@contextmanager
def _kafka(folder: Path, certificates: Path) -> Iterator[SecureBroker]:
    kafka = SecureApacheKafka(
        data_dir=folder / "kafka",
        certificates=certificates,
        plain_users=secure_brokers.PLAIN_USERS,
        jvm_flags=PEER_FLAGS,
        lean=False,
    )
    try:
        kafka.start()
        secure_brokers.make_users(kafka.servers["plaintext"])
        yield SecureBroker(broker=kafka, bootstrap=kafka.servers, certificates=certificates)
    finally:
        kafka.stop()


def _quick(folder: Path, certificates: Path) -> tuple[AllFigures, AllFigures]:
    with _tidemill(folder, certificates) as secure:
        side = Side(secure, QUICK, 40, OURS)
        for way in LISTENERS:
            side.note(side.records(way))
        for mechanism in OURS:
            side.note(side.log_in(mechanism))
    return side.figures, {}


def _both(folder: Path, certificates: Path) -> tuple[AllFigures, AllFigures]:
    with ExitStack() as stack:
        ours = Side(stack.enter_context(_tidemill(folder, certificates)), LOAD, LOGINS, OURS)
        theirs = Side(stack.enter_context(_kafka(folder, certificates)), LOAD, LOGINS, COMMON)
        _warm_up(theirs)
        for _ in range(PASSES):
            for way in LISTENERS:
                for side in (ours, theirs):
                    side.note(side.records(way))
        for _ in range(LOGIN_PASSES):
            for mechanism in OURS:
                for side in (ours, theirs):
                    if mechanism in side.mechanisms:
                        side.note(side.log_in(mechanism))
    return ours.figures, theirs.figures


def _warm_up(side: Side) -> None:
    """A fresh JVM is two to three times slower than a warm one."""
    for bench in side.benches.values():
        with bench.topic() as topic:
            bench.produce(topic, WARM_UP_RECORDS)
            fetch(bench, topic, WARM_UP_RECORDS)
    side.log_in(HANDSHAKE, WARM_UP_LOGINS)
    for mechanism in side.mechanisms:
        side.log_in(mechanism)


def _rows(ours: AllFigures, theirs: AllFigures) -> list[Row]:
    rows = []
    for way in LISTENERS:
        for step, what in (("produce", "produce, 1 KiB, acks=all"), ("fetch", "fetch")):
            aim = (1.0, "at least its rate") if way != "plaintext" else None
            rows += [
                _row(f"{step} {way}", f"{what}, {way}", "MB/s", ours, theirs, aim=aim),
                *_cpu_rows(f"{step} {{}} {way}", "s per 512 MiB", ours, theirs),
            ]
    for mechanism in OURS:
        aim = (1.3, "1.3 times") if mechanism in COMMON else None
        rows += [
            _row(f"logins {mechanism}", f"logins, {mechanism}", "1/s", ours, theirs, aim=aim),
            *_cpu_rows(
                f"logins {{}} {mechanism}", "ms each", ours, theirs, aim=aim and (0.5, "at most half")
            ),
        ]
    return rows


def _cpu_rows(
    name: str, unit: str, ours: AllFigures, theirs: AllFigures, aim: tuple[float, str] | None = None
) -> list[Row]:
    whose = (("cpu", "broker CPU for it", aim), ("client", "the client's CPU for it", None))
    return [
        _row(name.format(who), what, unit, ours, theirs, aim=own_aim, higher_is_better=False)
        for who, what, own_aim in whose
    ]


def _row(
    name: str,
    what: str,
    unit: str,
    ours: AllFigures,
    theirs: AllFigures,
    *,
    aim: tuple[float, str] | None = None,
    higher_is_better: bool = True,
) -> Row:
    own, peer = ours[name], theirs.get(name)
    return Row(
        what=what,
        unit=unit,
        ours=(min(own), max(own)),
        peer=(min(peer), max(peer)) if peer else None,
        peer_name=PEER,
        aim="" if aim is None else aim[1],
        aim_ratio=None if aim is None else aim[0],
        higher_is_better=higher_is_better,
    )
