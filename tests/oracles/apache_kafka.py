"""A real Apache Kafka from Maven's artifacts: oracle of tests, source of the poller, peer of benchmarks.

Owns the jars (fetched once into `.cache/`), the life of one single-node broker, and Kafka's own tools.
Knows nothing of Tidemill.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
CACHE = Path(__file__).resolve().parents[2] / ".cache"
CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"

# Quick to start, modest in memory: right for tests. A benchmark passes PEER_FLAGS instead.
LEAN_FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
# What Kafka's own start script sets (bin/kafka-run-class.sh, kafka-server-start.sh).
PEER_FLAGS = (
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
)
TOOL_FLAGS = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

LEAN_PROPERTIES = {
    "num.network.threads": "1",
    "num.io.threads": "2",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "2097152",
}
SINGLE = (
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
)
FOUR = (
    "num.partitions",
    "offsets.topic.num.partitions",
    "transaction.state.log.num.partitions",
    "share.coordinator.state.topic.num.partitions",
)


class ApacheKafkaMissing(RuntimeError):
    """Java, Maven or the jars cannot be had here."""


def _pom(version: str) -> str:
    dependencies = [f"org.apache.kafka:kafka_2.13:{version}", f"org.apache.kafka:kafka-tools:{version}"]
    if version.startswith("4."):  # 3.9 brings a logging binding of its own
        dependencies.append(f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}")
    rows = "".join(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>".format(
            *dependency.split(":")
        )
        for dependency in dependencies
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>tidemill</groupId><artifactId>oracle</artifactId>"
        f"<version>1</version><dependencies>{rows}</dependencies></project>"
    )


def jars(version: str = VERSION) -> Path:
    """The folder of Kafka's jars; the first call of a fresh clone asks Maven for them (about 57 MB)."""
    return fetched(f"apache-kafka-{version}", _pom(version))


@functools.cache
def fetched(folder: str, pom: str) -> Path:
    """The folder of the jars that a Maven project depends on; fetched once. Raises ApacheKafkaMissing."""
    libs = CACHE / folder
    libs.mkdir(parents=True, exist_ok=True)
    with (libs / ".lock").open("w") as lock:  # tests run in two processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (libs / ".complete").exists():
            _fetch(libs, pom)
    return libs


def _fetch(libs: Path, pom: str) -> None:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise ApacheKafkaMissing(
                f"{program} is not installed: apt-get install default-jdk-headless maven"
            )
    (libs / "pom.xml").write_text(pom)
    fetch = subprocess.run(
        ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=.", "-DincludeScope=runtime"],
        cwd=libs,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if fetch.returncode != 0:
        raise ApacheKafkaMissing(f"Maven could not fetch {libs.name}: {fetch.stdout[-500:]}")
    (libs / ".complete").touch()


def jars_or_skip(version: str = VERSION) -> Path:
    """`jars`, or a skipped test where they cannot be had; in CI that is a failure."""
    return had_or_skip(lambda: jars(version))


def had_or_skip(fetch: Callable[[], Path]) -> Path:
    """What is fetched, or a skipped test; in CI a failure."""
    try:
        return fetch()
    except ApacheKafkaMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


def run_tool(
    main_class: str,
    *arguments: str,
    version: str = VERSION,
    stdin: str | None = None,
    timeout_s: float = 60,
    more_jars: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """One of Kafka's tools by its main class, e.g. `org.apache.kafka.tools.TopicCommand`.

    `more_jars` is a folder beside Kafka's own on the class path.
    """
    class_path = ":".join(f"{folder}/*" for folder in (jars(version), more_jars) if folder)
    return subprocess.run(
        ["java", *TOOL_FLAGS, "-cp", class_path, main_class, *arguments],
        input=stdin,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def free_port_pair() -> int:
    """Two free neighbours, Kafka's listener and its controller's.

    Below the ephemeral ports: there an outgoing connection could take one before Kafka binds it.
    """
    for port in random.Random().sample(range(20_000, 30_000, 2), 100):
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise RuntimeError("no two neighbouring ports are free on 127.0.0.1")


def answers(port: int) -> bool:
    """Whether a broker on this port answers ApiVersions v0."""
    frame = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(frame)) + frame)
            return len(connection.recv(4)) > 0
    except OSError:
        return False


@dataclass(kw_only=True)
class ApacheKafka:
    """One combined broker and controller on loopback; `data_dir` keeps its log between starts.

    `properties` are added to server.properties; `jvm_flags` default to the lean ones.
    """

    data_dir: Path
    version: str = VERSION
    properties: dict[str, str] = field(default_factory=dict)
    jvm_flags: tuple[str, ...] = LEAN_FLAGS
    lean: bool = True
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    ready_s: float = 0.0

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *, timeout_s: float = 60) -> ApacheKafka:
        """Format the data directory if it is new, start, and return once the broker answers."""
        libs = jars(self.version)
        self.port = self.port or free_port_pair()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        configuration = self.data_dir / "server.properties"
        configuration.write_text("".join(f"{name}={value}\n" for name, value in self._server().items()))
        if not (self.data_dir / "log" / "meta.properties").exists():
            self._format(libs, configuration)
        log = (self.data_dir / "kafka.out").open("ab")
        started = time.monotonic()
        self.process = subprocess.Popen(
            ["java", *self.jvm_flags, "-cp", f"{libs}/*", "kafka.Kafka", str(configuration)],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.data_dir,
        )
        log.close()
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() - started > timeout_s:
                raise RuntimeError(
                    f"Apache Kafka did not start: {(self.data_dir / 'kafka.out').read_text()[-2000:]}"
                )
            time.sleep(0.002)
        self.ready_s = time.monotonic() - started
        return self

    def stop(self) -> None:
        """SIGTERM and wait; a broker that hangs is killed."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def tool(
        self, main_class: str, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A tool pointed at this broker."""
        return run_tool(
            main_class,
            "--bootstrap-server",
            self.bootstrap_servers,
            *arguments,
            version=self.version,
            stdin=stdin,
        )

    def _format(self, libs: Path, configuration: Path) -> None:
        storage = ["java", *TOOL_FLAGS, "-cp", f"{libs}/*", "kafka.tools.StorageTool"]
        arguments = ["format", "-t", CLUSTER_ID, "-c", str(configuration)]
        subprocess.run([*storage, *arguments], check=True, capture_output=True, timeout=60)

    def _server(self) -> dict[str, str]:
        listener, controller = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.port + 1}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{listener},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{listener}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data_dir / "log"),
            "group.initial.rebalance.delay.ms": "0",
            # A crashed single node is ready again in 2 s instead of 11 (its old session must expire first).
            "broker.session.timeout.ms": "1000",
            "broker.heartbeat.interval.ms": "250",
            **dict.fromkeys(FOUR, "4"),
            **dict.fromkeys(SINGLE, "1"),
            **(LEAN_PROPERTIES if self.lean else {}),
            **self.properties,
        }
