"""The whole path for one record: topic, mapping, handler, destination; on our broker and on Apache Kafka."""

from __future__ import annotations

from tests.e2e.conftest import Bench
from tests.harness.processes import wait_until
from tests.harness.stack import ACCOUNT
from tests.harness.tidemill_broker import TidemillBroker


def test_a_good_record_reaches_the_handler_and_a_bad_one_the_queue(any_bench: Bench) -> None:
    """One record is processed once; the next raises and lies in the queue with its offset and its reason."""
    bench, stack = any_bench, any_bench.stack
    function_arn = bench.create_function()
    queue_arn = stack.create_queue(bench.name)
    bench.produce([("k", "0 good"), ("k", "1 poison"), ("k", "2 good")], partition=0)
    bench.flush()
    uuid = stack.create_mapping(
        bench.name,
        bench.name,
        BatchSize=1,
        MaximumRetryAttempts=1,
        ProvisionedPollerConfig={"MinimumPollers": 1, "MaximumPollers": 1},
        DestinationConfig={"OnFailure": {"Destination": queue_arn}},
    )
    bench.wait_until_done({(0, 0), (0, 2)})
    [failure] = wait_until(lambda: stack.received(bench.name), what="the failure record")
    assert bench.proof.done(f"{bench.name}-0") == [(0, "k", "0 good"), (2, "k", "2 good")]
    assert [rows[0][0] for rows in bench.proof.attempts(f"{bench.name}-0")] == [0, 1, 1, 2]
    context = failure["requestContext"]
    assert context["functionArn"].startswith(f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{bench.name}")
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetryAttemptsExhausted", 2)
    assert failure["responseContext"]["functionError"] == "Unhandled"
    info = failure["KafkaBatchInfo"]
    assert info["batchSize"] == 1
    assert info["recordsInfo"][f"{bench.name}-0"]["firstRecordOffset"] == "1"
    assert info["recordsInfo"][f"{bench.name}-0"]["lastRecordOffset"] == "1"
    assert ("eventSourceArn" in info) == isinstance(stack.kafka, TidemillBroker)
    assert function_arn.startswith(context["functionArn"].removesuffix(":$LATEST"))
    wait_until(
        lambda: stack.status(uuid)["partitions"][0]["committed"] == 3, what="all three offsets to be settled"
    )
    reply = stack.client("lambda").get_event_source_mapping(UUID=uuid)
    assert reply["State"] == "Enabled"
