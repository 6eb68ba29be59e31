"""Programs are restarted, mappings disabled, enabled and deleted: all goes on, or stops, where it stood."""

from __future__ import annotations

from urllib.error import HTTPError

import pytest

from tests.e2e.conftest import Bench
from tests.harness.processes import wait_until

pytestmark = pytest.mark.slow


def test_each_program_may_be_restarted_and_none_needs_a_hand(bench: Bench) -> None:
    """After a clean stop and start of each program its work goes on, and nothing is delivered twice."""
    stack = bench.stack
    bench.create_function()
    stack.create_mapping(bench.name, bench.name, BatchSize=10)
    number = 0
    for program in (stack.poller, stack.functions, stack.kafka):
        for _ in range(2):
            bench.produce([(f"key-{key}", f"{number} good") for key in range(20)])
            bench.flush()
            number += 1
            bench.wait_until_done()
        program.stop()
        program.start()
    bench.produce([("key-0", f"{number} good")])
    bench.flush()
    bench.wait_until_done()
    bench.assert_order_held()
    rows = [row for partition in range(3) for row in bench.proof.done(f"{bench.name}-{partition}")]
    assert len(rows) == len(bench.acknowledged)


def test_a_disabled_mapping_rests_and_goes_on_where_it_stood(bench: Bench) -> None:
    """What is produced meanwhile waits; after enabling, each record is processed once."""
    stack = bench.stack
    bench.create_function()
    uuid = stack.create_mapping(bench.name, bench.name, BatchSize=10)
    client = stack.client("lambda")
    bench.produce([("k", f"{number} good") for number in range(20)])
    bench.flush()
    bench.wait_until_done()
    client.update_event_source_mapping(UUID=uuid, Enabled=False)
    stack.wait_for_state(uuid, "Disabled")
    assert stack.status(uuid)["pollers"] == []
    before = set(bench.acknowledged)
    bench.produce([("k", f"{number} good") for number in range(20, 40)])
    bench.flush()
    assert bench.proof.offsets_done(bench.name) == before
    client.update_event_source_mapping(UUID=uuid, Enabled=True)
    stack.wait_for_state(uuid, "Enabled")
    bench.wait_until_done()
    rows = [row for partition in range(3) for row in bench.proof.done(f"{bench.name}-{partition}")]
    assert len(rows) == len(bench.acknowledged)


def test_a_deleted_mapping_is_gone_and_reads_no_more(bench: Bench) -> None:
    """After Delete the mapping answers 404 and records stay unprocessed; the other mapping goes on."""
    stack = bench.stack
    bench.create_function()
    uuid = stack.create_mapping(bench.name, bench.name, BatchSize=10)
    bench.produce([("k", "0 good")])
    bench.flush()
    bench.wait_until_done()
    client = stack.client("lambda")
    assert client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"

    def gone() -> bool:
        try:
            client.get_event_source_mapping(UUID=uuid)
        except client.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_until(gone, what="the mapping to be gone")
    assert uuid not in [found["UUID"] for found in client.list_event_source_mappings()["EventSourceMappings"]]
    with pytest.raises(HTTPError, match="404"):
        stack.status(uuid)
    before = set(bench.acknowledged)
    bench.produce([("k", "1 good")])
    bench.flush()
    assert bench.proof.offsets_done(bench.name) == before
