"""Owns that what ministack answered is there after its process was killed.

Before a reply, what the request looked up is compared with what the journal has of it, and the difference is
appended in one frame. At a start the journal is read back into ministack's dictionaries. A journal that has
grown is rewritten beside the requests. See docs/decisions/0805.
"""

import asyncio
import logging
import pickle
import time
from collections.abc import Hashable, Iterator
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tidemill_local.aws.kept import queue_urls
from tidemill_local.aws.kept.interrupted import end_stack
from tidemill_local.aws.kept.journal import Journal, StateUnwritable
from tidemill_local.aws.kept.parts import PARTS, note_items
from tidemill_local.aws.kept.pickling import Unkeepable, decode, encode
from tidemill_local.aws.kept.stores import Place, Stores

logger = logging.getLogger(__name__)

FILE_NAME: Final = "state.log"
# What threads change without a request, such as a stack's resources, is kept this soon.
PERIOD_S: Final = 0.5
# A value this large that is not split is written once a period, and not before each reply.
_BULKY_BYTES: Final = 256 * 1024
_REWRITE_GROWTH: Final = 2
_SLICE_S: Final = 0.005
_DIGEST_BYTES: Final = 16
# Instead of a digest: the value is no data; what the journal has is not known.
_UNKEEPABLE: Final = b"-"
_UNSURE: Final = b"?"

_STACKS: Final = "cloudformation._stacks"

_Record = tuple[str, Any, str, Hashable, bytes | None]
_DROP, _REST, _PART = "drop", "rest", "part"


