"""Owns how the large values of ministack are split, so that a message or an item is written by itself.

A value is its rest, written whole when it changes, and parts by name: the messages of a queue, the items of a
table, the objects of a bucket, the streams of a log group. ``changes`` tells what of a value is not in the
journal yet; ``join`` builds the value from what the journal held. Knows ministack's models of these four.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Final, Protocol

from tidemill_local.aws.bounded_logs import EVENTS_MAX
from tidemill_local.aws.kept.pickling import encode

Value = dict[str, Any]
# A part's name, and its bytes; None: it is gone.
Change = tuple[Hashable, bytes | None]


class Parts(Protocol):
    """One kind of large value."""

    left_out: frozenset[str]
    # Whether others may be served between two parts of ``all``.
    can_pause: bool

    def forget(self, value: Value) -> None:
        """Follow a value no more."""

    def watch(self, value: Value) -> None:
        """Begin to follow a value that is new, or back from the journal."""

    def changes(self, value: Value) -> Iterator[Change] | None:
        """What changed since the last time; None if that is not known, and all must be written."""

    def all(self, value: Value) -> Iterator[Change]:
        """Every part."""

    def join(self, value: Value, parts: Mapping[Any, Any]) -> None:
        """Put parts back into the rest of a value."""


class Messages:
    """Those of a queue, by id; what is received is not written: it is visible again after a crash."""

    left_out = frozenset({"messages"})
    can_pause = True

    def __init__(self) -> None:
        self._known: dict[int, dict[str, None]] = {}

    def forget(self, value: Value) -> None:
        """Follow a queue no more."""
        self._known.pop(id(value), None)

    def watch(self, value: Value) -> None:
        """Begin to follow a queue."""
        self._known[id(value)] = dict.fromkeys(message["id"] for message in value["messages"])

    def changes(self, value: Value) -> Iterator[Change] | None:
        """New ones are at the end; the others are counted, and looked for if some are missing."""
        known = self._known.get(id(value))
        return None if known is None else self._changes(value["messages"], known)

    def _changes(self, messages: list[Value], known: dict[str, None]) -> Iterator[Change]:
        new: list[Value] = []
        for message in reversed(messages):
            if message["id"] in known:
                break
            new.append(message)
        if len(known) + len(new) != len(messages):
            there = {message["id"] for message in messages}
            for gone in [each for each in known if each not in there]:
                del known[gone]
                yield gone, None
        for message in reversed(new):
            known[message["id"]] = None
            yield message["id"], encode(message)

    def all(self, value: Value) -> Iterator[Change]:
        """Every message that is there when its turn comes."""
        known = self._known[id(value)]
        for message in list(value["messages"]):
            if message["id"] in known:
                yield message["id"], encode(message)

    def join(self, value: Value, parts: Mapping[Any, Any]) -> None:
        """The messages in the order in which they came; those in flight are visible again."""
        value["messages"] = list(parts.values())
        for message in value["messages"]:
            if message["receive_count"]:
                message |= {"visible_at": 0.0, "receipt_handle": None}


class Items:
    """Those of a table, by hash and range key; ``note`` is told of each that is set or removed."""

    # The counts follow from the items.
    left_out = frozenset({"items", "_index_members", "ItemCount", "TableSizeBytes"})
    can_pause = True

    def __init__(self) -> None:
        self._items: dict[int, Any] = {}
        self._noted: dict[int, dict[tuple[Any, Any], None]] = {}

    def note(self, table: Value, hash_key: Any, range_key: Any) -> None:
        """Note that an item was set or removed."""
        self._noted.setdefault(id(table), {})[hash_key, range_key] = None

    def forget(self, value: Value) -> None:
        """Follow a table no more."""
        self._items.pop(id(value), None)
        self._noted.pop(id(value), None)

    def watch(self, value: Value) -> None:
        """Begin to follow a table; all its items at once are another dictionary."""
        self._items[id(value)] = value["items"]
        self._noted.pop(id(value), None)

    def changes(self, value: Value) -> Iterator[Change] | None:
        """The noted ones."""
        items: dict[Any, dict[Any, Any]] = value["items"]
        if self._items.get(id(value)) is not items:
            return None
        return (_item(items, *keys) for keys in self._noted.pop(id(value), {}))

    def all(self, value: Value) -> Iterator[Change]:
        """Every item that is there when its turn comes."""
        for hash_key, by_range in list(value["items"].items()):
            for range_key in list(by_range):
                name, data = _item(value["items"], hash_key, range_key)
                if data is not None:
                    yield name, data

    def join(self, value: Value, parts: Mapping[Any, Any]) -> None:
        """The items, and their number, as ministack estimates it."""
        items: dict[Any, dict[Any, Any]] = defaultdict(dict)
        for name, item in parts.items():
            hash_key, range_key = name
            items[hash_key][range_key] = item
        value |= {"items": items, "ItemCount": len(parts), "TableSizeBytes": 200 * len(parts)}


def _item(items: Mapping[Any, Mapping[Any, Any]], hash_key: Any, range_key: Any) -> Change:
    item = items.get(hash_key, {}).get(range_key)
    return (hash_key, range_key), None if item is None else encode(item)


class _Objects(dict[str, Value]):
    """The objects of a bucket; remembers which were looked up or changed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.touched: dict[str, None] = {}
        self.written: dict[str, tuple[int, bytes]] = {}

    def __getitem__(self, key: str) -> Value:
        self.touched[key] = None
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return an object, which the caller may change."""
        self.touched[key] = None
        return super().get(key, default)

    def __setitem__(self, key: str, value: Value) -> None:
        self.touched[key] = None
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.touched[key] = None
        super().__delitem__(key)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove an object."""
        self.touched[key] = None
        return super().pop(key, *default)


