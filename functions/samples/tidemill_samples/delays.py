"""The running departure delay per carrier, every flight counted once: a handler to copy.

An event source mapping delivers at least once. A batch comes again after a crash, in halves after a
bisect, in part after a rebalance; within one partition it always comes in order. So the counts and the
place in the partition belong into ONE conditional write: each partition has one item, and a batch is
added to it together with its last offset, if nobody has moved that offset since it was read.

The handler reads the whole batch before it writes. A cancelled flight has no departure delay and raises,
and then nothing of its batch is counted yet: the mapping bisects until that flight stands alone.

The table (its name is the environment variable TABLE, `delays` without it) is made here on first use.
Its key is `partition`, a string such as `flights-3`. The other attributes of an item:

    last_offset    number: the highest offset counted
    flights        number: how many flights were counted
    carriers       map: {"UA": {"flights": number, "delay_minutes": number}, …}
    order          string: SHA-256 over the offsets in the order in which they were counted, chained
                   from "": order = sha256(f"{order} {offset}").hexdigest(); who reads the partition
                   from its start can compute the same
    out_of_order   number: records that did not stand above the one before them in their batch
"""

import base64
import hashlib
import json
import os
from itertools import pairwise
from typing import Any

import boto3
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.config import Config

TABLE = os.environ.get("TABLE", "delays")
# Made once for each execution environment and kept warm, with its connection, from call to call.
dynamodb = boto3.client("dynamodb", config=Config(retries={"mode": "standard", "total_max_attempts": 3}))
to_dynamodb, from_dynamodb = TypeSerializer().serialize, TypeDeserializer().deserialize
# The items as this environment saw them last. Others write them too: the condition finds that out.
seen: dict[str, dict[str, Any]] = {}


def handler(event: dict[str, Any], _context: object) -> dict[str, int]:
    """Count the flights of a Kafka event; raise, and count none of them, if one was cancelled."""
    batches = {
        partition: [(record["offset"], *read_flight(record)) for record in records]
        for partition, records in event["records"].items()
    }
    return {partition: count(partition, flights) for partition, flights in batches.items()}


def read_flight(record: dict[str, Any]) -> tuple[str, int]:
    """Return the carrier of one flight and the minutes that it left late."""
    flight = json.loads(base64.b64decode(record["value"]))
    return flight["carrier"], int(flight["dep_delay"])  # raises for a cancelled flight: null is no number


def count(partition: str, flights: list[tuple[int, str, int]]) -> int:
    """Add those flights of one partition that are not counted yet, and return how many that were."""
    while True:
        before = seen.get(partition)
        new = [flight for flight in flights if before is None or flight[0] > before["last_offset"]]
        if not new:
            print(f"{partition}: all {len(flights)} flights were counted before")
            return 0
        after = added(partition, before, new)
        try:
            dynamodb.put_item(**write_if_unchanged(before, after))
        except dynamodb.exceptions.ConditionalCheckFailedException as refusal:
            # Another environment wrote this partition's item since. The refusal carries it: go on from there.
            seen.pop(partition, None)
            if item := refusal.response.get("Item"):
                seen[partition] = {name: from_dynamodb(value) for name, value in item.items()}
        except dynamodb.exceptions.ResourceNotFoundException:
            create_table()
        else:
            seen[partition] = after
            return len(new)


def added(
    partition: str, before: dict[str, Any] | None, flights: list[tuple[int, str, int]]
) -> dict[str, Any]:
    """Return the partition's item with these flights counted."""
    item = before or {"partition": partition, "flights": 0, "carriers": {}, "order": "", "out_of_order": 0}
    carriers = {carrier: dict(sums) for carrier, sums in item["carriers"].items()}
    order = item["order"]
    for offset, carrier, minutes in flights:
        sums = carriers.setdefault(carrier, {"flights": 0, "delay_minutes": 0})
        sums["flights"] += 1
        sums["delay_minutes"] += minutes
        order = hashlib.sha256(f"{order} {offset}".encode()).hexdigest()
    return {
        "partition": partition,
        "last_offset": flights[-1][0],
        "flights": item["flights"] + len(flights),
        "carriers": carriers,
        "order": order,
        "out_of_order": item["out_of_order"] + sum(b[0] <= a[0] for a, b in pairwise(flights)),
    }


def write_if_unchanged(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the one PutItem that replaces `before` by `after`, or is rejected."""
    put: dict[str, Any] = {
        "TableName": TABLE,
        "Item": {name: to_dynamodb(value) for name, value in after.items()},
        "ConditionExpression": "attribute_not_exists(last_offset)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if before is not None:
        put["ConditionExpression"] = "last_offset = :seen"
        put["ExpressionAttributeValues"] = {":seen": to_dynamodb(before["last_offset"])}
    return put


def create_table() -> None:
    """Make the table, unless another environment was quicker."""
    seen.clear()
    try:
        dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "partition", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "partition", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    except dynamodb.exceptions.ResourceInUseException:
        print(f"table {TABLE} was made by another environment")
    dynamodb.get_waiter("table_exists").wait(TableName=TABLE)
