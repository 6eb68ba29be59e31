"""A decorated handler stays a plain callable, and its declaration is read without importing it here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tidemill import KafkaTrigger, function
from tidemill.trigger import InvalidDeclaration, collect

ORDERS = """
from tidemill import KafkaTrigger, function
print("imported")

@function(name="orders", timeout_s=30, memory_mb=256, environment={"TABLE": "orders"},
          kafka=KafkaTrigger(topic="orders", batch_size=50,
                             on_failure="arn:aws:sqs:us-east-1:123456789012:dead"))
def handler(event, context):
    return len(event["records"])

@function()
def second(event, context):
    return None

def helper():
    return None
"""


def test_a_decorated_handler_is_the_handler() -> None:
    def handler(event: int, context: None) -> int:
        return event + 1

    assert function(name="next")(handler) is handler
    assert handler(1, None) == 2


def test_decorated_handlers_are_collected_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "orders.py"
    path.write_text(ORDERS)
    orders, second = collect(path)
    assert orders.registration() == {
        "name": "orders",
        "path": str(path),
        "handler": "handler",
        "timeout_s": 30,
        "memory_mb": 256,
        "environment": {"TABLE": "orders"},
    }
    assert orders.mappings == [
        {
            "Topics": ["orders"],
            "StartingPosition": "TRIM_HORIZON",
            "BatchSize": 50,
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:dead"}},
        }
    ]
    assert (second.name, second.timeout_s, second.memory_mb, second.mappings) == ("second", 3, 128, [])
    assert "orders" not in sys.modules


def test_a_trigger_for_brokers_of_ones_own_is_a_self_managed_source() -> None:
    trigger = KafkaTrigger(
        topic="t",
        bootstrap_servers=["localhost:9092"],
        consumer_group_id="g",
        filter_patterns=[{"value": {"state": ["open"]}}],
        minimum_pollers=1,
        report_batch_item_failures=True,
    )
    assert trigger.request() == {
        "Topics": ["t"],
        "StartingPosition": "TRIM_HORIZON",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "FilterCriteria": {"Filters": [{"Pattern": '{"value": {"state": ["open"]}}'}]},
        "ProvisionedPollerConfig": {"MinimumPollers": 1},
        "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["localhost:9092"]}},
        "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"},
    }


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("def handler(event, context):\n    return 1", "declares no function"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_a_file_that_can_not_be_used_says_why(tmp_path: Path, source: str, reason: str) -> None:
    path = tmp_path / "app.py"
    path.write_text(source)
    with pytest.raises(InvalidDeclaration, match=reason):
        collect(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDeclaration, match="does not exist"):
        collect(tmp_path / "nope.py")
