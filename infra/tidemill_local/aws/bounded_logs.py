"""Bounds what the embedded CloudWatch Logs keeps: moto holds every event in memory, for ever.

The functions write there without end. A stream keeps its last events, a group its last streams; AWS's own
retention is by days, which no memory lasts for.
"""

from typing import Any, Final

EVENTS_MAX: Final = 2000  # of a stream
STREAMS_MAX: Final = 50  # of a group


def bound_logs() -> None:
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
