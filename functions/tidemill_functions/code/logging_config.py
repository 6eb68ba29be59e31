"""A function's LoggingConfig: Lambda's defaults, checks and levels. Pure.

Lambda filters logs by level in the JSON format only ("Configuring advanced logging controls").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidemill_functions.errors import InvalidFunction

JSON: Final = "JSON"
TEXT: Final = "Text"
_SYSTEM_LEVELS: Final = ("DEBUG", "INFO", "WARN")
_LEVELS: Final = ("ApplicationLogLevel", "SystemLogLevel")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    """How a function logs."""

    log_group: str
    log_format: str = TEXT
    application_level: str = "INFO"
    system_level: str = "INFO"

    @property
    def is_json(self) -> bool:
        """Return whether lines are JSON documents."""
        return self.log_format == JSON

    def takes(self, level: str) -> bool:
        """Return whether a platform event of this level is logged."""
        return _SYSTEM_LEVELS.index(level) >= _SYSTEM_LEVELS.index(self.system_level)

    def described(self) -> dict[str, str]:
        """Return Lambda's members."""
        levels = {"ApplicationLogLevel": self.application_level, "SystemLogLevel": self.system_level}
        return {
            "LogFormat": self.log_format,
            **(levels if self.is_json else {}),
            "LogGroup": self.log_group,
        }

    def variables(self) -> dict[str, str]:
        """Return what Lambda tells a runtime's client of the format, by its environment."""
        if not self.is_json:
            return {}
        return {"AWS_LAMBDA_LOG_FORMAT": JSON, "AWS_LAMBDA_LOG_LEVEL": self.application_level}


def logging_config(name: str, members: Mapping[str, Any] | None) -> LoggingConfig:
    """Return the configuration of the function of this name, with Lambda's defaults."""
    given = members or {}
    return LoggingConfig(
        log_group=given.get("LogGroup") or f"/aws/lambda/{name}",
        log_format=given.get("LogFormat", TEXT),
        application_level=given.get("ApplicationLogLevel", "INFO"),
        system_level=given.get("SystemLogLevel", "INFO"),
    )


def changed(former: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members after a change; what is not given stays. Raises InvalidFunction."""
    found = {**former, **given}
    if found.get("LogFormat", TEXT) == JSON:
        return found
    if levels := [level for level in _LEVELS if level in given]:
        raise InvalidFunction(f"{levels[0]} applies to the log format JSON only: set LogFormat to JSON.")
    return {member: value for member, value in found.items() if member not in _LEVELS}
