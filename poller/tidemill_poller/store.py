"""Mappings on disk: one SQLite file in the poller's data directory, durable at every return.

Two writers, two kinds of column: the control API writes configurations (`create`, `replace`), the fleet
writes statuses (`set_status`) and takes deleted mappings away (`delete`). Knows nothing of HTTP or Kafka.
All methods are synchronous and quick; call them from the event loop's thread only.
A row that cannot be read is one mapping's fault: `damaged` lists it, `all` goes on without it.

See docs/decisions/0502.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import abc
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as with_fields
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from tidemill_poller.arn import parse_arn
from tidemill_poller.errors import StoreUnavailable, StoreUnreadable, VersionConflict
from tidemill_poller.mapping import Mapping, State

logger = logging.getLogger(__name__)

FILE_NAME: Final = "mappings.db"
SCHEMA_VERSION: Final = 1
"""Kept in PRAGMA user_version; a file with a higher one is from a newer Tidemill and is left alone."""

_POLL_S: Final = 0.5
"""How soon a change by another process is seen; changes in this one are seen at once."""
_BUSY_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = (
    """CREATE TABLE mappings (
        uuid TEXT PRIMARY KEY,
        configuration TEXT NOT NULL,
        version INTEGER NOT NULL,
        tags TEXT NOT NULL,
        state TEXT NOT NULL,
        state_transition_reason TEXT NOT NULL,
        last_processing_result TEXT NOT NULL,
        last_modified_ms INTEGER NOT NULL
    ) STRICT""",
    "CREATE TABLE revision (number INTEGER NOT NULL) STRICT",
    "INSERT INTO revision VALUES (0)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_STATUS_COLUMNS: Final = (
    "version",
    "state",
    "state_transition_reason",
    "last_processing_result",
    "last_modified_ms",
)
_SELECT: Final = f"SELECT uuid, configuration, {', '.join(_STATUS_COLUMNS)} FROM mappings"  # noqa: S608 - our own constants
_ADAPTER: Final = TypeAdapter(Mapping)
_TAGS: Final = TypeAdapter(dict[str, str])
_LAST_MODIFIED_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, where datetime ends."""
_RESTORE: Final = "move the file away to start without mappings, or restore a backup"
_FIXES: Final = {
    sqlite3.SQLITE_BUSY: "another process holds the file: stop it, or give another --data-dir",
    sqlite3.SQLITE_LOCKED: "another process holds the file: stop it, or give another --data-dir",
    sqlite3.SQLITE_READONLY: "let this user write to the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "--data-dir must be a writable directory, and the file a regular one",
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_IOERR: "check its disk, and the space that is free on it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedMapping:
    """A stored mapping that cannot be read; `reason` names the file, the UUID and the fix."""

    uuid: str
    reason: str


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class MappingStore:
    """All mappings of one poller; several processes may open the same directory."""

    def __init__(self, data_dir: Path, *, now_ms: abc.Callable[[], int] = _now_ms) -> None:
        """Open, or make, the store.

        Raises StoreUnreadable if the file is damaged, foreign or newer (it is left as it is), and
        StoreUnavailable if the directory cannot be written or another process holds the file.
        """
        self._path = data_dir / FILE_NAME
        self._now_ms = now_ms
        self._changed = asyncio.Event()
        self._logged: frozenset[DamagedMapping] = frozenset()
        self._db = self._open()

    def create(self, mapping: Mapping, *, tags: abc.Mapping[str, str] | None = None) -> None:
        """Insert a new mapping with its tags; its UUID must be new."""
        with self._configuration_change():
            self._db.execute(
                "INSERT INTO mappings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    mapping.uuid,
                    _configuration(mapping),
                    mapping.version,
                    orjson.dumps(dict(tags or {})).decode(),
                    mapping.state,
                    mapping.state_transition_reason,
                    mapping.last_processing_result,
                    mapping.last_modified_ms,
                ),
            )

    def get(self, uuid: str) -> Mapping | None:
        """Return the mapping as it stands, or None. Raises StoreUnreadable if its row is damaged."""
        rows = self._rows(f"{_SELECT} WHERE uuid = ?", (uuid,))
        return self._mapping(rows[0]) if rows else None

    def all(self) -> list[Mapping]:
        """Return every mapping that can be read, in the order of their UUIDs."""
        return self._read_all()[0]

    def damaged(self) -> list[DamagedMapping]:
        """Return the mappings that cannot be read, in the order of their UUIDs."""
        return self._read_all()[1]

    def _read_all(self) -> tuple[list[Mapping], list[DamagedMapping]]:
        """Return the readable and the damaged mappings; log each damage when it is first seen."""
        mappings: list[Mapping] = []
        damaged: list[DamagedMapping] = []
        for row in self._rows(f"{_SELECT} ORDER BY uuid"):
            try:
                mappings.append(self._mapping(row))
            except StoreUnreadable as error:
                damaged.append(DamagedMapping(uuid=row[0], reason=str(error)))
        for one in damaged:
            if one not in self._logged:
                logger.error("mapping damaged mapping=%s reason=%s", one.uuid, one.reason)
        self._logged = frozenset(damaged)
        return mappings, damaged

    def replace(self, mapping: Mapping, *, expected_version: int) -> Mapping:
        """Write a new configuration and its transitional state; the last processing result stays the fleet's.

        Raises VersionConflict if the stored version is another or the mapping is gone; nothing was written.
        """
        written = with_fields(mapping, version=expected_version + 1)
        with self._configuration_change():
            cursor = self._db.execute(
                "UPDATE mappings SET configuration = ?, version = ?, state = ?, state_transition_reason = ?,"
                " last_modified_ms = ? WHERE uuid = ? AND version = ?",
                (
                    _configuration(written),
                    written.version,
                    written.state,
                    written.state_transition_reason,
                    written.last_modified_ms,
                    written.uuid,
                    expected_version,
                ),
            )
            if cursor.rowcount == 0:
                raise VersionConflict(f"mapping {mapping.uuid} is no longer at version {expected_version}")
        return written

    def delete(self, uuid: str) -> None:
        """Remove the row; of a mapping that is not there, nothing happens."""
        with self._configuration_change():
            self._db.execute("DELETE FROM mappings WHERE uuid = ?", (uuid,))

    def set_status(
        self,
        uuid: str,
        *,
        state: State | None = None,
        reason: str | None = None,
        last_processing_result: str | None = None,
        version: int | None = None,
    ) -> bool:
        """Move a mapping's status on, as its fleet; False when nothing was written.

        A mapping in Deleting stays there in any case, and with `version` given only the configuration
        that the fleet acted on is moved: a newer one still has its own transition to make. Neither the
        configuration nor the revision changes. A write that would change nothing is not made.
        """
        rows = self._rows(
            "SELECT version, state, state_transition_reason, last_processing_result"
            " FROM mappings WHERE uuid = ?",
            (uuid,),
        )
        if not rows or (version is not None and rows[0][0] != version):
            return False
        found, *before = rows[0]
        sticky = before[0] == State.DELETING
        after = [
            before[0] if state is None or sticky else str(state),
            before[1] if reason is None or sticky else reason,
            before[2] if last_processing_result is None else last_processing_result,
        ]
        if after == before:
            return False
        # LastModified: "last updated, or its state changed" (AWS API reference); a new result is neither.
        moved_at_ms = self._now_ms() if after[:2] != before[:2] else None
        with self._transaction():
            # Another process may have written since; then its status stands.
            cursor = self._db.execute(
                "UPDATE mappings SET state = ?, state_transition_reason = ?, last_processing_result = ?,"
                " last_modified_ms = coalesce(?, last_modified_ms)"
                " WHERE uuid = ? AND version = ? AND state = ?",
                (*after, moved_at_ms, uuid, found, before[0]),
            )
        return cursor.rowcount == 1

    def tags(self, uuid: str) -> dict[str, str] | None:
        """Return the mapping's tags, or None when there is no such mapping.

        Raises StoreUnreadable if they are damaged.
        """
        rows = self._rows("SELECT tags FROM mappings WHERE uuid = ?", (uuid,))
        if not rows:
            return None
        try:
            return _TAGS.validate_json(rows[0][0])
        except ValidationError as error:
            raise self._damaged(uuid, error) from error

    def set_tags(self, uuid: str, tags: abc.Mapping[str, str]) -> None:
        """Replace the tags; no version, no revision: tags change nothing that runs."""
        with self._transaction():
            self._db.execute(
                "UPDATE mappings SET tags = ? WHERE uuid = ?", (orjson.dumps(dict(tags)).decode(), uuid)
            )

    @property
    def revision(self) -> int:
        """Counts changes of configurations over all mappings, whoever made them; survives restarts."""
        return int(self._rows("SELECT number FROM revision")[0][0])

    async def changed(self, after_revision: int) -> int:
        """The revision, once it is above `after_revision`; waits until then, or until it is cancelled."""
        while True:
            event = self._changed
            revision = self.revision
            if revision > after_revision:
                return revision
            try:
                async with asyncio.timeout(_POLL_S):
                    await event.wait()
            except TimeoutError:
                continue  # another process may have written

    def close(self) -> None:
        """Release the file; everything that returned is on disk already."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        empty = self._is_empty_file()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        except OSError as error:
            raise StoreUnavailable(
                f"{self._path}: {error}; --data-dir must be a writable directory"
            ) from error
        # What is no UTF-8 is one row's damage; the default raises for the whole query.
        db.text_factory = lambda content: content.decode(errors="backslashreplace")
        try:
            self._adopt(db)
        except sqlite3.OperationalError as error:
            db.close()
            raise self._unavailable(error) from error
        except sqlite3.DatabaseError as error:
            db.close()
            raise StoreUnreadable(f"{self._path}: {error}; {_RESTORE}") from error
        except StoreUnreadable as error:
            db.close()
            raise StoreUnreadable(f"{self._path}: {error}") from error
        if empty:
            logger.error(
                "mapping store was empty file=%s reason=it had 0 bytes; the poller starts without mappings."
                " If there were any, stop it and restore a backup of the file",
                self._path,
            )
        return db

    def _is_empty_file(self) -> bool:
        """Return whether the file is there with 0 bytes, as a crash at the very first start leaves it.

        Raises StoreUnreadable if its write-ahead log still holds changes: SQLite would delete that log.
        """
        wal = self._path.with_name(f"{FILE_NAME}-wal")
        try:
            if not self._path.is_file() or self._path.stat().st_size:
                return False
            changes_left = wal.is_file() and wal.stat().st_size > 0
        except OSError:
            return False  # connecting says why
        if changes_left:
            raise StoreUnreadable(
                f"{self._path}: the file has 0 bytes, and {wal.name} holds changes to what it was;"
                " restore a backup of both files, or move both away to start without mappings"
            )
        return True

    @staticmethod
    def _adopt(db: sqlite3.Connection) -> None:
        """Make the schema in an empty file; reject any file but ours."""
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("BEGIN IMMEDIATE")  # two pollers may start on one new directory
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        tables = int(db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        if found == 0 and tables == 0:
            for statement in _SCHEMA:
                db.execute(statement)
        elif found != SCHEMA_VERSION:
            fix = "start the Tidemill that wrote it" if found > SCHEMA_VERSION else _RESTORE
            raise StoreUnreadable(
                f"schema version {found} is not {SCHEMA_VERSION}, the one this Tidemill knows; {fix}"
            )
        elif (fault := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise StoreUnreadable(f"{' '.join(fault.split())}; {_RESTORE}")
        db.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> abc.Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # after some errors SQLite has rolled back itself
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._unavailable(error, "; nothing was written") from error

    @contextmanager
    def _configuration_change(self) -> abc.Iterator[None]:
        with self._transaction():
            yield
            self._db.execute("UPDATE revision SET number = number + 1")
        self._changed.set()
        self._changed = asyncio.Event()

    def _rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            raise self._unavailable(error) from error
        except sqlite3.DatabaseError as error:
            raise StoreUnreadable(f"{self._path}: {error}; {_RESTORE}") from error

    def _unavailable(self, error: sqlite3.Error, result: str = "") -> StoreUnavailable:
        """Return the error with the file, the result for the caller, and the fix for SQLite's code."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
        fix = f"; {_FIXES[code]}" if code in _FIXES else ""
        return StoreUnavailable(f"{self._path}: {error}{result}{fix}")

    def _mapping(self, row: tuple[Any, ...]) -> Mapping:
        uuid, configuration, *status = row
        try:
            fields = orjson.loads(configuration)
            mapping = _ADAPTER.validate_python(
                {**fields, "uuid": uuid, **dict(zip(_STATUS_COLUMNS, status, strict=True))}
            )
        except (orjson.JSONDecodeError, ValidationError, TypeError) as error:
            raise self._damaged(uuid, error) from error
        if parse_arn(mapping.function_arn) is None:
            raise self._damaged(uuid, f"function_arn {mapping.function_arn!r} is no ARN")
        if not 0 <= mapping.last_modified_ms <= _LAST_MODIFIED_MS_MAX:
            raise self._damaged(uuid, f"last_modified_ms {mapping.last_modified_ms} is no time")
        if "\\" in uuid:  # written by the text factory for what is no UTF-8; no query would find it
            raise self._damaged(uuid, "its UUID is not UTF-8")
        return mapping

    def _damaged(self, uuid: str, why: object) -> StoreUnreadable:
        why = " ".join(str(why).split())
        return StoreUnreadable(
            f"{self._path}: mapping {uuid} cannot be read: {why}; delete the mapping and create it again,"
            " or restore a backup of the file"
        )


def _configuration(mapping: Mapping) -> str:
    return _ADAPTER.dump_json(mapping, exclude={"uuid", *_STATUS_COLUMNS}).decode()
