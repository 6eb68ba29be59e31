"""Owns how people name a mapping or a function: by function, topic, or a mapping's UUID or the start of it.

Lambda's API takes whole UUIDs and functions' own names only. Function and topic names go before starts of
UUIDs.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Mapping = dict[str, Any]


def mapping_uuid(there: Endpoint, name: str) -> str:
    """Return the UUID of the one mapping that has this name.

    Raises UserError if there is none, or if several have it.
    """
    if _UUID.fullmatch(name):
        return name
    return str(choose(all_mappings(there), name)["UUID"])


def function_named(there: Endpoint, name: str) -> str:
    """Return the name of the function that is meant: its own, or that of the one mapping with this name.

    Raises UserError if there is none, or if several mappings have the name.
    """
    client = there.aws("lambda")
    try:
        client.get_function_configuration(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        mappings = all_mappings(there)
        if not any(name in _names(each) or each["UUID"].startswith(name.lower()) for each in mappings):
            raise UserError(
                f"No function is called {name!r}, and no mapping has it as its topic or the start of its"
                " UUID.",
                hint="`tidemill function list` and `tidemill mapping list` show them all.",
            ) from None
        return function_name(choose(mappings, name))
    return name


def all_mappings(there: Endpoint, **only: str) -> list[Mapping]:
    """Return all mappings, or those that the API's own filters leave."""
    pages = there.aws("lambda").get_paginator("list_event_source_mappings").paginate(**only)
    return [mapping for page in pages for mapping in page["EventSourceMappings"]]


def choose(mappings: Sequence[Mapping], name: str) -> Mapping:
    """Return the one mapping of these that `name` means. Raises UserError if it is not exactly one."""
    found = [mapping for mapping in mappings if name in _names(mapping)]
    found = found or [mapping for mapping in mappings if mapping["UUID"].startswith(name.lower())]
    if not found or not name:
        raise UserError(
            f"No mapping has {name!r} as its function, its topic or the start of its UUID.",
            hint="`tidemill mapping list` shows them all.",
        )
    if len(found) > 1:
        candidates = "".join(f"\n  {mapping['UUID']}  {label(mapping)}" for mapping in found)
        raise UserError(
            f"{name!r} names {len(found)} mappings:{candidates}",
            hint="Give the start of the UUID of one of them.",
        )
    return found[0]


def label(mapping: Mapping) -> str:
    """Return `topic -> function`."""
    return f"{','.join(mapping.get('Topics', []))} -> {function_name(mapping)}"


def function_name(mapping: Mapping) -> str:
    """Return the function's name, with its qualifier if it has one; "" of a damaged mapping."""
    return str(mapping.get("FunctionArn", "")).rpartition(":function:")[2]


def _names(mapping: Mapping) -> set[str]:
    name = function_name(mapping)
    return {mapping.get("FunctionArn"), name, name.partition(":")[0], *mapping.get("Topics", [])} - {"", None}
