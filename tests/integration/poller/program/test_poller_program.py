"""`python -m tidemill_poller` as users run it: ready, drained, killed, and told what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.benchmarks.poller import PollerProcess, produce, store_mapping, wait_until
from tests.fakes.http_thread import serving
from tests.harness.tidemill_broker import TidemillBroker
from tidemill_poller.__main__ import main
from tidemill_poller.store import MappingStore


@dataclass
class HttpFunction:
    """A Lambda endpoint that remembers which offsets it was sent, in order."""

    delay_s: float = 0.0
    fails: bool = False
    seen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def application(self) -> web.Application:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_post("/{path:.*}", self._invoke)
        return app

    async def _invoke(self, request: web.Request) -> web.Response:
        for partition, records in (await request.json())["records"].items():
            self.seen[partition] += [record["offset"] for record in records]
        error = {"X-Amz-Function-Error": "Unhandled"} if self.fails else {}
        return web.json_response(None, headers={"X-Amz-Executed-Version": "$LATEST", **error})

    def distinct(self) -> int:
        return sum(len(set(offsets)) for offsets in self.seen.values())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TidemillBroker]:
    broker = TidemillBroker(data_dir=tmp_path / "broker").start()
    yield broker
    broker.stop()


def status(poller: PollerProcess, uuid: str) -> dict[str, Any]:
    return told(poller, f"/{uuid}/status")


def told(poller: PollerProcess, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{poller.url}/_tidemill/mappings{path}", timeout=5) as reply:
        found: dict[str, Any] = json.load(reply)
        return found


def last_result(directory: Path, uuid: str) -> str:
    store = MappingStore(directory / "poller")
    try:
        mapping = store.get(uuid)
        assert mapping is not None
        return mapping.last_processing_result
    finally:
        store.close()


def test_a_drained_poller_leaves_at_once_and_the_next_repeats_nothing(
    tmp_path: Path, broker: TidemillBroker
) -> None:
    function = HttpFunction()
    with serving(function.application) as url:
        produce(broker, "orders", 4000)
        uuid = store_mapping(tmp_path, broker, "orders", batch_size=10, window_s=0)
        first = PollerProcess(tmp_path, url)
        wait_until(lambda: function.distinct() > 200)
        first.stop()
        assert first.process.returncode == 0
        second = PollerProcess(tmp_path, url)
        began_s = time.monotonic()
        had = function.distinct()
        wait_until(lambda: function.distinct() > had)
        assert time.monotonic() - began_s < 8  # a session left to expire would take 10
        wait_until(lambda: function.distinct() == 4000)
        wait_until(lambda: status(second, uuid)["lag"] == 0)
        shown = status(second, uuid)
        assert shown["result"] == "OK"
        assert len(shown["partitions"]) == 8
        second.stop()
    assert all(offsets == list(range(500)) for offsets in function.seen.values())


def test_kill_nine_in_mid_stream_loses_nothing_and_keeps_the_order(
    tmp_path: Path, broker: TidemillBroker
) -> None:
    function = HttpFunction()
    with serving(function.application) as url:
        produce(broker, "orders", 8000)
        store_mapping(tmp_path, broker, "orders", batch_size=10, window_s=0)
        first = PollerProcess(tmp_path, url)
        wait_until(lambda: function.distinct() > 500)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        second = PollerProcess(tmp_path, url)
        wait_until(lambda: function.distinct() == 8000)
        second.stop()
    for offsets in function.seen.values():
        first_time = list(dict.fromkeys(offsets))
        assert first_time == list(range(1000))


def test_records_that_were_dropped_in_no_destination_are_counted_beside_the_result(
    tmp_path: Path, broker: TidemillBroker
) -> None:
    function = HttpFunction(fails=True)
    with serving(function.application) as url:
        produce(broker, "orders", 80)
        uuid = store_mapping(tmp_path, broker, "orders", batch_size=10, window_s=0)
        give_up_at_once(tmp_path, uuid)
        poller = PollerProcess(tmp_path, url)
        wait_until(lambda: status(poller, uuid)["dropped_records"] == 80)
        assert told(poller, "") == {"mappings": [{"mapping": uuid, "dropped_records": 80}]}
        function.fails = False
        produce(broker, "orders", 80, create=False)
        wait_until(lambda: status(poller, uuid)["result"] == "OK")
        assert status(poller, uuid)["dropped_records"] == 80
        poller.stop()


def give_up_at_once(directory: Path, uuid: str) -> None:
    """Let the mapping drop what its function fails on: no retries, no destination."""
    store = MappingStore(directory / "poller")
    mapping = store.get(uuid)
    assert mapping is not None
    store.replace(replace(mapping, maximum_retry_attempts=0), expected_version=mapping.version)
    store.close()


def test_a_broker_that_dies_is_a_problem_and_its_restart_needs_no_hand(
    tmp_path: Path, broker: TidemillBroker
) -> None:
    function = HttpFunction()
    with serving(function.application) as url:
        produce(broker, "orders", 100)
        uuid = store_mapping(tmp_path, broker, "orders", batch_size=10, window_s=0)
        poller = PollerProcess(tmp_path, url)
        wait_until(lambda: function.distinct() == 100)
        wait_until(lambda: last_result(tmp_path, uuid) == "OK")
        broker.kill()
        wait_until(lambda: last_result(tmp_path, uuid).startswith("PROBLEM: Connection error."))
        (member,) = status(poller, uuid)["pollers"]
        assert broker.bootstrap_servers in member["reason"]
        broker.start()
        wait_until(lambda: last_result(tmp_path, uuid) == "OK")
        produce(broker, "orders", 100, create=False)
        wait_until(lambda: function.distinct() == 200)
        poller.stop()


def test_bad_settings_end_with_one_sentence_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TIDEMILL_POLLER_COMMIT_INTERVAL_MS", "soon")
    assert main(["--port", "0", "--data-dir", str(tmp_path)]) == 2
    assert "TIDEMILL_POLLER_COMMIT_INTERVAL_MS" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_and_the_fix_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "tidemill_poller", "--port", str(port), "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "AWS_REGION": "us-east-1"},
            check=False,
        )
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_record_that_blocks_its_partition_is_skipped_by_hand(
    tmp_path: Path, broker: TidemillBroker
) -> None:
    produce(broker, "stuck", 8)  # one in each partition
    function = HttpFunction(fails=True)
    with serving(function.application) as url:
        uuid = store_mapping(tmp_path, broker, "stuck", batch_size=1, window_s=0)
        poller = PollerProcess(tmp_path, url)

        def skip(partition: str) -> tuple[int, Any]:
            where = f"{poller.url}/_tidemill/mappings/{uuid}/partitions/{partition}/skip"
            try:
                with urllib.request.urlopen(urllib.request.Request(where, method="POST"), timeout=5) as reply:
                    return reply.status, json.load(reply)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)

        try:
            wait_until(lambda: function.distinct() == 8)
            wait_until(lambda: skip("stuck-3")[0] == 200)
            wait_until(lambda: told(poller, f"/{uuid}/status")["dropped_records"] == 1)
            retried = urllib.request.Request(f"{poller.url}/_tidemill/mappings/{uuid}/retry", method="POST")
            wait_until(lambda: json.load(urllib.request.urlopen(retried, timeout=5))["partitions"] > 0)
            assert skip("stuck-99")[0] == skip("other-3")[0] == skip("stuck-x")[0] == 409
        finally:
            poller.stop()
