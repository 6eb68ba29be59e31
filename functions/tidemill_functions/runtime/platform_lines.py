"""Lambda's own lines in a function's log, in the log formats Text and JSON. Pure.

The JSON documents and their levels are those of "Working with Lambda function logs" and of the Telemetry
API's event schema in AWS's documentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from tidemill_functions.code.logging_config import LoggingConfig

_TIMED_OUT: Final = "Sandbox.Timedout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is said at the end of an invocation."""

    request_id: str
    duration_ms: float
    init_ms: float | None  # of a cold start
    memory_mb: int
    peak_mb: int
    error_type: str = ""  # "" if it succeeded

    @property
    def status(self) -> str:
        """Return the Telemetry API's word for how it ended."""
        if not self.error_type:
            return "success"
        if self.error_type == _TIMED_OUT:
            return "timeout"
        return "failure" if self.error_type.startswith("Runtime.") else "error"


class PlatformLines:
    """The lines of one environment; methods return whole lines, or "" where a level leaves them out."""

    def __init__(self, config: LoggingConfig, *, version: str) -> None:
        self._config = config
        self._version = version

    def init_start(self, runtime_version: str) -> str:
        """Return the first line of an environment."""
        if not self._config.is_json:
            return f"INIT_START Runtime Version: {runtime_version}\n"
        record = {"initializationType": "on-demand", "phase": "init", "runtimeVersion": runtime_version}
        return self._json("INFO", "platform.initStart", record)

    def start(self, request_id: str) -> str:
        """Return what stands above an invocation's own lines."""
        if not self._config.is_json:
            return f"START RequestId: {request_id} Version: {self._version}\n"
        return self._json("INFO", "platform.start", {"requestId": request_id, "version": self._version})

    def error(self, text: str) -> str:
        """Return what Lambda says of an end that no handler tells; in JSON the report says it."""
        return "" if self._config.is_json else text

    def end(self, report: Report) -> str:
        """Return what stands below an invocation's own lines."""
        return self._json_end(report) if self._config.is_json else _text_end(report)

    def _json_end(self, report: Report) -> str:
        metrics: dict[str, Any] = {
            "durationMs": round(report.duration_ms, 3),
            "billedDurationMs": math.ceil(report.duration_ms),
            "memorySizeMB": report.memory_mb,
            "maxMemoryUsedMB": report.peak_mb,
        }
        if report.init_ms is not None:
            metrics["initDurationMs"] = round(report.init_ms, 3)
        how = {"status": report.status} | ({"errorType": report.error_type} if report.error_type else {})
        done = {
            "requestId": report.request_id,
            "metrics": {"durationMs": metrics["durationMs"]},
            **how,
        }
        is_failure = bool(report.error_type)
        return self._json("WARN" if is_failure else "DEBUG", "platform.runtimeDone", done) + self._json(
            "WARN" if is_failure else "INFO",
            "platform.report",
            {"requestId": report.request_id, "metrics": metrics, **how},
        )

    def _json(self, level: str, kind: str, record: dict[str, Any]) -> str:
        if not self._config.takes(level):
            return ""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return orjson.dumps({"time": time, "type": kind, "record": record}).decode() + "\n"


def _text_end(report: Report) -> str:
    init = "" if report.init_ms is None else f"Init Duration: {report.init_ms:.2f} ms\t"
    return (
        f"END RequestId: {report.request_id}\n"
        f"REPORT RequestId: {report.request_id}\tDuration: {report.duration_ms:.2f} ms\t"
        f"Billed Duration: {math.ceil(report.duration_ms)} ms\tMemory Size: {report.memory_mb} MB\t"
        f"Max Memory Used: {report.peak_mb} MB\t{init}\n"
    )


def error_type(document: bytes) -> str:
    """Return the errorType of an error document; "Unhandled" where it has none."""
    try:
        found = orjson.loads(document).get("errorType")
    except (orjson.JSONDecodeError, AttributeError):
        found = None
    return found if isinstance(found, str) and found else "Unhandled"
