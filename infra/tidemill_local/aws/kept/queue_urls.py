"""Owns that queues are found after the endpoint's port has changed: ministack keeps them by URL. Pure."""

from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

_QUEUES: Final = "sqs._queues"
# Of stacks the resources' identifiers and outputs.
_HOLDERS: Final = ("sqs._queue", "cloudformation.")


def netlocs(places: Collection[tuple[str, Any]]) -> frozenset[str]:
    """The hosts and ports in the URLs by which queues were kept."""
    return frozenset(urlsplit(key[2]).netloc for store, key in places if store == _QUEUES)


def moved(place: tuple[str, Any], value: Any, old: Collection[str], new: str) -> tuple[tuple[str, Any], Any]:
    """Return a place and its value with URLs of ``old`` hosts at the ``new`` one, where they are queues'."""
    if not place[0].startswith(_HOLDERS):
        return place, value
    for netloc in old:
        if netloc != new:
            place, value = _replaced((place, value), f"://{netloc}/", f"://{new}/")
    return place, value


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if type(value) is dict:
        return {_replaced(key, old, new): _replaced(each, old, new) for key, each in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_replaced(each, old, new) for each in value)
    return value
