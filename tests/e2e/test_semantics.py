"""Lambda's error semantics end to end: retries, bisect, partial responses, destinations, rebalances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Bench
from tests.harness.processes import wait_until
from tests.harness.stack import Program, Stack, poller_program
from tests.harness.tidemill_broker import TidemillBroker

pytestmark = pytest.mark.slow

PROVISIONED = {"MinimumPollers": 1, "MaximumPollers": 1}


def offsets(failure: dict[str, Any]) -> tuple[str, int, int]:
    [(partition, info)] = failure["KafkaBatchInfo"]["recordsInfo"].items()
    return partition, int(info["firstRecordOffset"]), int(info["lastRecordOffset"])


@pytest.mark.parametrize("way", ["bisect", "partial"])
def test_exactly_the_poison_records_end_in_the_queue(any_bench: Bench, way: str) -> None:
    """Each poison record is named alone in the queue; all others are processed, in the order of their key."""
    bench, stack = any_bench, any_bench.stack
    if way == "bisect":
        bench.create_function()
        fields: dict[str, Any] = {"BisectBatchOnFunctionError": True}
    else:
        bench.create_function(PARTIAL="1")
        fields = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
    queue_arn = stack.create_queue(bench.name)
    rows = [(f"key-{n % 7}", f"{n} {'poison' if n % 97 == 5 else 'good'}") for n in range(600)]
    bench.produce(rows)
    bench.flush()
    uuid = stack.create_mapping(
        bench.name,
        bench.name,
        BatchSize=100,
        MaximumBatchingWindowInSeconds=1,
        MaximumRetryAttempts=1,
        ProvisionedPollerConfig=PROVISIONED,
        DestinationConfig={"OnFailure": {"Destination": queue_arn}},
        **fields,
    )
    poison = {at for at, (_, value) in bench.acknowledged.items() if "poison" in value}
    bench.wait_until_done(set(bench.acknowledged) - poison)
    failures: list[dict[str, Any]] = []

    def all_failed() -> bool:
        failures.extend(stack.received(bench.name))
        named = [at for failure in failures for at in covered(failure)]
        return len(named) >= len(poison)

    wait_until(all_failed, what=f"{len(poison)} failure records\n{stack.logs()}")
    named = [at for failure in failures for at in covered(failure)]
    bench.assert_order_held()
    assert sorted(named) == sorted(poison)
    assert poison.isdisjoint(bench.proof.offsets_done(bench.name))
    assert {failure["requestContext"]["condition"] for failure in failures} == {"RetryAttemptsExhausted"}
    assert {failure["requestContext"]["approximateInvokeCount"] for failure in failures} == {2}
    trees = stack.status(uuid, "deliveries")
    assert "esm.poison" in str(trees)


def covered(failure: dict[str, Any]) -> list[tuple[int, int]]:
    """(partition, offset) of each record that a failure record names: here always exactly one."""
    partition, first, last = offsets(failure)
    assert last - first + 1 == failure["KafkaBatchInfo"]["batchSize"] == 1
    return [(int(partition.rpartition("-")[2]), first)]


def test_a_destination_that_is_away_holds_the_partition_and_loses_nothing(bench: Bench) -> None:
    """Without its queue a poison record blocks its partition, not the others; with the queue all goes on."""
    stack = bench.stack
    bench.create_function()
    queue_arn = stack.create_queue(bench.name)
    sqs = stack.client("sqs")
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=bench.name)["QueueUrl"])
    bench.produce([("a", "0 poison"), ("a", "1 good")], partition=0)
    bench.produce([("b", "2 good")], partition=1)
    bench.flush()
    uuid = stack.create_mapping(
        bench.name,
        bench.name,
        BatchSize=1,
        MaximumRetryAttempts=0,
        ProvisionedPollerConfig=PROVISIONED,
        DestinationConfig={"OnFailure": {"Destination": queue_arn}},
    )
    bench.wait_until_done({(1, 0)})

    def held() -> bool:
        partitions = stack.status(uuid)["partitions"]
        return any((p["state"], p["blocked_by"]) == ("holding", 0) for p in partitions)

    wait_until(held, what=f"the partition to be held\n{stack.logs()}")
    assert bench.proof.done(f"{bench.name}-0") == []
    stack.create_queue(bench.name)
    bench.wait_until_done({(0, 1)})
    [failure] = wait_until(lambda: stack.received(bench.name), what="the failure record")
    assert offsets(failure) == (f"{bench.name}-0", 0, 0)


class Rivals:
    """The stack's poller and another one with a store of its own, as on another machine, in one group."""

    def __init__(self, bench: Bench, other: Program, retries: int) -> None:
        stack = bench.stack
        assert isinstance(stack.kafka, TidemillBroker)
        self.bench = bench
        self.other = other
        self.client = stack._client("lambda", other.url)
        self.partitions = [f"{bench.name}-{partition}" for partition in range(bench.partitions)]
        self.fields: dict[str, Any] = {
            "BatchSize": 1,
            "MaximumRetryAttempts": retries,
            "ProvisionedPollerConfig": PROVISIONED,
            "DestinationConfig": {"OnFailure": {"Destination": stack.create_queue(bench.name)}},
            "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": bench.name},
        }
        self._source = {
            "EventSourceArn": stack.kafka.ready["cluster_arn"],
            "Topics": [bench.name],
            "StartingPosition": "TRIM_HORIZON",
        }

    def start_first(self) -> None:
        """One poison record in each partition, and the first poller at work on them."""
        bench = self.bench
        bench.create_function()
        for partition in range(bench.partitions):
            bench.produce([("k", f"{partition} poison gate")], partition=partition)
        bench.flush()
        bench.stack.create_mapping(bench.name, bench.name, **self.fields)

    def start_second(self) -> None:
        self.client.create_event_source_mapping(FunctionName=self.bench.name, **self._source, **self.fields)

    def wait_for_attempts(self, count: int) -> None:
        wait_until(lambda: min(self.attempts()) >= count, what=f"{count} attempts of each record")

    def attempts(self) -> list[int]:
        return [len(self.bench.proof.attempts(partition)) for partition in self.partitions]

    def failures(self) -> list[dict[str, Any]]:
        """The failure records of all partitions."""
        found: list[dict[str, Any]] = []

        def all_failed() -> bool:
            found.extend(self.bench.stack.received(self.bench.name))
            return len(found) >= len(self.partitions)

        logs = f"{self.bench.stack.logs()}\n{self.other.log[-3000:]}"
        wait_until(all_failed, timeout_s=60, what=f"the failure records\n{logs}")
        return found


