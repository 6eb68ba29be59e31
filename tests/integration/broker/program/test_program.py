"""The broker as a program: readiness, the ready file, signals, the lock, and each way it refuses to start."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import ROOT, TidemillBroker
from tidemill_broker.settings import CONTROL_PORT

API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 7, -1)
READY_S = 0.4
ATTEMPTS = 3


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TidemillBroker]:
    started = TidemillBroker(data_dir=tmp_path).start()
    yield started
    started.kill()


def ask(port: int, frame: bytes) -> bytes:
    """One frame, one reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(frame)
        length = int.from_bytes(read(connection, 4), "big")
        return read(connection, length)


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        assert part, "the broker closed the connection"
        data += part
    return data


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The program with arguments that it refuses."""
    return subprocess.run(
        [sys.executable, "-m", "tidemill_broker", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        check=False,
    )


def test_connections_leave_half_of_the_open_files_to_the_log(broker: TidemillBroker) -> None:
    open_files = len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (4 * open_files, 4 * open_files))
    with ExitStack() as opened:
        for _ in range(2 * open_files):
            connection = socket.create_connection(("127.0.0.1", broker.port), timeout=5)
            opened.enter_context(connection)
        last = opened.enter_context(socket.create_connection(("127.0.0.1", broker.port), timeout=5))
        assert last.recv(1) == b""
    wait_until(lambda: "raise max.connections, or the limit of open files" in broker.log)
    assert ask(broker.port, API_VERSIONS)


def test_it_answers_when_the_ready_file_is_there(broker: TidemillBroker) -> None:
    assert ask(broker.port, API_VERSIONS).startswith(struct.pack(">ih", 7, 0))
    assert broker.ready.keys() == {"pid", "port", "listeners", "control_port", "cluster_arn"}
    assert broker.ready["pid"] == broker.pid
    with socket.create_connection(("127.0.0.1", broker.ready["control_port"]), timeout=5):
        pass


def test_it_is_ready_within_its_time(tmp_path: Path) -> None:
    """Counted in its own processor time: what else the machine does is not its fault."""
    broker = TidemillBroker(data_dir=tmp_path)
    times = []
    for _ in range(ATTEMPTS):
        broker.start()
        times.append(processor_s(broker.pid))
        broker.stop()
    assert min(times) < READY_S


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_its_identity_survives_a_restart_and_a_kill(broker: TidemillBroker) -> None:
    arn, port = broker.ready["cluster_arn"], broker.port
    broker.restart()
    broker.kill()
    broker.start()
    assert (broker.ready["cluster_arn"], broker.port) == (arn, port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(broker: TidemillBroker, number: signal.Signals) -> None:
    assert broker.process is not None
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as idle:
        broker.process.send_signal(number)
        assert broker.process.wait(timeout=10) == 0
        assert idle.recv(1) == b"", "an idle connection is closed"
    assert "draining" in broker.log
    assert broker.log.rstrip().endswith("stopped")


def fetch_that_waits(max_wait_ms: int) -> bytes:
    """Fetch v4 for a partition that holds nothing, with min_bytes 1."""
    body = struct.pack(">iiiib", -1, max_wait_ms, 1, 1 << 20, 0)
    topic = struct.pack(">ih", 1, 7) + b"flights" + struct.pack(">iiqi", 1, 0, 0, 1 << 20)
    frame = struct.pack(">hhih", 1, 4, 7, -1) + body + topic
    return struct.pack(">i", len(frame)) + frame


def metadata_that_creates() -> bytes:
    frame = struct.pack(">hhih", 3, 1, 7, -1) + struct.pack(">ih", 1, 7) + b"flights"
    return struct.pack(">i", len(frame)) + frame


def test_the_second_signal_forces(broker: TidemillBroker) -> None:
    assert broker.process is not None
    ask(broker.port, metadata_that_creates())
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as waiting:
        waiting.sendall(fetch_that_waits(60_000))
        ask(broker.port, API_VERSIONS)  # the fetch came first, so it waits by now
        broker.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in broker.log, what="the drain to begin")
        broker.process.send_signal(signal.SIGTERM)
        assert broker.process.wait(timeout=10) == 1
    assert "forced to stop" in broker.log


def test_a_second_broker_on_one_data_directory_is_rejected(broker: TidemillBroker) -> None:
    data_dir = str(broker.data_dir / "data")
    refused = run("--port", "0", "--control-port", "0", "--data-dir", data_dir)
    assert refused.returncode == 1
    assert f"another broker (pid {broker.pid}) uses the data directory {data_dir}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert ask(broker.port, API_VERSIONS)


@pytest.mark.parametrize("flag", ["--port", "--control-port"])
def test_a_port_that_is_taken_is_told(broker: TidemillBroker, tmp_path: Path, flag: str) -> None:
    ports = {"--port": "0", "--control-port": "0"} | {flag: str(broker.port)}
    refused = run(*(each for pair in ports.items() for each in pair), "--data-dir", str(tmp_path / "second"))
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{broker.port}" in refused.stderr
    assert f"give another {flag}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_default_control_port_that_is_taken_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    own = ["--port", "0", "--data-dir", str(tmp_path / "data"), "--ready-file", str(ready_file)]
    with ExitStack() as stack:
        with suppress(OSError):  # another program on this machine has it already
            stack.enter_context(socket.create_server(("127.0.0.1", CONTROL_PORT)))
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tidemill_broker", *own], cwd=ROOT, stderr=subprocess.PIPE, text=True
            )
        )
        stack.callback(process.kill)
        wait_until(ready_file.exists, what="the broker to be ready")
        control_port = json.loads(ready_file.read_text())["control_port"]
        with socket.create_connection(("127.0.0.1", control_port), timeout=5):
            pass
        process.terminate()
        _, log = process.communicate(timeout=10)
    assert control_port != CONTROL_PORT
    line = "the default control port is taken, using a free one"
    assert f"{line} default={CONTROL_PORT} control_port={control_port}; --control-port names another" in log


def test_a_data_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused = run("--port", "0", "--control-port", "0", "--data-dir", str(tmp_path / "file"))
    assert refused.returncode == 1
    assert "cannot use the data directory" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("name", ["cluster.json", "producer_ids.json", "scram.json"])
@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", "[" * 5000, '{"cluster_uuid": [1]}', '{"cluster_uuid": "x", "next_producer_id": "y"}'],
)
def test_a_file_that_cannot_be_read_is_told_and_left_alone(tmp_path: Path, name: str, content: str) -> None:
    """To start anew would give the cluster another ARN, or the same producer ids to others."""
    (tmp_path / name).write_text(content)
    refused = run("--port", "0", "--control-port", "0", "--data-dir", str(tmp_path))
    assert refused.returncode == 1
    assert f"{tmp_path / name} cannot be read" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--set", "num.partition=3"], {}, "did you mean num.partitions"),
        (["--set", "num.partitions=0", "--set", "nonsense=1"], {}, "nonsense: no such setting here"),
        (["--port", "x"], {}, "invalid int value"),
        (["--host", "0.0.0.0"], {}, "add --set advertised.listeners=PLAINTEXT://host:port"),
        ([], {"TIDEMILL_ACCOUNT_ID": "1"}, "must be 12 digits"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], words: str
) -> None:
    refused = run("--data-dir", str(tmp_path / "data"), *arguments, environment=environment)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "data").exists()


def test_clients_are_told_the_advertised_address(tmp_path: Path) -> None:
    settings = {"advertised.listeners": "PLAINTEXT://kafka.example:19092"}
    broker = TidemillBroker(data_dir=tmp_path, settings=settings).start()
    try:
        reply = ask(broker.port, metadata_that_creates())
    finally:
        broker.stop()
    assert struct.pack(">h", 13) + b"kafka.example" + struct.pack(">i", 19092) in reply


def test_the_ready_file_is_never_half_written(tmp_path: Path) -> None:
    """It is renamed into place, so whoever sees it can read it."""
    broker = TidemillBroker(data_dir=tmp_path).start()
    broker.stop()
    assert json.loads((tmp_path / "ready.json").read_text()) == broker.ready
    assert [file.name for file in tmp_path.iterdir() if ".tmp" in file.name] == []


def test_a_crash_dumps_no_memory(broker: TidemillBroker) -> None:
    """It would hold what clients prove themselves by."""
    limits = Path(f"/proc/{broker.pid}/limits").read_text().splitlines()
    assert [line.split()[4] for line in limits if line.startswith("Max core file size")] == ["0"]


def test_producer_ids_are_not_given_again_after_a_kill(broker: TidemillBroker) -> None:
    given = set()
    for _ in range(3):
        for _ in range(3):
            given.add(producer_id(broker.port))
        broker.kill()
        broker.start()
    assert len(given) == 9


def test_old_segments_are_deleted_while_it_runs(tmp_path: Path) -> None:
    settings = {"log.retention.check.interval.ms": "50", "log.retention.ms": "1", "log.segment.bytes": "1000"}
    broker = TidemillBroker(data_dir=tmp_path, settings=settings).start()
    try:
        ask(broker.port, metadata_that_creates())
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "batch.size": 1000})
        for _ in range(20):
            producer.produce("flights", bytes(500), partition=0)
        assert producer.flush(10) == 0
        wait_until(lambda: earliest_offset(broker.port) > 0, what="a segment to be deleted")
    finally:
        broker.stop()


def earliest_offset(port: int) -> int:
    asked = {"name": "flights", "partitions": [{"partition_index": 0, "timestamp": -2}]}
    frame = request_frame(request(2, 1, replica_id=-1, topics=[asked]))
    reply = ask(port, struct.pack(">i", len(frame)) + frame)
    found = read_response(2, 1, struct.pack(">i", len(reply)) + reply)
    return int(found.topics[0].partitions[0].offset)


def producer_id(port: int) -> int:
    frame = struct.pack(">hhih", 22, 0, 7, -1) + struct.pack(">hi", -1, 60_000)
    _, _, error, found, epoch = struct.unpack(">iihqh", ask(port, struct.pack(">i", len(frame)) + frame))
    assert (error, epoch) == (0, 0)
    return int(found)
