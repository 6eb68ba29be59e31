"""The broker's ACLs on disk: one JSON file, written whole, flushed and renamed before a change is answered.

The one owner of the index in memory. `apis.acls` changes it, `authorizer` reads it. Called on the event loop;
a change of many takes its turns before it changes anything, and then changes all at once.

See docs/decisions/0940.
"""

import json
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from tidemill_broker.auth.acl.rules import Acl, AclRules, PatternType, Permission
from tidemill_broker.auth.authorizer import Operation, ResourceType
from tidemill_broker.durable_files import write_durably
from tidemill_broker.errors import BrokerError

# Kafka has no limit; these keep whoever may create ACLs from filling the broker's memory with them, and
# writing or listing them all from keeping everybody else waiting for more than a moment.
ACLS_MAX: Final = 20_000
CHARACTERS_MAX: Final = 8 * 1024 * 1024  # of names, principals and hosts, in all
_FORMAT: Final = 1


class TooManyAcls(BrokerError):
    """The broker would have to keep more ACLs than it can."""


class AclStore:
    """All ACLs. `version` grows with each change; `rules` is to be read only."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one; raises ValueError if it is damaged: no right is to be forgotten."""
        self._file = file
        self.rules = AclRules(_read(file))
        # As they stand in the file: a change of one does not spell all of them again.
        self._rows = {acl: _row(acl) for acl in self.rules}
        self._characters = sum(map(_characters, self.rules))
        self.version = 0

    def all(self) -> list[Acl]:
        """Every ACL, oldest first."""
        return list(self.rules)

    def add(self, acls: Iterable[Acl]) -> None:
        """Do all of `add_in_turns` at once."""
        for _ in self.add_in_turns(acls):
            pass

    def add_in_turns(self, acls: Iterable[Acl]) -> Generator[None, None, None]:
        """Add those that are not there yet, durably. Raises TooManyAcls or OSError, and then adds none."""
        rows = {}
        for acl in acls:
            rows[acl] = _row(acl)
            yield
        new = {acl: row for acl, row in rows.items() if acl not in self._rows}
        if not new:
            return
        characters = self._characters + sum(map(_characters, new))
        if len(self.rules) + len(new) > ACLS_MAX or characters > CHARACTERS_MAX:
            raise TooManyAcls(
                f"The broker keeps at most {ACLS_MAX} ACLs with {CHARACTERS_MAX} characters in all:"
                " delete some, or use prefixed patterns."
            )
        self._write(self._rows | new)
        for acl in new:
            self.rules.add(acl)
        self._characters = characters

    def delete(self, acls: Iterable[Acl]) -> None:
        """Do all of `delete_in_turns` at once."""
        for _ in self.delete_in_turns(acls):
            pass

    def delete_in_turns(self, acls: Iterable[Acl]) -> Generator[None, None, None]:
        """Delete those that are there, durably. Raises OSError, and then deletes none."""
        asked = set()
        for acl in acls:
            asked.add(acl)
            yield
        old = asked & self._rows.keys()
        if not old:
            return
        left = dict(self._rows)
        for acl in old:
            del left[acl]
        self._write(left)
        for acl in old:
            self.rules.remove(acl)
        self._characters -= sum(map(_characters, old))

    def _write(self, rows: dict[Acl, bytes]) -> None:
        write_durably(self._file, b'{"version":%d,"acls":[%b]}' % (_FORMAT, b",".join(rows.values())))
        self._rows = rows
        self.version += 1


def _characters(acl: Acl) -> int:
    return len(acl.name) + len(acl.principal) + len(acl.host)


def _read(file: Path) -> list[Acl]:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    try:
        return _acls(json.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file.name} is damaged: {type(error).__name__}: {error}") from error


def _acls(document: Any) -> list[Acl]:
    if document["version"] != _FORMAT:
        raise ValueError(f"version {document['version']!r} is not {_FORMAT}")
    return [_acl(row) for row in document["acls"]]


def _acl(row: Mapping[str, Any]) -> Acl:
    texts = [row[member] for member in ("name", "principal", "host")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"name, principal and host must be strings, not {texts}")
    return Acl(
        resource_type=ResourceType[row["resourceType"]],
        pattern_type=PatternType[row["patternType"]],
        name=row["name"],
        principal=row["principal"],
        host=row["host"],
        operation=Operation[row["operation"]],
        permission=Permission[row["permission"]],
    )


def _row(acl: Acl) -> bytes:
    return orjson.dumps(
        {
            "resourceType": acl.resource_type.name,
            "patternType": acl.pattern_type.name,
            "name": acl.name,
            "principal": acl.principal,
            "host": acl.host,
            "operation": acl.operation.name,
            "permission": acl.permission.name,
        }
    )