class Objects:
    """Those of a bucket, by key. A body is never changed, so one that is still the same is not read again."""

    left_out = frozenset({"objects"})
    can_pause = True

    def forget(self, value: Value) -> None:
        """Follow a bucket no more."""

    def watch(self, value: Value) -> None:
        """Begin to follow a bucket."""
        value["objects"] = objects = _Objects(value["objects"])
        objects.written = {key: _fingerprint(each) for key, each in objects.items()}

    def changes(self, value: Value) -> Iterator[Change] | None:
        """Those that were touched and are not what they were."""
        objects = value["objects"]
        return self._changes(objects) if isinstance(objects, _Objects) else None

    def _changes(self, objects: _Objects) -> Iterator[Change]:
        while objects.touched:
            key, _ = objects.touched.popitem()
            found = dict.get(objects, key)
            if found is None:
                if objects.written.pop(key, None):
                    yield key, None
            elif objects.written.get(key) != (fingerprint := _fingerprint(found)):
                objects.written[key] = fingerprint
                yield key, encode(found)

    def all(self, value: Value) -> Iterator[Change]:
        """Every object that is there when its turn comes."""
        for key in list(value["objects"]):
            found = dict.get(value["objects"], key)
            if found is not None:
                yield key, encode(found)

    def join(self, value: Value, parts: Mapping[Any, Any]) -> None:
        """The objects."""
        value["objects"] = dict(parts)


def _fingerprint(record: Value) -> tuple[int, bytes]:
    return id(record.get("body")), encode({name: part for name, part in record.items() if name != "body"})


class Streams:
    """Those of a log group: (name, 0) is a stream without events, (name, n) its n-th piece of them.

    A stream keeps its last events (`bounded_logs`): older ones stay in pieces until the journal is rewritten.
    """

    left_out = frozenset({"streams"})
    can_pause = False

    def __init__(self) -> None:
        # Of each group and stream: how many pieces, how many events, the last of them.
        self._known: dict[int, dict[str, tuple[int, int, Any]]] = {}
        # Of a group that was read back: how many pieces the journal has of each stream.
        self._joined: dict[int, dict[str, int]] = {}

    def forget(self, value: Value) -> None:
        """Follow a group no more."""
        self._known.pop(id(value), None)

    def watch(self, value: Value) -> None:
        """Begin to follow a group whose events are one piece each, or those that were read back."""
        pieces = self._joined.pop(id(value), {})
        self._known[id(value)] = {
            name: (
                pieces.get(name, 1),
                len(stream["events"]),
                stream["events"][-1] if stream["events"] else None,
            )
            for name, stream in value["streams"].items()
        }

    def changes(self, value: Value) -> Iterator[Change] | None:
        """The events at the ends of streams; of one that changed otherwise, all."""
        known = self._known.get(id(value))
        return None if known is None else self._changes(value["streams"], known)

    def _changes(self, streams: dict[str, Value], known: dict[str, tuple[int, int, Any]]) -> Iterator[Change]:
        for name in [each for each in known if each not in streams]:
            yield from _stream_gone(name, known.pop(name)[0])
        for name, stream in list(streams.items()):
            pieces, count, last = known.get(name, (0, -1, None))
            events = stream["events"]
            if count == len(events) and (not events or events[-1] is last):
                continue
            old = _place_after(events, last)
            # The oldest may have been forgotten, which a start does too.
            if not old or not (old == count or (old < count and len(events) >= EVENTS_MAX)):
                yield from _stream_gone(name, pieces)
                pieces, old = 0, 0
            yield (name, 0), _stream(stream)
            yield (name, pieces + 1), encode(events[old:])
            known[name] = (pieces + 1, len(events), events[-1] if events else None)

    def all(self, value: Value) -> Iterator[Change]:
        """Every stream, its events in one piece."""
        for name, stream in list(value["streams"].items()):
            yield (name, 0), _stream(stream)
            yield (name, 1), encode(stream["events"])

    def join(self, value: Value, parts: Mapping[Any, Any]) -> None:
        """The streams with their pieces in order."""
        streams: dict[str, Value] = {}
        for (name, number), part in parts.items():
            if number == 0:
                streams.setdefault(name, {"events": []}).update(part)
            else:
                streams.setdefault(name, {"events": []})["events"].extend(part)
        for stream in streams.values():
            del stream["events"][:-EVENTS_MAX]
        self._joined[id(value)] = {
            name: max(each[1] for each in parts if each[0] == name) for name in streams
        }
        value["streams"] = streams


def _place_after(events: list[Any], last: Any) -> int:
    """How many events there are up to one that was the last; 0 if it is not there."""
    if last is not None:
        for place in range(len(events), 0, -1):
            if events[place - 1] is last:
                return place
    return 0


def _stream(stream: Value) -> bytes:
    return encode({name: part for name, part in stream.items() if name != "events"})


def _stream_gone(name: str, pieces: int) -> Iterator[Change]:
    for number in range(pieces + 1 if pieces else 0):
        yield (name, number), None


def note_items(dynamodb: Any) -> None:
    """Let ministack's DynamoDB tell which items it sets and removes."""

    def noting(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(table: Value, hash_key: Any, range_key: Any, *item: Any) -> Any:
            _ITEMS.note(table, hash_key, range_key)
            return change(table, hash_key, range_key, *item)

        return changed

    for name in ("_set_item", "_remove_item"):
        setattr(dynamodb, name, noting(getattr(dynamodb, name)))


_ITEMS: Final = Items()
PARTS: Final[Mapping[str, Parts]] = {
    "sqs._queues": Messages(),
    "dynamodb._tables": _ITEMS,
    "s3._buckets": Objects(),
    "cloudwatch_logs._log_groups": Streams(),
}
