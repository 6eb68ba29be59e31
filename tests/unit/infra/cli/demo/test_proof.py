"""The demo's verdict: it proves a right outcome, and tells every wrong one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tidemill_cli.demo.flights import Flight, read_flights
from tidemill_cli.demo.proof import Stored, Verdict, compare, order_of


def flight(number: int, key: str, delay: int | None, carrier: str = "UA") -> Flight:
    value = f'{{"flight": {number}}}'.encode()
    return Flight(key=key.encode(), value=value, carrier=carrier, departure_delay_min=delay)


class Outcome:
    """A right outcome of four flights in two partitions; tests spoil it."""

    def __init__(self) -> None:
        self.flights = [
            flight(1, "N1", 5),
            flight(2, "N2", None),
            flight(3, "N1", -2, "AA"),
            flight(4, "N1", 7),
        ]
        one, two, three, four = self.flights
        self.topic = {
            "flights-0": [
                Stored(offset=i, key=f.key, value=f.value) for i, f in enumerate([one, three, four])
            ],
            "flights-1": [Stored(offset=0, key=two.key, value=two.value)],
        }
        self.counts: dict[str, dict[str, Any]] = {
            "flights-0": {
                "flights": Decimal(3),
                "carriers": {
                    "UA": {"flights": Decimal(2), "delay_minutes": Decimal(12)},
                    "AA": {"flights": Decimal(1), "delay_minutes": Decimal(-2)},
                },
                "order": order_of([0, 1, 2]),
                "out_of_order": Decimal(0),
            }
        }
        self.failures = [failure("flights-1", 0, 0)]

    def verdict(self) -> Verdict:
        return compare(self.flights, self.topic, self.counts, self.failures)


def failure(partition: str, first: int, last: int) -> dict[str, Any]:
    about = {"firstRecordOffset": str(first), "lastRecordOffset": str(last)}
    return {"KafkaBatchInfo": {"recordsInfo": {partition: about}}}


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


def test_a_right_outcome_is_proven(outcome: Outcome) -> None:
    verdict = outcome.verdict()
    assert verdict.differences == []
    assert (verdict.flights, verdict.counted, verdict.named) == (4, 3, 1)
    assert verdict.delays_min == {"UA": 6.0, "AA": -2.0}


def test_a_failure_record_that_came_twice_names_its_flight_once(outcome: Outcome) -> None:
    """At least once holds for the queue too."""
    outcome.failures *= 2
    assert outcome.verdict().differences == []
    assert (outcome.verdict().named, outcome.verdict().messages) == (1, 2)


def test_a_flight_counted_twice_is_reported(outcome: Outcome) -> None:
    outcome.counts["flights-0"]["flights"] += 1
    assert outcome.verdict().differences == ["flights-0 has 3 flights that left, 4 counted"]


def test_a_delay_added_twice_is_reported(outcome: Outcome) -> None:
    outcome.counts["flights-0"]["carriers"]["UA"]["delay_minutes"] += 5
    assert outcome.verdict().differences == ["the sums by carrier of flights-0 differ"]


def test_a_cancelled_flight_that_nobody_named_is_reported(outcome: Outcome) -> None:
    outcome.failures = []
    assert outcome.verdict().differences == ["1 cancelled flights of flights-1 not in the queue: 0"]


def test_a_flight_named_in_error_is_reported(outcome: Outcome) -> None:
    outcome.failures.append(failure("flights-0", 1, 2))
    assert outcome.verdict().differences == [
        "2 flights of flights-0 in the queue that were not cancelled: 1, 2"
    ]


def test_a_failure_of_an_unknown_partition_is_reported(outcome: Outcome) -> None:
    outcome.failures.append(failure("elsewhere-9", 1, 1))
    assert outcome.verdict().differences == ["elsewhere-9 is in the queue but not in the topic"]


def test_counting_out_of_order_is_reported(outcome: Outcome) -> None:
    outcome.counts["flights-0"]["order"] = order_of([1, 0, 2])
    outcome.counts["flights-0"]["out_of_order"] = Decimal(1)
    assert outcome.verdict().differences == [
        "flights-0 was not counted in the order of its offsets",
        "1 records of flights-0 came out of order in their batch",
    ]


def test_a_flight_that_is_not_in_the_topic_is_reported(outcome: Outcome) -> None:
    lost = outcome.topic["flights-1"].pop()
    outcome.failures = []
    differences = outcome.verdict().differences
    assert f"1 flights missing in the topic: {lost.value.decode()}" in differences
    assert "1 tail numbers out of order in the topic: N2" in differences


def test_a_key_out_of_order_in_the_topic_is_reported(outcome: Outcome) -> None:
    first, second, third = outcome.topic["flights-0"]
    swapped = [replace(first, value=second.value), replace(second, value=first.value), third]
    outcome.topic["flights-0"] = swapped
    assert "1 tail numbers out of order in the topic: N1" in outcome.verdict().differences


def test_the_data_holds_cancelled_flights_among_those_that_left() -> None:
    """The real data, in its order: the first flight left two minutes late; a cancelled one has no delay."""
    flights = read_flights(900)
    assert flights[0].key == b"N14228"
    assert (flights[0].carrier, flights[0].departure_delay_min) == ("UA", 2)
    cancelled = next(flight for flight in flights if flight.cancelled)
    assert b'"dep_time": null' in cancelled.value
    assert len({flight.value for flight in flights}) == len(flights)
