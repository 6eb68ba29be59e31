"""Bounds what the embedded CloudWatch Logs keeps: both engines hold every event in memory, for ever.

The functions write there without end. A stream keeps its last events, a group its last streams; AWS's own
retention is by days, which no memory lasts for.
"""

from typing import Any, Final

EVENTS_MAX: Final = 2000  # of a stream
STREAMS_MAX: Final = 50  # of a group


def bound_ministack_logs(logs: Any) -> None:
    """Let ministack's streams and groups forget their oldest; `logs` is its module of CloudWatch Logs."""
    append, create = logs._append_log_events, logs._create_log_stream  # noqa: SLF001 - it has no setting for it

    def bounded_append(stream: dict[str, Any], events: list[dict[str, Any]]) -> None:
        append(stream, events)
        for event in stream["events"][:-EVENTS_MAX]:
            logs._log_records.pop(event["eventId"], None)  # noqa: SLF001 - the same
        del stream["events"][:-EVENTS_MAX]

    def bounded_create(data: dict[str, Any]) -> Any:
        reply = create(data)
        group = data.get("logGroupName")
        streams = logs._log_groups[group]["streams"] if group in logs._log_groups else {}  # noqa: SLF001 - the same
        while len(streams) > STREAMS_MAX:
            oldest = next(iter(streams))
            logs._forget_log_records_for_stream(group, oldest)  # noqa: SLF001 - the same
            del streams[oldest]
        return reply

    logs._append_log_events = bounded_append  # noqa: SLF001 - the same
    logs._create_log_stream = bounded_create  # noqa: SLF001 - the same


def bound_moto_logs() -> None:
    """Let moto's streams and groups forget their oldest."""
    from moto.logs.models import LogGroup, LogStream  # noqa: PLC0415 - moto, after its account is set

    put, create = LogStream.put_log_events, LogGroup.create_log_stream

    def bounded_put(self: Any, log_events: list[dict[str, Any]]) -> Any:
        reply = put(self, log_events)
        del self.events[:-EVENTS_MAX]
        return reply

    def bounded_create(self: Any, log_stream_name: str) -> None:
        create(self, log_stream_name)
        while len(self.streams) > STREAMS_MAX:
            del self.streams[next(iter(self.streams))]

    LogStream.put_log_events = bounded_put  # type: ignore[method-assign]  # moto has no setting for it
    LogGroup.create_log_stream = bounded_create  # type: ignore[method-assign]  # the same
