"""Filters pass what AWS documents that they pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidemill_poller.errors import InvalidPattern, UnfilterableField
from tidemill_poller.filters import compile_filters


def matches(pattern: Any, value: Any, **options: Any) -> bool:
    compiled = compile_filters([json.dumps({"value": pattern})], **options)
    assert compiled is not None
    return compiled.matches(json.dumps(value).encode())


def raw_matches(pattern: str, value: bytes | None) -> bool:
    compiled = compile_filters([pattern])
    assert compiled is not None
    return compiled.matches(value)


# Operators of Lambda's own table (invocation-eventfiltering): pattern, values that pass, values that do not.
LAMBDA: list[tuple[Any, list[Any], list[Any]]] = [
    (
        {"a": ["x"]},
        [{"a": "x"}, {"a": ["y", "x"]}],
        [{"a": "X"}, {"a": ""}, {"b": "x"}, {}, {"a": {"b": "x"}}],
    ),
    ({"a": [""]}, [{"a": ""}], [{"a": " "}, {"a": None}, {}]),
    ({"a": [None]}, [{"a": None}], [{"a": "null"}, {"a": ""}, {}]),
    ({"a": [True]}, [{"a": True}], [{"a": 1}, {"a": "true"}, {"a": False}]),
    ({"a": [1]}, [{"a": 1}], [{"a": True}, {"a": "1"}, {"a": 1.0}]),
    ({"a": ["x", 1, None]}, [{"a": "x"}, {"a": 1}, {"a": None}], [{"a": 2}, {"a": False}]),
    ({"a": ["x"], "b": ["y"]}, [{"a": "x", "b": "y"}], [{"a": "x"}, {"b": "y"}, {"a": "x", "b": "x"}]),
    ({"a": {"b": ["x"]}}, [{"a": {"b": "x"}}], [{"a": "x"}, {"a": None}, {"b": "x"}, {"a.b": "x"}]),
    ({"a": [{"prefix": "x"}]}, [{"a": "x"}, {"a": "xy"}], [{"a": "yx"}, {"a": "X"}, {"a": 1}, {}]),
    ({"a": [{"suffix": "x"}]}, [{"a": "x"}, {"a": "yx"}], [{"a": "xy"}, {"a": None}, {}]),
    ({"a": [{"equals-ignore-case": "Xy"}]}, [{"a": "xY"}], [{"a": "xyz"}, {"a": 1}, {}]),
    (
        {"a": [{"anything-but": ["x"]}]},
        [{"a": "y"}, {"a": 1}, {"a": None}, {"a": ["x", "y"]}],
        [{"a": "x"}, {}],
    ),
    ({"a": [{"anything-but": "x"}]}, [{"a": "y"}], [{"a": "x"}]),
    ({"a": [{"anything-but": [1, 2]}]}, [{"a": 3}, {"a": "1"}, {"a": True}], [{"a": 1}, {"a": 2}, {}]),
    ({"a": [{"numeric": ["=", 5]}]}, [{"a": 5}, {"a": 5.0}], [{"a": 6}, {"a": "5"}, {"a": True}, {}]),
    ({"a": [{"numeric": [">", 0, "<=", 5]}]}, [{"a": 5}, {"a": 0.1}], [{"a": 0}, {"a": 5.1}, {"a": None}]),
    ({"a": [{"numeric": ["<", -1e3]}]}, [{"a": -1001}], [{"a": -1000}]),
    (
        {"a": [{"exists": True}]},
        [{"a": 1}, {"a": None}, {"a": [1]}],
        [{}, {"a": {"b": 1}}, {"a": []}, {"a": {}}],
    ),
    ({"a": [{"exists": False}]}, [{}, {"a": {"b": 1}}, {"a": []}], [{"a": 1}, {"a": None}, {"a": [1]}]),
    ({"a": {"b": [{"exists": False}]}}, [{}, {"a": 1}, {"a": {}}], [{"a": {"b": 1}}, {"a": [{"b": 1}]}]),
    ({"a": ["x", {"exists": False}]}, [{"a": "x"}, {}], [{"a": "y"}]),
    ({"a": [{"exists": True}, "x"]}, [{"a": "y"}], [{}]),
    (
        {"$or": [{"a": ["x"]}, {"b": [{"numeric": [">", 1]}]}]},
        [{"a": "x"}, {"b": 2}, {"a": "x", "b": 2}],
        [{"a": "y"}, {"b": 1}, {}],
    ),
    (
        {"c": ["z"], "$or": [{"a": ["x"]}, {"b": ["y"]}]},
        [{"c": "z", "b": "y"}],
        [{"c": "z"}, {"a": "x"}],
    ),
    (
        {"a": {"$or": [{"b": ["x"]}, {"$or": [{"c": ["y"]}, {"d": ["z"]}]}]}},
        [{"a": {"b": "x"}}, {"a": {"d": "z"}}],
        [{"d": "z"}, {"a": {}}],
    ),
    (
        {"a": {"b": [1], "c": [2]}},
        [{"a": [{"b": 0}, {"b": 1, "c": 2}]}, {"a": [[{"b": 1, "c": 2}]]}],
        [{"a": [{"b": 1}, {"c": 2}]}],  # of one element, both
    ),
    ({"é": ["ü"]}, [{"é": "ü"}], [{"e": "u"}]),
]

# What EventBridge has and Lambda's table does not.
EVENTBRIDGE: list[tuple[Any, list[Any], list[Any]]] = [
    ({"a": [{"prefix": {"equals-ignore-case": "X"}}]}, [{"a": "xy"}, {"a": "XY"}], [{"a": "yx"}, {"a": 1}]),
    ({"a": [{"suffix": {"equals-ignore-case": "X"}}]}, [{"a": "yx"}, {"a": "YX"}], [{"a": "xy"}, {"a": 1}]),
    ({"a": [{"anything-but": {"prefix": "x"}}]}, [{"a": "y"}, {"a": 1}], [{"a": "xy"}, {}]),
    ({"a": [{"anything-but": {"suffix": ["x", "y"]}}]}, [{"a": "z"}], [{"a": "zx"}, {"a": "zy"}]),
    ({"a": [{"anything-but": {"equals-ignore-case": ["x"]}}]}, [{"a": "y"}], [{"a": "X"}]),
    ({"a": [{"anything-but": {"wildcard": "x*z"}}]}, [{"a": "xy"}], [{"a": "xyz"}]),
    ({"a": [{"wildcard": "x*z"}]}, [{"a": "xz"}, {"a": "xyyz"}], [{"a": "x"}, {"a": "xzy"}, {"a": 1}]),
    ({"a": [{"wildcard": "*x*y*"}]}, [{"a": "xy"}, {"a": "1x2y3"}], [{"a": "yx"}, {"a": "x"}]),
    ({"a": [{"wildcard": "ab*bc"}]}, [{"a": "abbc"}], [{"a": "abc"}]),
    ({"a": [{"wildcard": "*"}]}, [{"a": ""}, {"a": "x"}], [{"a": None}]),
    ({"a": [{"wildcard": "x"}]}, [{"a": "x"}], [{"a": "xx"}]),
    ({"a": [{"wildcard": r"x\*\\"}]}, [{"a": "x*\\"}], [{"a": "xy\\"}]),
    ({"a": [{"cidr": "10.0.0.0/24"}]}, [{"a": "10.0.0.255"}], [{"a": "10.0.1.0"}, {"a": "x"}, {"a": 1}]),
    ({"a": [{"cidr": "2001:db8::/32"}]}, [{"a": "2001:db8::1"}], [{"a": "10.0.0.1"}]),
]


@pytest.mark.parametrize(("pattern", "passing", "failing"), LAMBDA, ids=str)
def test_an_operator_of_lambdas_table_passes_what_is_documented(
    pattern: Any, passing: list[Any], failing: list[Any]
) -> None:
    assert [value for value in passing if not matches(pattern, value, operators="lambda")] == []
    assert [value for value in failing if matches(pattern, value, operators="lambda")] == []


@pytest.mark.parametrize(("pattern", "passing", "failing"), EVENTBRIDGE, ids=str)
def test_an_operator_of_eventbridge_alone_works_when_switched_on_and_is_rejected_else(
    pattern: Any, passing: list[Any], failing: list[Any]
) -> None:
    assert [value for value in passing if not matches(pattern, value)] == []
    assert [value for value in failing if matches(pattern, value)] == []
    with pytest.raises(InvalidPattern):
        compile_filters([json.dumps({"value": pattern})], operators="lambda")


@pytest.mark.parametrize(
    ("written", "passing", "failing"),
    [
        ("300", ["300"], ["300.0", "3.0e2", '"300"', "-300"]),
        ("300.0", ["300.0"], ["300", "3.0e2", "300.00"]),
        ("3.0e2", ["3.0e2"], ["300", "300.0", "3.0E2"]),
        (
            "123456789012345678901234567890",
            ["123456789012345678901234567890"],
            ["123456789012345678901234567891"],
        ),
        ("-0", ["-0"], ["0"]),
    ],
)
@pytest.mark.parametrize("form", ['{{"value": {{"a": [{}]}}}}', '{{"value": {{"a": ["other", {}]}}}}'])
def test_a_bare_number_is_compared_by_its_text(
    form: str, written: str, passing: list[str], failing: list[str]
) -> None:
    pattern = form.format(written)
    for text in passing:
        assert raw_matches(pattern, f'{{"a": {text}}}'.encode()), text
    for text in failing:
        assert not raw_matches(pattern, f'{{"a": {text}}}'.encode()), text


def test_a_number_with_its_text_still_compares_as_a_number() -> None:
    pattern = '{"value": {"a": [{"numeric": [">", 1]}], "b": [1.50]}}'
    assert raw_matches(pattern, b'{"a": 1.1, "b": 1.50}')
    assert not raw_matches(pattern, b'{"a": 1.1, "b": 1.5}')


def test_filters_are_ored() -> None:
    compiled = compile_filters(['{"value": {"a": ["x"]}}', '{"value": {"b": ["y"]}}'])
    assert compiled is not None
    assert compiled.matches(b'{"a": "x"}')
    assert compiled.matches(b'{"b": "y"}')
    assert not compiled.matches(b'{"a": "y", "b": "x"}')


def test_no_patterns_are_no_filter() -> None:
    assert compile_filters([]) is None


def test_or_stands_at_the_top_too() -> None:
    pattern = '{"$or": [{"value": {"a": ["x"]}}, {"value": {"b": ["y"]}}]}'
    assert raw_matches(pattern, b'{"b": "y"}')
    assert not raw_matches(pattern, b'{"b": "x"}')


JSON_PATTERN = '{"value": {"a": ["x"]}}'
TEXT_PATTERN = '{"value": ["x", {"prefix": "pre"}]}'


@pytest.mark.parametrize(
    ("pattern", "value", "passes"),
    [
        (JSON_PATTERN, b'{"a": "x"}', True),
        (JSON_PATTERN, b' \n[{"a": "x"}]', True),
        (JSON_PATTERN, b'{"a": "y"}', False),
        (JSON_PATTERN, b"[]", False),
        (TEXT_PATTERN, b"x", True),
        (TEXT_PATTERN, b"prelude", True),
        (TEXT_PATTERN, b"y", False),
        (TEXT_PATTERN, b"", False),
        ('{"value": [""]}', b"", True),
        # The other kind, or no text at all: that part of the pattern is ignored (kafka-filtering's table).
        (JSON_PATTERN, b"x", True),
        (JSON_PATTERN, b"", True),
        (JSON_PATTERN, b'{"a": "y"', True),
        (JSON_PATTERN, b'{"a": NaN}', True),
        (JSON_PATTERN, b"\xff\xfe", True),
        (JSON_PATTERN, b'{"a": "\xff"}', True),
        (TEXT_PATTERN, b'{"a": "x"}', True),
        (TEXT_PATTERN, b"[]", True),
        (TEXT_PATTERN, b"\xff\xfe", True),
        # JSON scalars count as text.
        (JSON_PATTERN, b'"x"', True),
        ('{"value": ["5"]}', b"5", True),
        ('{"value": [5]}', b"5", False),
        # Tombstones.
        (JSON_PATTERN, None, False),
        (TEXT_PATTERN, None, False),
        ('{"value": [null]}', None, True),
        ('{"value": [{"exists": false}]}', None, True),
        ('{"value": [{"exists": true}]}', None, False),
        ('{"value": [{"exists": true}]}', b"x", True),
        ('{"value": [{"anything-but": ["x"]}]}', None, False),
        ('{"value": {"a": [{"exists": false}]}}', None, True),
        ('{"value": {"a": [null]}}', None, False),
    ],
)
def test_a_value_is_decoded_as_aws_documents(pattern: str, value: bytes | None, passes: bool) -> None:  # noqa: FBT001 - a column of the table
    assert raw_matches(pattern, value) is passes


def test_no_value_is_too_deep_or_too_large_to_match() -> None:
    """What cannot be parsed is text, and what can be is matched without recursion."""
    assert raw_matches(JSON_PATTERN, b"[" * 100_000)
    assert not raw_matches(JSON_PATTERN, b"[" * 900 + b"]" * 900)
    assert not raw_matches('{"value": {"a": [1.0]}}', b'{"a": ' + b"[" * 500 + b"1" + b"]" * 500 + b"}")
    assert raw_matches('{"value": {"a": [1]}}', b'{"a": ' + b"[" * 500 + b"1" + b"]" * 500 + b"}")
    assert raw_matches('{"value": {"a": [1.0]}}', b"[" * 100_000)
    assert not raw_matches('{"value": {"a": [1.0]}}', b'{"a": ' + b"9" * 10_000 + b"}")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "x",
        "{",
        "[]",
        "null",
        "5",
        "{}",
        '{"value": {}}',
        '{"value": []}',
        '{"value": "x"}',
        '{"value": 5}',
        '{"value": null}',
        '{"value": {"a": "x"}}',
        '{"value": {"a": {}}}',
        '{"value": {"a": []}}',
        '{"value": {"a": [[]]}}',
        '{"value": {"a": [["x"], {"exists": true}]}}',
        '{"value": {"a": [{}]}}',
        '{"value": {"a": [{"like": "x"}]}}',
        '{"value": {"a": [{"prefix": "x", "suffix": "y"}]}}',
        '{"value": {"a": [{"exists": "true"}]}}',
        '{"value": {"a": [{"exists": true, "prefix": "x"}]}}',
        '{"value": {"a": [{"prefix": 5}]}}',
        '{"value": {"a": [{"prefix": ["x"]}]}}',
        '{"value": {"a": [{"prefix": {"suffix": "x"}}]}}',
        '{"value": {"a": [{"equals-ignore-case": ["x"]}]}}',
        '{"value": {"a": [{"anything-but": []}]}}',
        '{"value": {"a": [{"anything-but": ["x", 1]}]}}',
        '{"value": {"a": [{"anything-but": [true]}]}}',
        '{"value": {"a": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}}',
        '{"value": {"a": [{"anything-but": {"prefix": []}}]}}',
        '{"value": {"a": [{"numeric": []}]}}',
        '{"value": {"a": [{"numeric": [">"]}]}}',
        '{"value": {"a": [{"numeric": [">", "5"]}]}}',
        '{"value": {"a": [{"numeric": ["!=", 5]}]}}',
        '{"value": {"a": [{"numeric": ["<", 5, ">", 0]}]}}',
        '{"value": {"a": [{"numeric": [">", 5, "<", 5]}]}}',
        '{"value": {"a": [{"numeric": [">", NaN]}]}}',
        '{"value": {"a": [{"cidr": "10.0.0.0/99"}]}}',
        '{"value": {"a": [{"wildcard": "x**"}]}}',
        '{"value": {"a": [{"wildcard": "x\\\\"}]}}',
        '{"value": {"a": [{"wildcard": "x\\\\y"}]}}',
        '{"value": {"$or": {"a": ["x"]}}}',
        '{"value": {"$or": [{"a": ["x"]}]}}',
        '{"value": {"$or": [{"a": ["x"]}, {}]}}',
        '{"value": {"$or": [{"a": ["x"]}, "y"]}}',
        '{"value":' + '{"a":' * 60 + '["x"]' + "}" * 61,
        '{"value": {"a": ' + "[" * 5000,
    ],
)
def test_what_is_no_pattern_is_rejected(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        compile_filters([JSON_PATTERN, pattern])


@pytest.mark.parametrize("field", ["key", "topic", "partition", "headers", "timestamp"])
def test_a_pattern_about_anything_but_the_value_is_rejected_by_name(field: str) -> None:
    with pytest.raises(UnfilterableField, match=f"'{field}'"):
        compile_filters([json.dumps({"value": {"a": ["x"]}, field: ["x"]})])
