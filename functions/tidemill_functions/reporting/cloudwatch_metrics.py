"""Publishes a function's metrics under CloudWatch's names, once a minute, to the AWS in use.

On only where a setting names the namespace: CloudWatch itself reserves AWS/Lambda for Lambda. What cannot be
sent is dropped, which the log says once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tidemill_functions.aws import AwsClients
from tidemill_functions.errors import AwsUnavailable
from tidemill_functions.reporting.reporter import InvocationEnd

logger = logging.getLogger(__name__)

_PERIOD_S: Final = 60.0
_DATA_MAX: Final = 1000  # of a PutMetricData request


@dataclass(slots=True)
class _Minute:
    """What happened to one function in a minute."""

    errors: int = 0
    throttles: int = 0
    concurrent: int = 0
    durations_ms: list[float] = field(
        default_factory=lambda: [0, 0.0, float("inf"), 0.0]
    )  # count, sum, min, max

    def add(self, duration_ms: float) -> None:
        count, total, least, most = self.durations_ms
        self.durations_ms = [count + 1, total + duration_ms, min(least, duration_ms), max(most, duration_ms)]

    def data(self, function: str, time: datetime) -> list[dict[str, Any]]:
        count, total, least, most = self.durations_ms
        common = {"Dimensions": [{"Name": "FunctionName", "Value": function}], "Timestamp": time}
        found = [
            {"MetricName": "Invocations", "Value": float(count), "Unit": "Count"},
            {"MetricName": "Errors", "Value": float(self.errors), "Unit": "Count"},
            {"MetricName": "Throttles", "Value": float(self.throttles), "Unit": "Count"},
            {"MetricName": "ConcurrentExecutions", "Value": float(self.concurrent), "Unit": "Count"},
        ]
        if count:
            values = {"SampleCount": count, "Sum": total, "Minimum": least, "Maximum": most}
            found.append({"MetricName": "Duration", "StatisticValues": values, "Unit": "Milliseconds"})
        return [common | one for one in found]


class CloudWatchMetrics:
    """The minute that runs; it lives inside `async with publishing(metrics)`."""

    def __init__(self, clients: AwsClients, namespace: str) -> None:
        self._clients = clients
        self._namespace = namespace
        self._minute: dict[str, _Minute] = {}
        self._is_away = False

    def began(self, function: str, concurrent: int) -> None:
        """See Listener."""
        minute = self._of(function)
        minute.concurrent = max(minute.concurrent, concurrent)

    def throttled(self, function: str) -> None:
        """See Listener."""
        self._of(function).throttles += 1

    def ended(self, end: InvocationEnd) -> None:
        """See Listener."""
        minute = self._of(end.function)
        minute.add(end.duration_ms)
        if end.error_type:
            minute.errors += 1

    def _of(self, function: str) -> _Minute:
        found = self._minute.get(function)
        if found is None:
            found = self._minute[function] = _Minute()
        return found

    async def publish(self) -> None:
        """Send the minute and begin another."""
        minute, self._minute = self._minute, {}
        now = datetime.now(UTC)
        data = [datum for function, one in minute.items() for datum in one.data(function, now)]
        try:
            for begin in range(0, len(data), _DATA_MAX):
                await asyncio.to_thread(
                    self._clients.call,
                    "cloudwatch",
                    "put_metric_data",
                    Namespace=self._namespace,
                    MetricData=data[begin : begin + _DATA_MAX],
                )
            self._is_away = False
        except AwsUnavailable as error:
            if not self._is_away:
                logger.warning("cloudwatch takes no metrics namespace=%s reason=%s", self._namespace, error)
            self._is_away = True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.publish()


@contextlib.asynccontextmanager
async def publishing(metrics: CloudWatchMetrics) -> AsyncIterator[None]:
    """Publish each minute, and what is left at the end."""
    async with asyncio.TaskGroup() as tasks:
        minutes = tasks.create_task(metrics._run(), name="cloudwatch metrics")  # noqa: SLF001 - its own other half
        try:
            yield
        finally:
            minutes.cancel()
            await metrics.publish()
