"""The result of one event is told or kept aside: whatever comes of telling it, the server goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tidemill_functions.aws import AwsClients
from tidemill_functions.code.registry import Registry
from tidemill_functions.destinations.record import SUCCESS, Outcome, Target
from tidemill_functions.destinations.sender import Sender
from tidemill_functions.runtime.event_results import EventResults
from tidemill_functions.runtime.event_store import Event, EventStore

REGION, ACCOUNT = "us-east-1", "123456789012"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:next"


def test_a_result_that_cannot_be_told_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_arn: str, _event: Event, _payload: bytes) -> None:
        raise TypeError("not foreseen")

    registry = Registry(tmp_path, region=REGION, account_id=ACCOUNT)
    results = EventResults(registry, EventStore(tmp_path / "events"), Sender(AwsClients(REGION)), fail)
    outcome = Outcome(condition=SUCCESS, invoke_count=1, ended_ms=0)
    target = Target(kind="destination", arn=ARN)
    event = Event(
        key="f",
        qualifier="",
        arn=ARN,
        request_id="r",
        trace_id="t",
        payload=b"{}",
        outcome=outcome,
        targets=[target],
    )
    assert asyncio.run(results.deliver(event)) is False
    assert "event result not sendable request_id=r function=f" in caplog.text
