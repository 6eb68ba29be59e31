"""Kill -9 of each program in mid-stream: what was acknowledged is processed, in order, duplicates only."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Bench
from tests.harness.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

KEYS = 40
ROUNDS = 75
GATE_ROUND = 20


def kill_handler(bench: Bench) -> None:
    """The execution environment that runs the invocation at the gate."""
    pid = bench.proof.handler_at_gate()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def kill_functions(bench: Bench) -> None:
    bench.stack.functions.kill()
    bench.stack.functions.start()


def kill_poller(bench: Bench) -> None:
    bench.stack.poller.kill()
    bench.stack.poller.start()


def kill_broker(bench: Bench) -> None:
    bench.stack.kafka.kill()
    bench.stack.kafka.start()


def kill_all(bench: Bench) -> None:
    """What a power cut does, but for the page cache."""
    stack = bench.stack
    stack.kafka.kill()
    stack.poller.kill()
    stack.functions.kill()
    stack.kafka.start()
    stack.functions.start()
    stack.poller.start()


@pytest.mark.parametrize(
    "kill", [kill_handler, kill_functions, kill_poller, kill_broker, kill_all], ids=lambda kill: kill.__name__
)
def test_nothing_acknowledged_is_lost_and_order_holds(bench: Bench, kill: Callable[[Bench], None]) -> None:
    """3,000 keyed records, acks=all; the kill falls while an invocation and some produces are under way."""
    stream_through(bench, kill)


@pytest.mark.kafka
@pytest.mark.parametrize("kill", [kill_poller, kill_broker], ids=lambda kill: kill.__name__)
def test_nothing_is_lost_on_apache_kafka_either(apache_bench: Bench, kill: Callable[[Bench], None]) -> None:
    """The same on a real Apache Kafka: what holds is the poller's doing, not the broker's."""
    stream_through(apache_bench, kill)


def stream_through(bench: Bench, kill: Callable[[Bench], None]) -> None:
    bench.create_function()
    bench.stack.create_mapping(bench.name, bench.name, BatchSize=50)
    for number in range(ROUNDS):
        gate = " gate" if number == GATE_ROUND else ""
        bench.produce([(f"key-{key}", f"{number}{gate if key == 0 else ''}") for key in range(KEYS)])
        if number == GATE_ROUND:
            bench.flush()
            wait_until(bench.proof.handler_at_gate, what=f"the gate\n{bench.stack.logs()}")
        if number == GATE_ROUND + 5:
            kill(bench)
            bench.proof.open_gate()
        if number % 5 == 0 and not GATE_ROUND < number <= GATE_ROUND + 5:
            bench.flush()
    bench.flush()
    assert len(bench.acknowledged) == KEYS * ROUNDS
    bench.wait_until_done(timeout_s=90)
    bench.assert_order_held()
    if kill is not kill_broker:
        assert attempts_at_gate(bench) >= 2, "the kill did not fall into an invocation"


def attempts_at_gate(bench: Bench) -> int:
    """How often the batch was delivered whose invocation was killed."""
    [(partition, offset)] = [at for at, (_, value) in bench.acknowledged.items() if "gate" in value]
    invocations = bench.proof.attempts(f"{bench.name}-{partition}")
    return sum(any(row[0] == offset for row in rows) for rows in invocations)