@pytest.fixture
def other_poller(stack: Stack, bench: Bench) -> Iterator[Program]:
    other = poller_program(stack.data_dir, stack.kafka, stack.aws, stack.functions, name=bench.name)
    other.start()
    yield other
    other.stop()
    if stack.poller.process is None:
        stack.poller.start()


def test_a_rebalance_amid_retries_does_not_count_them_anew(bench: Bench, other_poller: Program) -> None:
    """Partitions move to a second poller after some attempts; each record is tried as often as asked."""
    rivals, poller = Rivals(bench, other_poller, retries=8), bench.stack.poller
    bench.proof.open_gate()
    rivals.start_first()
    rivals.wait_for_attempts(2)
    bench.proof.close_gate()
    seen = len(poller.log)
    rivals.start_second()
    # From here on the first poller waits for its invocations in flight, then lets go of the partitions.
    wait_until(lambda: "it is rebalancing" in poller.log[seen:], timeout_s=14, what="the rebalance")
    bench.proof.open_gate()
    failures = rivals.failures()
    assert [failure["requestContext"]["approximateInvokeCount"] for failure in failures] == [9, 9, 9]
    assert rivals.attempts() == [9, 9, 9]
    assert "assigned topic=" in other_poller.log


def test_a_poller_killed_amid_retries_leaves_their_count_to_the_next(
    bench: Bench, other_poller: Program
) -> None:
    """The count goes on in another process; only the attempt that was under way may come once more."""
    rivals = Rivals(bench, other_poller, retries=8)
    bench.proof.open_gate()
    rivals.start_first()
    # Late enough that the pause between two attempts is longer than that between two commits.
    rivals.wait_for_attempts(5)
    bench.stack.poller.kill()
    rivals.start_second()
    failures = rivals.failures()
    assert [failure["requestContext"]["approximateInvokeCount"] for failure in failures] == [9, 9, 9]
    assert set(rivals.attempts()) <= {9, 10}
