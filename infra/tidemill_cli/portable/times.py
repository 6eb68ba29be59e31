"""Owns how a time is written in commands and templates. Pure."""

from datetime import UTC, datetime
from typing import Any


def iso_time(value: Any) -> str:
    """Return a time as ISO 8601 in UTC, and any other value as text."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def epoch_seconds(moment: datetime) -> int | float:
    """Return a time as templates want it: seconds since 1970, whole ones as a whole number."""
    seconds = moment.timestamp()
    return int(seconds) if seconds.is_integer() else seconds
