"""Owns what hangs on a function and changes without starting it anew: tags, policy, concurrency, aliases.

One JSON file a function beside the registry's, replaced atomically. Knows nothing of code and processes.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from tidemill_functions.code.documents import remove_document, remove_drafts, write_document

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What hangs on one function; qualifiers are versions' and aliases' names, "" for none."""

    tags: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    statements: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # by qualifier
    event_invoke: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by qualifier
    aliases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Lambda's members, by name
    versions: int = 0  # the number of the last version, which is never given again


_NOTHING: Final = Attached()


def _attached(document: Any) -> Attached:
    """Return what a document says. Raises TypeError if it is damaged."""
    attached = Attached(**document)
    for member in dataclasses.fields(attached):
        value = getattr(attached, member.name)
        kind = int if member.name in ("versions", "reserved_concurrency") else dict
        if not isinstance(value, kind) and value != getattr(_NOTHING, member.name):
            raise TypeError(f"{member.name} must be {kind.__name__}")
    return attached


class AttachedStore:
    """All functions' attachments. All methods belong to one event loop and block for one small file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        remove_drafts(folder)
        self._attached: dict[str, Attached] = {}
        for document in sorted(folder.glob("*.json")):
            try:
                self._attached[document.stem] = _attached(orjson.loads(document.read_bytes()))
            except (OSError, ValueError, TypeError) as error:
                logger.error(  # noqa: TRY400 - the sentence says it all
                    "attachments not loaded file=%s reason=%s; tags, policy, aliases and concurrency of the"
                    " function are as new: restore a backup of the file, or remove it and set them again",
                    document,
                    error,
                )

    def get(self, name: str) -> Attached:
        """Return what hangs on the function of this name."""
        return self._attached.get(name, _NOTHING)

    def names(self) -> set[str]:
        """Return the names of the functions on which something hangs."""
        return set(self._attached)

    def put(self, name: str, **changes: Any) -> Attached:
        """Change these fields of `Attached`."""
        changed = dataclasses.replace(self.get(name), **changes)
        write_document(self._folder / f"{name}.json", dataclasses.asdict(changed))
        self._attached[name] = changed
        return changed

    def remove(self, name: str) -> None:
        """Forget a function that is deleted."""
        if self._attached.pop(name, None) is not None:
            remove_document(self._folder / f"{name}.json")
