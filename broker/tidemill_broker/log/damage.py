"""Logs what opening or repairing a partition found damaged: the file, the place in it, what is lost, the fix.

The core finds the damage and sets it aside; here it becomes lines of the log, and nothing is changed.

See docs/decisions/0105.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from tidemill_broker._core import PartitionLog

# File, position, bytes, first offset lost, offset behind the last, what the file is kept as: see _core.pyi.
Damage = tuple[Path, int, int, int, int, Path | None]

logger = logging.getLogger(__name__)


def report_recovery(folder: str, log: PartitionLog) -> None:
    """Log what opening a partition took: a torn tail is no damage, a kill leaves it."""
    scanned, cut, damage = log.recovery
    if cut:
        logger.warning("cut a torn tail partition=%s cut_bytes=%d scanned_bytes=%d", folder, cut, scanned)
    report_damage(damage)


def report_damage(damage: Iterable[Damage]) -> None:
    """Log each damaged place of a partition at ERROR."""
    for file, position, size_bytes, start, end, kept in damage:
        folder = file.parent.name
        offsets = f"{start}-{end - 1}" if end > start else "unknown"
        if kept is None:
            logger.error(
                "lost records partition=%s offsets=%s: %s ends at position %d, before the next segment"
                " begins, or is missing; restore the folder from a backup, or have the records produced"
                " again",
                folder,
                offsets,
                file,
                position,
            )
            continue
        logger.error(
            "lost records partition=%s offsets=%s: %s was damaged at position %d, %d bytes; the file as it"
            " was is kept as %s, and all other records are served; restore the folder from a backup,"
            " or have the records produced again",
            folder,
            offsets,
            file,
            position,
            size_bytes,
            kept.name,
        )
