"""No request holds others up: every API gets the largest request that it takes, and a bystander is measured.

`make one T=tests/integration/broker/bystander` runs it alone.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.kafka_frames import request, request_frame
from tests.fakes.largest_requests import largest_requests
from tests.fakes.raw_kafka import Disconnected, RawKafka
from tests.harness.tidemill_broker import TidemillBroker
from tidemill_broker.apis import APIS, Api
from tidemill_broker.protocol.reader import ELEMENTS_MAX

CREATE_TOPICS, METADATA = 19, 3
# What one request may hold another client up, and what is granted a machine whose cores are shared.
HELD_UP_S = 0.25
SHARED_CORES = 1.6
TRIES = 3
TOPICS = 1_000
SETTINGS = {"group.initial.rebalance.delay.ms": "0", "auto.create.topics.enable": "true"}


class Bystander(threading.Thread):
    """Another client, which asks for little again and again; `longest_s` is its longest round trip."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._client = RawKafka(port)
        self._frame = request_frame(request(METADATA, 9, topics=[]))
        self._stopped = False

    def run(self) -> None:
        while not self._stopped:
            began_s = time.perf_counter()
            self._client.ask_raw(self._frame)
            self.longest_s = max(self.longest_s, time.perf_counter() - began_s)
            time.sleep(0.001)
        self._client.close()

    def stop(self) -> float:
        self._stopped = True
        self.join()
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
    return bystander.stop()


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
    topics = [
        {"name": f"there{index}", "num_partitions": 1, "replication_factor": 1} for index in range(TOPICS)
    ]
    client.ask(CREATE_TOPICS, 7, topics=topics)
    client.close()


NUMBERS = itertools.count()
TABLE = [pytest.param(api, id=api.name) for api in APIS.values()]


def worst(broker: TidemillBroker, api: Api) -> dict[str, float]:
    """The best of some tries for each way to fill the request."""
    best: dict[str, float] = {}
    for names in ("there", *(f"try{next(NUMBERS)}-" for _ in range(TRIES - 1))):
        # JoinGroup and the like may have fewer, and Kafka's header and body a few of their own.
        most = (api.elements_max or ELEMENTS_MAX) - 5
        for version in sorted({api.min_version, api.max_version}):
            for path, frame in largest_requests(api.key, version, most, names):
                what = f"v{version} {path}"
                if best.get(what, 9.0) > HELD_UP_S / 2:
                    best[what] = min(best.get(what, 9.0), held_up_s(broker.port, frame))
    return best


@pytest.mark.parametrize("api", TABLE)
def test_the_largest_request_of_an_api_holds_nobody_up(everything_allowed: TidemillBroker, api: Api) -> None:
    held_up = worst(everything_allowed, api)
    assert max(held_up.values()) < HELD_UP_S * SHARED_CORES, held_up


@pytest.mark.parametrize("api", TABLE)
def test_nor_does_it_without_any_right(nothing_allowed: TidemillBroker, api: Api) -> None:
    held_up = worst(nothing_allowed, api)
    assert max(held_up.values()) < HELD_UP_S * SHARED_CORES, held_up
