"""Events for a function without a mapping."""

from __future__ import annotations

import base64
import json

from tidemill_cli.kafka_event import sample_event


def test_a_sample_event_has_the_shape_of_a_mappings() -> None:
    event = json.loads(sample_event("orders"))
    assert (event["eventSource"], list(event["records"])) == ("aws:kafka", ["orders-0"])
    [record] = event["records"]["orders-0"]
    assert (record["topic"], record["partition"], record["offset"]) == ("orders", 0, 0)
    assert json.loads(base64.b64decode(record["value"])) == {"message": "Hello from Kafka"}
    assert record["headers"] == [{"traceparent": [48, 48]}]
