"""`tidemill up` as users run it: killed in parts and whole, refused clearly, started again on its data."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import is_alive, wait_until
from tests.harness.up import TIDEMILL, Up, clean_environ, running_up, start_up

pytestmark = pytest.mark.slow
HANDLER = "def handler(event, context):\n    return event\n"


def kill_and_await_another(up: Up, program: str) -> None:
    before = up.pids[program]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: up.pids[program] != before, what=f"{program} to be started again")


def test_every_program_that_dies_is_started_again_in_its_place(tmp_path: Path) -> None:
    """Kill -9 each in turn: the ready file gets the new pid, the endpoint and Kafka keep their ports."""
    with running_up(tmp_path / "data") as up:
        before = up.ready
        assert set(before) == {
            *("endpoint_url", "bootstrap_servers", "listeners", "cluster_arn", "region", "pids")
        }
        assert before["listeners"] == {"plaintext": before["bootstrap_servers"]}
        assert set(up.pids) == {"broker", "poller", "functions", "aws", "gateway"}
        up.client("sqs").create_queue(QueueName="before")
        for program in ("gateway", "functions", "broker", "poller", "aws"):
            kill_and_await_another(up, program)
            assert f"{program} was killed by SIGKILL; starting it again in" in up.log
        after = up.ready
        for name in ("endpoint_url", "bootstrap_servers", "cluster_arn"):
            assert after[name] == before[name]
        assert up.client("sqs").get_queue_url(QueueName="before")
        assert up.client("kafka").get_bootstrap_brokers(ClusterArn=after["cluster_arn"])
        assert up.client("lambda").list_functions()["Functions"] == []
        assert up.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
        assert up.client("sqs").create_queue(QueueName="q")
        pids = up.pids.values()
        assert up.stop() == 0
        assert not any(map(is_alive, pids))
        assert not up.ready_file.exists()


def test_up_says_that_moto_forgets(tmp_path: Path) -> None:
    with running_up(tmp_path / "data", "--aws", "moto") as up:
        up.client("sqs").create_queue(QueueName="before")
        assert "the queues, tables and buckets of before are gone" not in up.log
        kill_and_await_another(up, "aws")
        assert "the queues, tables and buckets of before are gone" in up.log
        assert up.client("sqs").list_queues().get("QueueUrls", []) == []


def test_ctrl_c_stops_the_poller_first_and_the_gateway_last(tmp_path: Path) -> None:
    """The poller can settle what is in flight, for all that it needs still runs."""
    with running_up(tmp_path / "data") as up:
        assert up.stop() == 0
        stopped = [line.split()[0] for line in up.log.splitlines() if line.endswith(" stopped")]
        assert stopped == ["poller", "functions", "broker"]


def test_a_second_ctrl_c_forces(tmp_path: Path) -> None:
    """A poller that cannot drain holds the first Ctrl-C up, and not the second."""
    with running_up(tmp_path / "data") as up:
        pids = up.pids
        os.kill(pids["poller"], signal.SIGSTOP)
        up.process.send_signal(signal.SIGINT)
        wait_until(lambda: "tidemill  │ stopping: " in up.log, what="the drain to begin")
        assert up.process.poll() is None
        assert up.stop() == 130
        assert not any(map(is_alive, pids.values()))


def test_nothing_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the launcher ends its programs; the next `up` on the data goes on where it stopped."""
    (tmp_path / "app.py").write_text(HANDLER)
    data_dir = tmp_path / "data"
    with running_up(data_dir) as up:
        up.cli("function", "register", "kept", f"{tmp_path}/app.py:handler")
        up.cli("topic", "create", "kept-topic", "--partitions", "3")
        up.cli("mapping", "create", "kept", "--topic", "kept-topic", "--disabled")
        up.cli("topic", "produce", "kept-topic", "one", "two")
        queue = up.client("sqs").create_queue(QueueName="kept-queue")["QueueUrl"]
        up.client("sqs").send_message(QueueUrl=queue, MessageBody="kept message")
        cluster_arn, pids = up.ready["cluster_arn"], list(up.pids.values())
        up.process.kill()
        wait_until(lambda: not any(map(is_alive, pids)), what="the programs to end")
    (data_dir / "ready.json").unlink()
    with running_up(data_dir) as again:
        assert again.ready["cluster_arn"] == cluster_arn
        queue = again.client("sqs").get_queue_url(QueueName="kept-queue")["QueueUrl"]
        [message] = again.client("sqs").receive_message(QueueUrl=queue)["Messages"]
        assert message["Body"] == "kept message"
        assert '"kept"' in again.cli("function", "list", "--json")
        assert '"kept-topic"' in again.cli("mapping", "list", "--json")
        lines = again.cli("topic", "tail", "kept-topic", "--from-beginning", "-n", "2").splitlines()
        assert sorted(line.rpartition(" ")[2] for line in lines) == ["one", "two"]


