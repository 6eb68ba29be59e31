"""Owns the files of Event invocations that are not done: accepted means on the disk, done means gone.

One file an event: a line of JSON with the payload's length and CRC, then the payload as it came. Replaced
atomically after each failed attempt, so that a restart goes on with the attempts that are left. All methods
block. It must not know the pool or when an event is tried.

    events/ID.event   events/damaged/ID.event   events/undelivered/ID.event
"""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from tidemill_functions.code.documents import remove_drafts, write_bytes
from tidemill_functions.destinations.record import Outcome, Request, Target

logger = logging.getLogger(__name__)

_SUFFIX: Final = ".event"


def _new_id() -> str:
    """Return an id that sorts by the time of its making."""
    return f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One accepted Event invocation."""

    key: str  # the function's or the published version's
    qualifier: str  # as it was invoked, "" for none: the event invoke configuration goes by it
    arn: str
    request_id: str
    trace_id: str
    payload: bytes
    caller_trace: str = ""
    accepted_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    attempts: int = 0  # that failed
    retry_at_ms: int = 0
    outcome: Outcome | None = None  # once it is done; then `targets` are still to be told
    targets: Sequence[Target] = ()
    id: str = field(default_factory=_new_id)

    @property
    def request(self) -> Request:
        """Return what destinations are told of it."""
        return Request(request_id=self.request_id, arn=self.arn, payload=self.payload)


class EventStore:
    """The events of one data directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damaged = folder / "damaged"
        self._undelivered = folder / "undelivered"
        folder.mkdir(parents=True, exist_ok=True)
        remove_drafts(folder)

    def put(self, event: Event) -> None:
        """Keep the event as it is now; it is on the disk when this returns. Raises OSError."""
        header = dataclasses.asdict(event)
        del header["payload"]
        header |= {"payload_bytes": len(event.payload), "payload_crc32": zlib.crc32(event.payload)}
        write_bytes(self._path(event), orjson.dumps(header) + b"\n" + event.payload)

    def remove(self, event: Event) -> None:
        """Forget an event that is done. A loss of power may bring it back: delivery is at least once."""
        self._path(event).unlink(missing_ok=True)

    def set_undelivered(self, event: Event) -> Path:
        """Keep an event whose result no target takes where it is not tried again. Raises OSError."""
        self._undelivered.mkdir(exist_ok=True)
        aside = self._undelivered / self._path(event).name
        self._path(event).replace(aside)
        return aside

    def load(self) -> Sequence[Event]:
        """Return what is kept, oldest first; files that are damaged are set aside, and named in the log."""
        events = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                events.append(_parsed(path.read_bytes()))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                self._set_aside(path, error)
        return events

    def _set_aside(self, path: Path, error: Exception) -> None:
        self._damaged.mkdir(exist_ok=True)
        aside = self._damaged / path.name
        path.replace(aside)
        logger.error(
            "event not loaded file=%s reason=%s: %s; it is not delivered: invoke the function again with the"
            " payload, which follows the file's first line, then remove the file",
            aside,
            type(error).__name__,
            error,
        )

    def _path(self, event: Event) -> Path:
        return self._folder / f"{event.id}{_SUFFIX}"


def _parsed(content: bytes) -> Event:
    line, newline, payload = content.partition(b"\n")
    header = orjson.loads(line)
    length, crc32 = header.pop("payload_bytes"), header.pop("payload_crc32")
    if not newline or len(payload) != length or zlib.crc32(payload) != crc32:
        raise ValueError(f"the payload is not the {length} bytes that were written")
    outcome, targets = header.pop("outcome", None), header.pop("targets", ())
    return Event(
        **header,
        payload=payload,
        outcome=Outcome(**outcome) if outcome else None,
        targets=tuple(Target(**target) for target in targets),
    )
