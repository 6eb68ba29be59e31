"""The folders of partitions: named and labelled as Kafka does, deleted in the background.

What may hold records of a topic that exists is never deleted: where the label is damaged, the folder is
kept or set aside. Knows nothing of what is in the segments.

See docs/decisions/0105.
"""

import logging
import re
import shutil
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from tidemill_broker.durable_files import write_durably, write_new

logger = logging.getLogger(__name__)

_LABEL: Final = re.compile(r"version: 0\ntopic_id: (?P<topic_id>[A-Za-z0-9_-]{22})\n")


class Folders:
    """The partitions' folders below the log's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._removal = ThreadPoolExecutor(1, thread_name_prefix="removal")

    def of(self, name: str, index: int) -> Path:
        """Return a partition's folder, whether it exists or not."""
        return self.directory / f"{name}-{index}"

    def claim(self, folder: Path, topic_id: UUID, *, new: bool) -> bool:
        """Make the folder unless it is there, and return whether it had to be made.

        What another topic of the name left is cleared where a topic is ``new``, else set aside.
        """
        label = f"version: 0\ntopic_id: {base64_of(topic_id)}\n"
        file = folder / "partition.metadata"
        if folder.exists():
            found = file.read_bytes().decode(errors="replace") if file.exists() else ""
            if found == label:
                return False
            if new or not _has_records(folder):
                # A crash between these two writes leaves an empty folder without the file.
                self.discard(folder)
            elif _LABEL.fullmatch(found):
                self._set_aside(folder, found)
            else:
                logger.error("%s is damaged and was written anew; the records are served", file)
                write_durably(file, label.encode(), mode=0o644)
                return False
        folder.mkdir()
        write_new(file, label)
        return True

    def discard(self, folder: Path) -> None:
        """Take a folder out of the way at once and delete it in the background."""
        # Without the topic's name, which alone may be as long as a file's name.
        doomed = folder.with_name(f"{uuid4().hex}-delete")
        folder.rename(doomed)
        self._removal.submit(shutil.rmtree, doomed, ignore_errors=True)

    def clear_discarded(self) -> None:
        """Delete what an earlier process left to delete."""
        for folder in self.directory.glob("*-delete"):
            self._removal.submit(shutil.rmtree, folder, ignore_errors=True)

    def close(self) -> None:
        """Wait for what is being deleted."""
        self._removal.shutdown()

    def _set_aside(self, folder: Path, found: str) -> None:
        kept = folder.with_name(f"{uuid4().hex}.damaged")
        folder.rename(kept)
        logger.error(
            "%s belongs to another topic of that name, or its partition.metadata is damaged (%s); it is kept"
            " as %s and an empty one is used; if its records are of this topic, stop the broker, remove the"
            " empty folder, rename this one back and remove its partition.metadata",
            folder,
            " ".join(found.split()),
            kept.name,
        )


def _has_records(folder: Path) -> bool:
    return any(file.stat().st_size for file in folder.glob("*.log"))


def base64_of(topic_id: UUID) -> str:
    """Return an id as Kafka spells it."""
    return urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()