def test_a_second_up_on_the_same_data_is_rejected(tmp_path: Path) -> None:
    """The refusal names the pid and the flag, and harms nothing."""
    with running_up(tmp_path / "data") as up:
        refused = _up("--port", "0", "--kafka-port", "0", "--data-dir", str(up.data_dir))
        assert refused.returncode == 1
        assert f"is in use by another `tidemill up` (pid {up.process.pid})" in refused.stderr
        assert "--data-dir" in refused.stderr
        assert up.client("lambda").list_functions()["Functions"] == []


@pytest.mark.parametrize(("flag", "other"), [("--port", "--kafka-port"), ("--kafka-port", "--port")])
def test_a_port_in_use_is_told_with_its_flag(tmp_path: Path, flag: str, other: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = _up(flag, str(port), other, "0", "--data-dir", str(tmp_path / "data"))
    assert refused.returncode == 1
    assert f"error: Port {port} cannot be bound" in refused.stderr
    assert f"choose another with {flag}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_another_aws_takes_the_embedded_ones_place(tmp_path: Path) -> None:
    """With --aws-endpoint-url no moto is started, and SQS behind the endpoint is the other one's."""
    with running_up(tmp_path / "first") as first:
        up = start_up(tmp_path / "second", "--aws-endpoint-url", first.ready["endpoint_url"])
        try:
            assert up.ready["pids"]["aws"] is None
            up.client("sqs").create_queue(QueueName="elsewhere")
            assert len(first.client("sqs").list_queues()["QueueUrls"]) == 1
        finally:
            assert up.stop() == 0


def _up(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TIDEMILL, "up", *arguments],
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


SLOW = """
import pathlib, time

def handler(event, context):
    while not pathlib.Path({released!r}).exists():
        time.sleep(0.01)
"""
FAILING = "def handler(event, context):\n    raise ValueError('always')\n"
OURS = re.compile(r" INFO (tidemill\w*|poller|broker|functions)(\.\w+)* ")


def create_mapping(up: Up, function: str, topic: str) -> str:
    uuid: str = json.loads(up.cli("mapping", "create", function, "--topic", topic, "--json"))["UUID"]
    return uuid


def status(up: Up, uuid: str) -> dict[str, Any]:
    url = f"{up.ready['endpoint_url']}/_tidemill/mappings/{uuid}/status"
    with urllib.request.urlopen(url, timeout=5) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def partition_states(up: Up, uuid: str) -> list[str]:
    return [partition["state"] for partition in status(up, uuid)["partitions"]]


def test_ctrl_c_says_for_what_it_waits_and_how_to_end_it(tmp_path: Path) -> None:
    """A handler that takes its time: the drain is not silent, and its end is still a clean one."""
    released = tmp_path / "released"
    (tmp_path / "app.py").write_text(SLOW.format(released=str(released)))
    with running_up(tmp_path / "data") as up:
        up.cli("function", "register", "slow", f"{tmp_path}/app.py:handler", "--timeout", "60")
        up.cli("topic", "create", "orders", "--partitions", "1")
        uuid = create_mapping(up, "slow", "orders")
        up.cli("topic", "produce", "orders", "one")
        wait_until(lambda: "invoking" in partition_states(up, uuid), what="the invocation")
        up.process.send_signal(signal.SIGINT)
        said = wait_until(
            lambda: re.search(r"waiting for poller since \d+ s: (.*); (.*)", up.log), what="word of the wait"
        )
        assert re.fullmatch(r"slow \(invoking orders-0 since \d+ s\)", said[1])
        assert said[2].startswith("Ctrl-C again ends everything at once")
        released.touch()
        assert up.process.wait(60) == 0
        libraries = [line for line in up.log.splitlines() if " INFO " in line and not OURS.search(line)]
        assert libraries == []


def test_records_that_go_to_no_destination_are_named_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FAILING)
    with running_up(tmp_path / "data") as up:
        up.cli("function", "register", "failing", f"{tmp_path}/app.py:handler")
        up.cli("topic", "create", "orders", "--partitions", "1")
        up.cli("mapping", "create", "failing", "--topic", "orders", "--retries", "0", "--min-pollers", "1")
        up.cli("topic", "produce", "orders", "one")
        line = wait_until(
            lambda: re.search(r"WARNING .*records dropped .*", up.log), what="the dropped record"
        )
        assert "orders-0" in line[0]
        assert "records=1" in line[0]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "http://127.0.0.1:1",
            r"Nothing answers at http://127.0.0.1:1 \(Connection refused\): start that AWS",
        ),
        (
            "127.0.0.1:4566",
            "--aws-endpoint-url takes a URL such as http://127.0.0.1:4566, not '127.0.0.1:4566'",
        ),
    ],
)
def test_an_aws_that_does_not_answer_is_rejected_at_once(tmp_path: Path, url: str, reason: str) -> None:
    refused = _up("--port", "0", "--kafka-port", "0", "--data-dir", str(tmp_path), "--aws-endpoint-url", url)
    assert refused.returncode == 1
    assert re.search(f"error: {reason}", refused.stderr)
    assert not (tmp_path / "run").exists()