class KeptState:
    """The state of one ministack, and its file in ``folder``."""

    def __init__(self, folder: Path, *, rewrite_from_bytes: int) -> None:
        self._file = folder / FILE_NAME
        self._journal = Journal(self._file)
        self._stores = Stores({"dynamodb": note_items})
        # What the journal has of each place, and the value that it was taken from.
        self._written: dict[Place, bytes] = {}
        self._watched: dict[Place, Any] = {}
        self._bulky: set[Place] = set()
        self._told: set[str] = set()
        self._rewrite_from_bytes = rewrite_from_bytes
        self._rewritten_bytes = 0
        # Where queues were, and are, by host and port.
        self._netlocs: frozenset[str] = frozenset()
        self._netloc = ""

    def load(self) -> None:
        """Read the journal into ministack; once, before the first request."""
        rests: dict[Place, bytes] = {}
        parts: dict[Place, dict[Hashable, bytes]] = {}
        for payload in self._journal.read():
            for record in decode(payload):
                _apply(record, rests, parts)
        for module in dict.fromkeys(place[0].rpartition(".")[0] for place in rests):
            import_module(f"ministack.services.{module}")
        self._stores.adopt()
        self._netlocs = queue_urls.netlocs(rests)
        if self._netlocs:
            self._netloc = import_module("ministack.services.sqs")._CANONICAL_NETLOC  # noqa: SLF001 - of queues
        for place, rest in rests.items():
            self._restore(place, rest, parts.get(place, {}))
        self._end_interrupted_stacks()
        self._rewritten_bytes = self._journal.size_bytes

    def _end_interrupted_stacks(self) -> None:
        places = [(_STACKS, key) for key in self._stores.keys(_STACKS)]
        if not places:
            return
        from ministack.core.responses import request_scope  # noqa: PLC0415 - where stacks are
        from ministack.services.cloudformation.stacks import _add_event  # noqa: PLC0415 - as above

        for place in places:
            account, region, _name = place[1]
            with request_scope(account, region):
                if end_stack(self._stores.value(place), _add_event):
                    self._stores.places[place] = None
                    logger.warning("stack was interrupted stack=%s", self._stores.value(place)["StackName"])

    def flush(self, looked_up: dict[Place, None] | None = None, *, with_bulky: bool = False) -> None:
        """Write what has changed. Raises StateUnwritable; the next flush then writes it."""
        self._stores.adopt()
        if looked_up:
            self._stores.places.update(looked_up)
        records: list[_Record] = []
        later: list[Place] = []
        for place in self._stores.taken():
            if place in self._bulky and not with_bulky:
                later.append(place)
                continue
            try:
                records += self._changes(place)
            except RuntimeError:
                # A thread changes it at this moment: it is looked at again.
                self._doubt(place)
                later.append(place)
        self._stores.places.update(dict.fromkeys(later))
        if records:
            self._append(records)

    async def follow(self) -> None:
        """Write what threads change, and rewrite the journal when it has grown, for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            for store in self._stores.names():
                if store.startswith("cloudformation."):
                    self._stores.whole[store] = None
            try:
                self.flush(with_bulky=True)
                if self._journal.size_bytes > max(
                    self._rewrite_from_bytes, _REWRITE_GROWTH * self._rewritten_bytes
                ):
                    await self.rewrite()
            except StateUnwritable as error:
                logger.warning("%s", error)

    async def rewrite(self) -> None:
        """Write a journal of what is there now, while requests are answered; then it takes the place."""
        self.flush()
        self._journal.begin_rewriting()
        began_s = time.monotonic()
        for place in [(store, key) for store in self._stores.names() for key in self._stores.keys(store)]:
            kind, value = PARTS.get(place[0]), self._stores.value(place)
            for record in self._whole(place):
                self._journal.rewrite(encode([record]))
                if time.monotonic() - began_s > _SLICE_S and (kind is None or kind.can_pause):
                    await asyncio.sleep(0)
                    # What is in memory and not in the journal must not be in the new one alone.
                    self.flush(with_bulky=True)
                    began_s = time.monotonic()
                    if kind and self._watched.get(place) is not value:
                        break  # another is there now, and was written whole
        if self._journal.end_rewriting():
            self._rewritten_bytes = self._journal.size_bytes

    def _append(self, records: list[_Record]) -> None:
        try:
            self._journal.append(encode(records))
        except OSError as error:
            for record in records:
                self._doubt((record[0], record[1]))
                self._stores.places[record[0], record[1]] = None
            raise StateUnwritable(
                f"The embedded AWS cannot write {self._file} ({error.strerror}): make room on the disk."
            ) from None

    def _forget(self, place: Place) -> None:
        """Note that the journal has nothing of a place."""
        self._written.pop(place, None)
        watched = self._watched.pop(place, None)
        if watched is not None:
            PARTS[place[0]].forget(watched)

    def _doubt(self, place: Place) -> None:
        """Note that what the journal has of a place is not known: it is written anew."""
        self._forget(place)
        self._written[place] = _UNSURE

    def _changes(self, place: Place) -> Iterator[_Record]:
        """The records that bring the journal up to what is there."""
        store, key = place
        value = self._stores.value(place)
        known = self._written.get(place)
        if value is None:
            if known is not None:
                self._forget(place)
                yield store, key, _DROP, None, None
            return
        kind = PARTS.get(store)
        if known is None or (kind and self._watched.get(place) is not value):
            yield from self._anew(place, value)
            return
        rest = self._rest(place, value)
        if rest is not None and (digest := _digest(rest)) != known:
            self._written[place] = digest
            yield store, key, _REST, None, rest
        if kind is None:
            return
        changes = kind.changes(value)
        if changes is None:
            yield from self._anew(place, value)
        else:
            for name, data in changes:
                yield store, key, _PART, name, data

    def _anew(self, place: Place, value: Any) -> Iterator[_Record]:
        store, key = place
        if place in self._written:
            yield store, key, _DROP, None, None
        kind = PARTS.get(store)
        if kind:
            kind.watch(value)
            self._watched[place] = value
        whole = list(self._whole(place))
        self._written[place] = _digest(whole[0][4]) if whole and whole[0][4] else _UNKEEPABLE
        yield from whole

    def _whole(self, place: Place) -> Iterator[_Record]:
        store, key = place
        value = self._stores.value(place)
        rest = None if value is None else self._rest(place, value)
        if rest is None:
            return
        yield store, key, _REST, None, rest
        if kind := PARTS.get(store):
            for name, data in kind.all(value):
                yield store, key, _PART, name, data

    def _rest(self, place: Place, value: Any) -> bytes | None:
        """The bytes of a value without its parts; None if it is no data."""
        kind = PARTS.get(place[0])
        if kind:
            value = {name: part for name, part in value.items() if name not in kind.left_out}
        try:
            rest = encode(value)
        except Unkeepable:
            if place[0] not in self._told:
                self._told.add(place[0])
                logger.warning("state not kept over a restart store=%s", place[0])
            return None
        if len(rest) > _BULKY_BYTES:
            self._bulky.add(place)
        else:
            self._bulky.discard(place)
        return rest

    def _restore(self, place: Place, rest: bytes, parts: dict[Hashable, bytes]) -> None:
        kind = PARTS.get(place[0])
        try:
            value = decode(rest)
            if kind:
                kind.join(value, {name: decode(data) for name, data in parts.items()})
        except (
            pickle.UnpicklingError,
            AttributeError,
            ImportError,
            TypeError,
            ValueError,
            KeyError,
        ) as error:
            logger.warning(
                "state not restored file=%s store=%s error=%s", self._file, place[0], type(error).__name__
            )
            return
        here, value_here = queue_urls.moved(place, value, self._netlocs, self._netloc)
        if here != place or value_here != value:
            # Both places are written anew.
            self._written[place] = _UNSURE
            self._stores.places |= {place: None, here: None}
            self._stores.put(here, value_here)
            return
        if not self._stores.put(place, value):
            return
        self._written[place] = _digest(rest)
        if kind:
            kind.watch(value)
            self._watched[place] = value


def _apply(record: _Record, rests: dict[Place, bytes], parts: dict[Place, dict[Hashable, bytes]]) -> None:
    store, key, action, name, data = record
    place = (store, key)
    if action == _DROP:
        rests.pop(place, None)
        parts.pop(place, None)
    elif action == _REST:
        assert data is not None
        rests[place] = data
    elif data is None:
        parts.get(place, {}).pop(name, None)
    else:
        parts.setdefault(place, {})[name] = data


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
