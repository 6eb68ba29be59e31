"""A mapping is named by its UUID, the start of it, its function or its topic."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill_cli.errors import UserError
from tidemill_cli.lookup import choose

ARN = "arn:aws:lambda:us-east-1:123456789012:function:"
FIRST, SECOND, THIRD = (
    f"{start}-0000-4000-8000-000000000000" for start in ("a1b20000", "a1b30000", "f0000000")
)


def mapping(uuid: str, function: str, topic: str) -> dict[str, Any]:
    return {"UUID": uuid, "FunctionArn": f"{ARN}{function}", "Topics": [topic]}


MAPPINGS = [
    mapping(FIRST, "orders", "orders"),
    mapping(SECOND, "parcels:live", "shipments"),
    mapping(THIRD, "audit", "shipments"),
]


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        ("orders", FIRST),
        ("parcels", SECOND),
        ("parcels:live", SECOND),
        (f"{ARN}audit", THIRD),
        ("a1b3", SECOND),
        ("A1B2", FIRST),
        (THIRD, THIRD),
    ],
)
def test_what_names_one_mapping_finds_it(name: str, uuid: str) -> None:
    assert choose(MAPPINGS, name)["UUID"] == uuid


def test_a_name_goes_before_the_start_of_a_uuid() -> None:
    assert choose([*MAPPINGS, mapping(SECOND, "f0", "t")], "f0")["UUID"] == SECOND


@pytest.mark.parametrize("name", ["shipments", "a1b"])
def test_what_names_several_lists_them(name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' names 2 mappings:") as raised:
        choose(MAPPINGS, name)
    listed = [line.split("  ")[1:] for line in str(raised.value).splitlines()[1:]]
    assert (
        listed
        == {
            "shipments": [[SECOND, "shipments -> parcels:live"], [THIRD, "shipments -> audit"]],
            "a1b": [[FIRST, "orders -> orders"], [SECOND, "shipments -> parcels:live"]],
        }[name]
    )


@pytest.mark.parametrize("name", ["nobody", ""])
def test_what_names_none_says_where_they_are_listed(name: str) -> None:
    with pytest.raises(UserError, match="No mapping has") as raised:
        choose(MAPPINGS, name)
    assert raised.value.hint == "`tidemill mapping list` shows them all."
