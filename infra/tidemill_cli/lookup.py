"""Owns how people name a mapping: by UUID, a unique prefix of it, its function, or its topic.

Lambda's API takes whole UUIDs only. Function and topic names go before prefixes of UUIDs.
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
