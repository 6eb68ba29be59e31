"""Our filter matcher agrees with moto's EventBridge matcher, which others wrote.

Kept apart from the comparison, because the two read AWS's documents differently and ours follows Lambda's:
numbers that differ in text only (300 and 300.0), booleans beside numbers (to moto, true is 1), empty objects
and arrays under `exists`, and objects inside arrays (moto does not look into them).
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.events.models import EventPattern

from tidemill_poller.errors import InvalidPattern
from tidemill_poller.filters import compile_filters

# The kind of probe that told matchers apart before: one for every operator and its neighbours.
PROBES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"a": ["x"]}, {"a": "x"}),
    ({"a": ["x"]}, {"a": ["y", "x"]}),
    ({"a": ["x", "y"]}, {"a": "z"}),
    ({"a": [5]}, {"a": 5}),
    ({"a": [None]}, {"a": None}),
    ({"a": [None]}, {}),
    ({"a": [True]}, {"a": True}),
    ({"a": [True]}, {"a": False}),
    ({"a": [""]}, {"a": ""}),
    ({"a": {"b": ["x"]}, "c": ["y"]}, {"a": {"b": "x"}, "c": "y"}),
    ({"a": [{"prefix": "x"}]}, {"a": "xy"}),
    ({"a": [{"prefix": "x"}]}, {"a": 5}),
    ({"a": [{"suffix": "y"}]}, {"a": "xy"}),
    ({"a": [{"prefix": {"equals-ignore-case": "X"}}]}, {"a": "xy"}),
    ({"a": [{"suffix": {"equals-ignore-case": "Y"}}]}, {"a": "xy"}),
    ({"a": [{"equals-ignore-case": "XY"}]}, {"a": "xy"}),
    ({"a": [{"anything-but": ["x", "y"]}]}, {"a": "z"}),
    ({"a": [{"anything-but": "x"}]}, {"a": "x"}),
    ({"a": [{"anything-but": [1, 2]}]}, {"a": 3}),
    ({"a": [{"anything-but": {"prefix": "x"}}]}, {"a": "xy"}),
    ({"a": [{"anything-but": {"suffix": "x"}}]}, {"a": "xy"}),
    ({"a": [{"anything-but": {"equals-ignore-case": ["X"]}}]}, {"a": "x"}),
    ({"a": [{"anything-but": {"wildcard": "x*"}}]}, {"a": "xy"}),
    ({"a": [{"numeric": [">", 0, "<=", 5]}]}, {"a": 5}),
    ({"a": [{"numeric": ["=", 5]}]}, {"a": 5.0}),
    ({"a": [{"numeric": ["<", 5]}]}, {"a": "4"}),
    ({"a": [{"exists": True}]}, {"a": None}),
    ({"a": [{"exists": True}]}, {"a": {"b": 1}}),
    ({"a": [{"exists": False}]}, {}),
    ({"a": {"b": [{"exists": False}]}}, {"a": 1}),
    ({"a": [{"wildcard": "x*y*z"}]}, {"a": "x1y2z"}),
    ({"a": [{"wildcard": "x\\*"}]}, {"a": "x*"}),
    ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.0.7"}),
    ({"$or": [{"a": ["x"]}, {"b": [{"numeric": [">", 1]}]}]}, {"b": 2}),
    ({"c": ["z"], "$or": [{"a": ["x"]}, {"b": ["y"]}]}, {"a": "x"}),
]


def ours(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    compiled = compile_filters([json.dumps({"value": pattern})])
    assert compiled is not None
    return compiled.matches(json.dumps(event).encode())


def motos(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    return bool(EventPattern.load(json.dumps({"value": pattern})).matches_event({"value": event}))  # type: ignore[typeddict-item]  # any event will do


@pytest.mark.parametrize(("pattern", "event"), PROBES, ids=str)
def test_a_probe_is_matched_as_moto_matches_it(pattern: dict[str, Any], event: dict[str, Any]) -> None:
    assert ours(pattern, event) == motos(pattern, event)


names = st.sampled_from(["a", "b"])
texts = st.text(alphabet="xyX*", max_size=2)
# Halves, so that no integer equals a float.
integers = st.integers(min_value=2, max_value=9)
halves = integers.map(lambda number: number + 0.5)
scalars = st.one_of(texts, integers, halves, st.none())
leaves = st.one_of(scalars, st.lists(scalars, min_size=1, max_size=3))
filled = st.recursive(
    st.dictionaries(names, leaves, min_size=1, max_size=2),
    lambda inner: st.dictionaries(names, st.one_of(leaves, inner), min_size=1, max_size=2),
    max_leaves=6,
)
events = st.one_of(filled, st.just({}))


def one_operator(name: str, operands: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return operands.map(lambda operand: {name: operand})


def text_or_texts(operands: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(operands, st.lists(operands, min_size=1, max_size=3))


wildcards = st.lists(st.text(alphabet="xyXY", min_size=1, max_size=2), min_size=1, max_size=3).map("*".join)
folded = one_operator("equals-ignore-case", texts)
numbers = st.one_of(integers, halves)
bounds = st.one_of(
    st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), numbers).map(list),
    st.tuples(st.sampled_from([">", ">="]), numbers, st.sampled_from(["<", "<="]), st.integers(10, 12)).map(
        list
    ),
)
operators = st.one_of(
    one_operator("prefix", st.one_of(texts, folded)),
    one_operator("suffix", st.one_of(texts, folded)),
    folded,
    one_operator("wildcard", wildcards),
    one_operator("exists", st.booleans()),
    one_operator("numeric", bounds),
    one_operator(
        "anything-but",
        st.one_of(
            text_or_texts(texts),
            st.lists(integers, min_size=1, max_size=3),
            one_operator("prefix", text_or_texts(texts)),
            one_operator("suffix", text_or_texts(texts)),
            one_operator("wildcard", text_or_texts(wildcards)),
            one_operator("equals-ignore-case", text_or_texts(texts)),
        ),
    ),
)
pattern_leaves = st.lists(st.one_of(scalars, operators), min_size=1, max_size=3)
patterns = st.recursive(
    st.dictionaries(names, pattern_leaves, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.dictionaries(names, st.one_of(pattern_leaves, inner), min_size=1, max_size=2),
        st.tuples(
            st.dictionaries(names, pattern_leaves, max_size=1), st.lists(inner, min_size=2, max_size=3)
        ).map(lambda parts: {**parts[0], "$or": parts[1]}),
    ),
    max_leaves=5,
)


@settings(max_examples=600, deadline=None)
@given(pattern=patterns, event=events)
def test_any_pattern_matches_any_value_as_moto_matches_it(
    pattern: dict[str, Any], event: dict[str, Any]
) -> None:
    assert ours(pattern, event) == motos(pattern, event)


@settings(max_examples=300, deadline=None)
@given(pattern=st.text(max_size=60) | st.text(alphabet='{}[]":,value$or01. ', max_size=60))
def test_any_text_is_a_pattern_or_rejected(pattern: str) -> None:
    with contextlib.suppress(InvalidPattern):
        compile_filters([pattern])


@settings(max_examples=300, deadline=None)
@given(
    pattern=patterns,
    value=st.one_of(st.none(), st.binary(), events.map(lambda one: json.dumps(one).encode())),
)
def test_any_bytes_are_matched_without_an_error(pattern: dict[str, Any], value: bytes | None) -> None:
    for exact in (False, True):
        entry = {**pattern, "exact": [1.5]} if exact else pattern
        compiled = compile_filters([json.dumps({"value": entry})])
        assert compiled is not None
        assert compiled.matches(value) in (True, False)
