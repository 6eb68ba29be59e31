"""Both engines' CloudWatch Logs forget their oldest events and streams."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ministack.services import cloudwatch_logs
from moto.logs.models import LogGroup, LogStream

from tidemill_local.aws.bounded_logs import EVENTS_MAX, STREAMS_MAX, bound_ministack_logs, bound_moto_logs

GROUP = "/aws/lambda/talks"


@pytest.fixture
def ministack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("_append_log_events", "_create_log_stream"):  # as they are, at the end
        monkeypatch.setattr(cloudwatch_logs, name, getattr(cloudwatch_logs, name))
    bound_ministack_logs(cloudwatch_logs)
    cloudwatch_logs._create_log_group({"logGroupName": GROUP})
    yield cloudwatch_logs
    cloudwatch_logs._delete_log_group({"logGroupName": GROUP})


def events(count: int) -> list[dict[str, Any]]:
    return [{"timestamp": number, "message": f"line {number}"} for number in range(count)]


def test_ministack_keeps_the_last_events_and_streams(ministack: Any) -> None:
    for number in range(STREAMS_MAX + 2):
        ministack._create_log_stream({"logGroupName": GROUP, "logStreamName": f"s{number}"})
    of = {"logGroupName": GROUP, "logStreamName": "s2"}
    ministack._put_log_events({**of, "logEvents": events(EVENTS_MAX + 500)})
    streams = ministack._log_groups[GROUP]["streams"]
    assert next(iter(streams)) == "s2"
    assert len(streams) == STREAMS_MAX
    kept = [event["message"] for event in streams["s2"]["events"]]
    assert (kept[0], kept[-1], len(kept)) == ("line 500", f"line {EVENTS_MAX + 499}", EVENTS_MAX)
    assert len(ministack._log_records) == EVENTS_MAX


def test_moto_keeps_the_last_events_and_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogStream, "put_log_events", LogStream.put_log_events)
    monkeypatch.setattr(LogGroup, "create_log_stream", LogGroup.create_log_stream)
    bound_moto_logs()
    group: Any = LogGroup("123456789012", "us-east-1", GROUP)  # type: ignore[abstract]  # moto's server does so
    for number in range(STREAMS_MAX + 2):
        group.create_log_stream(f"s{number}")
    group.put_log_events("s2", events(EVENTS_MAX + 500))
    assert next(iter(group.streams)) == "s2"
    assert len(group.streams) == STREAMS_MAX
    assert [len(group.streams["s2"].events), group.streams["s2"].events[0].message] == [
        EVENTS_MAX,
        "line 500",
    ]
