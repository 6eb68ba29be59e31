"""Access whose secrets can be used, for tests about anything else."""

from __future__ import annotations

from tidemill_poller.mapping import Mapping


async def secrets_are_fine(mapping: Mapping) -> None:
    """`check_access` of the control API."""
