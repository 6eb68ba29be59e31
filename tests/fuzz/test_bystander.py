"""No request holds others up: every API gets the largest that it takes, and another client asks meanwhile.

`make test` asks for less and measures nothing: that it costs little is counted in `test_largest_requests.py`.
`make fuzz` asks for all and measures the longest round trip of the other client.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.largest_requests import largest_requests
from tests.fakes.raw_kafka import Disconnected, RawKafka
from tests.fakes.record_batches import Record, batch
from tests.harness.tidemill_broker import TidemillBroker
from tidemill_broker.apis import APIS, Api
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.reader import ELEMENTS_MAX

CREATE_TOPICS, METADATA, PRODUCE = 19, 3, 0
MEASURED = "TIDEMILL_FUZZ_ELEMENTS" in os.environ
ELEMENTS = int(os.environ.get("TIDEMILL_FUZZ_ELEMENTS", "300"))
# What one request may hold another client up, and what is granted a machine whose cores are shared.
HELD_UP_S = 0.25 * 1.6 if MEASURED else float("inf")
TRIES = 3 if MEASURED else 1
TOPICS = 1_000 if MEASURED else 20
BOMBS, BOMB_BYTES = (16, 60_000_000) if MEASURED else (4, 6_000_000)
SETTINGS = {"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "true"}


class Bystander(threading.Thread):
    """Another client, which asks for little again and again; `longest_s` is its longest round trip.

    Any answer but a whole one ends it, and `stop` raises that.
    """

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._client = RawKafka(port)
        self._frame = request_frame(request(METADATA, 9, topics=[]))
        self._stopped = False
        self._fault: Exception | None = None

    def run(self) -> None:
        try:
            while not (self._stopped and self.longest_s):
                began_s = time.perf_counter()
                self._client.ask_raw(self._frame)
                self.longest_s = max(self.longest_s, time.perf_counter() - began_s)
        except (Disconnected, OSError) as error:
            self._fault = error
        finally:
            self._client.close()

    def stop(self) -> float:
        self._stopped = True
        self.join()
        if self._fault is not None:
            raise self._fault
        return self.longest_s


def held_up_s(port: int, frame: bytes) -> float:
    """The longest round trip of a bystander while the frame is answered, or its connection closed."""
    client = RawKafka(port)
    bystander = Bystander(port)
    bystander.start()
    try:
        client.ask_raw(frame)
    except (Disconnected, TimeoutError):
        pass
    finally:
        client.close()
        longest_s = bystander.stop()
    return longest_s


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[TidemillBroker]:
    broker = TidemillBroker(data_dir=directory, settings=SETTINGS | settings).start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def everything_allowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TidemillBroker]:
    """A broker with many topics, where the client may do all."""
    with running(tmp_path_factory.mktemp("allowed")) as broker:
        fill(broker.port)
        yield broker


@pytest.fixture(scope="module")
def nothing_allowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TidemillBroker]:
    """A broker where the client has no right at all."""
    settings = {"allow.everyone.if.no.acl.found": "false"}
    with running(tmp_path_factory.mktemp("denied"), **settings) as broker:
        yield broker


def fill(port: int) -> None:
    client = RawKafka(port)
    for first in range(0, TOPICS, 100):
        names = [f"there{index}" for index in range(first, min(first + 100, TOPICS))]
        topics = [{"name": name, "num_partitions": 1, "replication_factor": 1} for name in names]
        client.ask(CREATE_TOPICS, 7, topics=topics)
    client.close()


NUMBERS = itertools.count()
TABLE = [pytest.param(api, id=api.name) for api in APIS.values()]


def worst(broker: TidemillBroker, api: Api) -> dict[str, float]:
    """The best of some tries for each way to fill the request."""
    best: dict[str, float] = {}
    for names in ("there", *(f"try{next(NUMBERS)}-" for _ in range(TRIES - 1))):
        # JoinGroup and the like may have fewer, and Kafka's header and body a few of their own.
        most = min(ELEMENTS, api.elements_max or ELEMENTS_MAX) - 5
        for version in sorted({api.min_version, api.max_version}):
            for path, frame in largest_requests(api.key, version, most, names):
                what = f"v{version} {path}"
                if best.get(what, 9.0) > 0.25 / 2:
                    best[what] = min(best.get(what, 9.0), held_up_s(broker.port, frame))
    print(f"{api.name}: {max(best.values()) * 1000:.0f} ms")  # noqa: T201 - what `make fuzz` measures
    return best


@pytest.mark.parametrize("api", TABLE)
def test_the_largest_request_of_an_api_holds_nobody_up(everything_allowed: TidemillBroker, api: Api) -> None:
    held_up = worst(everything_allowed, api)
    assert max(held_up.values()) < HELD_UP_S, held_up


@pytest.mark.parametrize("api", TABLE)
def test_nor_does_it_without_any_right(nothing_allowed: TidemillBroker, api: Api) -> None:
    held_up = worst(nothing_allowed, api)
    assert max(held_up.values()) < HELD_UP_S, held_up


def test_nor_do_batches_that_inflate_to_much(everything_allowed: TidemillBroker) -> None:
    client = RawKafka(everything_allowed.port)
    wide = {"name": "inflated", "num_partitions": BOMBS, "replication_factor": 1}
    client.ask(CREATE_TOPICS, 7, topics=[wide])
    bomb = batch([Record(value=bytes(BOMB_BYTES))], codec="zstd")
    partitions = [{"index": index, "records": bomb} for index in range(BOMBS)]
    topics = [{"name": "inflated", "partition_data": partitions}]
    frame = request_frame(request(PRODUCE, 12, transactional_id=None, acks=-1, topic_data=topics))
    answer = read_response(PRODUCE, 12, client.ask_raw(frame))
    client.close()
    assert {each.error_code for each in answer.responses[0].partition_responses} == {ErrorCode.none}
    held_up = min(held_up_s(everything_allowed.port, frame) for _ in range(TRIES))
    print(f"{BOMBS} bombs: {held_up * 1000:.0f} ms")  # noqa: T201 - as above
    assert held_up < HELD_UP_S
