"""Owns the demo's verdict: what the topic, DynamoDB and SQS say, against what the data says. Pure.

It trusts nothing that Tidemill says about itself: the topic was read back by a Kafka client, the counts come
from the table that the handler wrote, the failures from the queue.

See docs/decisions/0803.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill_cli.demo.flights import Flight

_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One record as the topic has it."""

    offset: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The counts, and every difference found; no differences means proven."""

    flights: int
    counted: int
    named: int
    messages: int
    delays_min: Mapping[str, float]  # mean departure delay by carrier
    differences: Sequence[str]


def compare(
    flights: Sequence[Flight],
    topic: Mapping[str, Sequence[Stored]],
    counts: Mapping[str, Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
) -> Verdict:
    """Compare the flights with what arrived.

    ``topic`` holds all records by partition ("flights-3"), in the order of offsets; ``counts`` the handler's
    items by partition; ``failures`` the failure records from the queue.
    """
    by_value = {flight.value: flight for flight in flights}
    named = named_offsets(failures)
    differences = [*_stored_as_produced(flights, topic), *_order_of_keys(flights, topic)]
    for partition, records in topic.items():
        known = [record for record in records if record.value in by_value]
        cancelled = {record.offset for record in known if by_value[record.value].cancelled}
        differences += _named_as_cancelled(partition, cancelled, named.get(partition, set()))
        left = [record for record in known if record.offset not in cancelled]
        differences += _counted(partition, left, by_value, counts.get(partition, {}))
    differences += [
        f"{partition} is in the queue but not in the topic" for partition in named.keys() - topic.keys()
    ]
    return Verdict(
        flights=len(flights),
        counted=sum(int(item["flights"]) for item in counts.values()),
        named=sum(map(len, named.values())),
        messages=len(failures),
        delays_min=_mean_delays(counts),
        differences=differences,
    )


def named_offsets(failures: Sequence[Mapping[str, Any]]) -> dict[str, set[int]]:
    """The offsets that failure records name, by partition; a record delivered twice counts once."""
    named: dict[str, set[int]] = defaultdict(set)
    for failure in failures:
        for partition, about in failure["KafkaBatchInfo"]["recordsInfo"].items():
            first, last = int(about["firstRecordOffset"]), int(about["lastRecordOffset"])
            named[partition].update(range(first, last + 1))
    return named


def _stored_as_produced(flights: Sequence[Flight], topic: Mapping[str, Sequence[Stored]]) -> list[str]:
    """The topic holds each flight as often as it was produced."""
    produced = Counter(flight.value for flight in flights)
    stored = Counter(record.value for records in topic.values() for record in records)
    missing, added = produced - stored, stored - produced
    return _listed("flights missing in the topic", missing) + _listed("records nobody produced", added)


def _order_of_keys(flights: Sequence[Flight], topic: Mapping[str, Sequence[Stored]]) -> list[str]:
    """In its partition, each key's records stand in the order of the data, and nowhere else."""
    produced: dict[bytes, list[bytes]] = defaultdict(list)
    for flight in flights:
        if flight.key is not None:
            produced[flight.key].append(flight.value)
    stored: dict[bytes, list[bytes]] = defaultdict(list)
    for records in topic.values():
        for record in records:
            if record.key is not None:
                stored[record.key].append(record.value)
    wrong = [key for key in produced if produced[key] != stored.get(key)]
    return _listed("tail numbers out of order in the topic", wrong)


def _named_as_cancelled(partition: str, cancelled: set[int], named: set[int]) -> list[str]:
    """The queue names exactly the flights without departure time."""
    return _listed(f"cancelled flights of {partition} not in the queue", sorted(cancelled - named)) + _listed(
        f"flights of {partition} in the queue that were not cancelled", sorted(named - cancelled)
    )


def _counted(
    partition: str, left: Sequence[Stored], by_value: Mapping[bytes, Flight], item: Mapping[str, Any]
) -> list[str]:
    """The handler counted every flight that left, once, in the order of offsets."""
    differences = []
    if int(item.get("flights", 0)) != len(left):
        differences.append(f"{partition} has {len(left)} flights that left, {item.get('flights', 0)} counted")
    if carriers_of(left, by_value) != _plain_carriers(item.get("carriers", {})):
        differences.append(f"the sums by carrier of {partition} differ")
    if order_of(record.offset for record in left) != item.get("order", ""):
        differences.append(f"{partition} was not counted in the order of its offsets")
    if int(item.get("out_of_order", 0)):
        differences.append(f"{item['out_of_order']} records of {partition} came out of order in their batch")
    return differences


def carriers_of(records: Sequence[Stored], by_value: Mapping[bytes, Flight]) -> dict[str, tuple[int, int]]:
    """Flights and minutes of delay by carrier."""
    sums: dict[str, tuple[int, int]] = {}
    for record in records:
        flight = by_value[record.value]
        count, minutes = sums.get(flight.carrier, (0, 0))
        sums[flight.carrier] = (count + 1, minutes + (flight.departure_delay_min or 0))
    return sums


def order_of(offsets: Any) -> str:
    """The chained hash that functions/samples/tidemill_samples/delays.py keeps of the offsets it counted."""
    order = ""
    for offset in offsets:
        order = hashlib.sha256(f"{order} {offset}".encode()).hexdigest()
    return order


def _plain_carriers(carriers: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    return {name: (int(sums["flights"]), int(sums["delay_minutes"])) for name, sums in carriers.items()}


def _mean_delays(counts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    totals: dict[str, tuple[int, int]] = {}
    for item in counts.values():
        for name, (flights, minutes) in _plain_carriers(item["carriers"]).items():
            before = totals.get(name, (0, 0))
            totals[name] = (before[0] + flights, before[1] + minutes)
    return {name: minutes / flights for name, (flights, minutes) in totals.items()}


def _listed(what: str, found: Any) -> list[str]:
    """One difference with its number and the first few cases."""
    cases = list(found)
    if not cases:
        return []
    shown = ", ".join(_short(case) for case in cases[:_SHOWN_MAX])
    return [f"{len(cases)} {what}: {shown}{' …' if len(cases) > _SHOWN_MAX else ''}"]


def _short(case: Any) -> str:
    return case.decode(errors="replace") if isinstance(case, bytes) else str(case)
