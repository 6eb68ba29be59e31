"""ACLs on a running broker: who is connected loses what is taken away, and no ACL is ever forgotten."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.raw_kafka import RawKafka
from tests.fakes.record_batches import batch
from tests.harness.acl_brokers import (
    ANY_ACL,
    CREATE_ACLS,
    DESCRIBE_ACLS,
    AclBroker,
    Rule,
    tidemill_with_acls,
)
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import TidemillBroker
from tidemill_broker.protocol.errors import ErrorCode

PRODUCE, FETCH, CREATE_TOPICS = 0, 1, 19
TOPIC, CLUSTER = 2, 4
ALL, READ, WRITE = 2, 3, 4
DENY, PREFIXED = 2, 4
ALICE = "User:alice"
SOON = timedelta(seconds=10)
LONG_POLL_S = 30
DENIED, OK = ErrorCode.topic_authorization_failed, ErrorCode.none


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AclBroker]:
    started = tidemill_with_acls(tmp_path_factory.mktemp("tidemill"))
    topics = [{"name": name, "num_partitions": 1, "replication_factor": 1} for name in ("flights", "empty")]
    started.root.ask(CREATE_TOPICS, 7, timeout=SOON, topics=topics)
    yield started
    started.close()


def produced(client: RawKafka) -> ErrorCode:
    data = [{"name": "flights", "partition_data": [{"index": 0, "records": batch()}]}]
    reply = client.ask(PRODUCE, 9, acks=-1, timeout=SOON, topic_data=data)
    code: ErrorCode = reply.responses[0].partition_responses[0].error_code
    return code


def fetched(client: RawKafka, topic: str = "flights", *, max_wait_s: float = 0) -> tuple[ErrorCode, bool]:
    """The partition's code, and whether there were records."""
    partition = {"partition": 0, "current_leader_epoch": -1, "partition_max_bytes": 1000}
    reply = client.ask(
        FETCH,
        12,
        max_wait=timedelta(seconds=max_wait_s),
        min_bytes=1,
        max_bytes=1000,
        session_epoch=-1,
        topics=[{"topic": topic, "partitions": [partition]}],
    )
    partition_reply: Any = reply.responses[0].partitions[0]
    return partition_reply.error_code, bool(partition_reply.records)


def test_a_right_that_is_taken_away_is_missing_soon(broker: AclBroker) -> None:
    """The core trusts what it has decided for 100 ms; the seconds here are for a machine that is busy."""
    alice = broker.user("alice")
    rights = {Rule(TOPIC, "fli", ALICE, operation, pattern_type=PREFIXED) for operation in (READ, WRITE)}
    broker.hold(rights)
    assert (produced(alice), fetched(alice)) == (OK, (OK, True))
    broker.hold({*rights, Rule(TOPIC, "flights", "User:*", WRITE, DENY)})
    wait_until(lambda: produced(alice) is DENIED, what="a refused batch")
    assert fetched(alice) == (OK, True)
    broker.hold(rule for rule in rights if rule.operation == WRITE)
    wait_until(lambda: fetched(alice) == (DENIED, False), what="a refused fetch")
    assert produced(alice) is OK
    broker.hold(rights)
    assert fetched(alice) == (OK, True)


def test_a_waiting_fetch_ends_when_its_right_is_taken_away(broker: AclBroker) -> None:
    alice, right = broker.user("alice"), Rule(TOPIC, "empty", ALICE, READ)
    broker.hold([right])
    replies: list[tuple[ErrorCode, bool]] = []
    waiting = threading.Thread(target=lambda: replies.append(fetched(alice, "empty", max_wait_s=LONG_POLL_S)))
    waiting.start()
    # Another connection is answered behind the fetch only once that waits, as there is one event loop.
    for _ in range(10):
        broker.rules()
    taken = time.monotonic()
    broker.hold([Rule(TOPIC, "empty", "User:bob", READ)])
    waiting.join(LONG_POLL_S)
    assert replies == [(DENIED, False)]
    assert time.monotonic() - taken < LONG_POLL_S / 3


def test_no_acl_is_forgotten_by_kill_9(tmp_path: Path) -> None:
    """And a broker that could not read them all would rather not start."""
    broker = TidemillBroker(data_dir=tmp_path).start()
    client, rights = RawKafka(broker.port), Rule(CLUSTER, "kafka-cluster", "User:root", ALL)
    client.ask(CREATE_ACLS, 3, creations=[rights.creation()])
    denied = ErrorCode.cluster_authorization_failed
    assert client.ask(DESCRIBE_ACLS, 3, **ANY_ACL).error_code is denied
    broker.kill()
    broker.start()
    assert RawKafka(broker.port).ask(DESCRIBE_ACLS, 3, **ANY_ACL).error_code is denied
    broker.stop()
    file = tmp_path / "data" / "acls.json"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(RuntimeError, match=r"acls\.json cannot be read \(acls\.json is damaged: .*; restore"):
        broker.start()