def test_another_loopback_address_is_the_endpoints_and_kafkas(tmp_path: Path) -> None:
    """The programs behind the endpoint stay where only this machine reaches them."""
    (tmp_path / "app.py").write_text(HANDLER)
    with running_up(tmp_path / "data", "--host", "127.0.0.2") as up:
        assert up.ready["endpoint_url"].startswith("http://127.0.0.2:")
        assert up.ready["bootstrap_servers"].startswith("127.0.0.2:")
        up.cli("function", "register", "app", f"{tmp_path}/app.py:handler")
        up.cli("topic", "create", "orders", "--partitions", "1")
        uuid = create_mapping(up, "app", "orders")
        up.cli("topic", "produce", "orders", "one")
        wait_until(lambda: status(up, uuid)["result"] == "OK", what="the record")
        assert "WARNING: 127.0.0.2 is reached from other machines" not in up.log


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--host", "203.0.113.7"), "--host 203.0.113.7 would let everybody who reaches it run code as you"),
        (("--host", "203.0.113.7", "--expose"), "203.0.113.7 is no address of this machine"),
    ],
)
def test_a_host_that_others_reach_needs_the_users_word(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    refused = _up("--port", "0", "--kafka-port", "0", "--data-dir", str(tmp_path), *arguments)
    assert refused.returncode != 0
    assert reason in refused.stderr
    assert not (tmp_path / "run").exists()


def test_an_exposed_endpoint_is_warned_of(tmp_path: Path) -> None:
    host = _address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    with running_up(tmp_path / "data", "--host", host, "--expose") as up:
        assert up.ready["endpoint_url"].startswith(f"http://{host}:")
        assert f"WARNING: {host} is reached from other machines (--expose)" in up.log
        assert up.client("lambda").list_functions()["Functions"] == []
        assert host in str(up.client("kafka").get_bootstrap_brokers(ClusterArn=up.ready["cluster_arn"]))


def _address() -> str | None:
    """The address by which this machine reaches others; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("203.0.113.7", 9))
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address
    return None
