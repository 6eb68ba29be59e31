"""The last deliveries, in memory: what the console, `tidemill mapping watch` and the demo show.

A span processor of the OpenTelemetry SDK that keeps whole trees, bounded in number and in bytes. Trees with a
retry or a loss outlive clean ones, because nobody looks for what went well. Lives on the event loop's thread.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import format_span_id, format_trace_id

BYTES_MAX: Final = 32 * 1024 * 1024
MAPPING_ID: Final = "aws.lambda.resource_mapping.id"

# What of a root's attributes makes its tree worth keeping.
_TROUBLE: Final = ("esm.retried", "esm.dropped", "esm.sent_to_destination", "esm.interrupted")
# A quarter of the room is for clean trees, so that a healthy mapping is seen to be alive.
_CLEAN_SHARE: Final = 4


class RecentDeliveries(SpanProcessor):
    """Delivery trees by mapping, running ones included. `count_max` counts the ended ones of all mappings."""

    def __init__(self, count_max: int, *, bytes_max: int = BYTES_MAX) -> None:
        self._clean_max = max(1, count_max // _CLEAN_SHARE)
        self._troubled_max = max(1, count_max - self._clean_max)
        self._bytes_max = bytes_max
        self._bytes = 0
        self._open: dict[int, _Tree] = {}
        self._clean: OrderedDict[int, _Tree] = OrderedDict()
        self._troubled: OrderedDict[int, _Tree] = OrderedDict()

    def deliveries(self, mapping_uuid: str) -> list[dict[str, Any]]:
        """Trees of one mapping as JSON values, newest first.

        Each is `{"trace_id", "running": bool, "spans": [...]}`; spans are in the order they were opened, root
        first, with `name, kind, span_id, parent_id, start_ns, end_ns (null while open), status,
        status_message, attributes, events [{name, time_ns, attributes}] and links [{trace_id, span_id,
        attributes}]`.
        """
        shelves = (self._open, self._clean, self._troubled)
        trees = [tree for shelf in shelves for tree in shelf.values() if tree.mapping_uuid == mapping_uuid]
        trees.sort(key=lambda tree: tree.spans[0].start_time or 0, reverse=True)
        return [tree.as_json() for tree in trees]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK passes it by name
        """Take a span in when it is opened: a batch that retries for an hour is what one wants to see."""
        trace_id = span.context.trace_id
        tree = self._tree(trace_id)
        if tree is None:
            mapping_uuid = (span.attributes or {}).get(MAPPING_ID)
            if span.parent is not None or mapping_uuid is None:
                return  # a poll, or a late child of a tree that was let go
            tree = self._open[trace_id] = _Tree(str(mapping_uuid))
        size = _size_estimate(span)
        tree.spans.append(span)
        tree.bytes += size
        self._bytes += size

    def on_end(self, span: ReadableSpan) -> None:
        """Move a tree whose root has ended to where it may be evicted from."""
        if span.parent is not None or span.context is None:
            return
        tree = self._open.pop(span.context.trace_id, None)
        if tree is None:
            return
        troubled = any((span.attributes or {}).get(name) for name in _TROUBLE)
        (self._troubled if troubled else self._clean)[span.context.trace_id] = tree
        self._evict()

    def _tree(self, trace_id: int) -> _Tree | None:
        return self._open.get(trace_id) or self._troubled.get(trace_id) or self._clean.get(trace_id)

    def _evict(self) -> None:
        while len(self._clean) > self._clean_max or (self._bytes > self._bytes_max and self._clean):
            self._bytes -= self._clean.popitem(last=False)[1].bytes
        while len(self._troubled) > self._troubled_max or (self._bytes > self._bytes_max and self._troubled):
            self._bytes -= self._troubled.popitem(last=False)[1].bytes


class _Tree:
    __slots__ = ("bytes", "mapping_uuid", "spans")

    def __init__(self, mapping_uuid: str) -> None:
        self.mapping_uuid = mapping_uuid
        self.spans: list[Span] = []
        self.bytes = 0

    def as_json(self) -> dict[str, Any]:
        root = self.spans[0]
        return {
            "trace_id": format_trace_id(root.context.trace_id),
            "running": root.end_time is None,
            "spans": [span_json(span) for span in self.spans],
        }


def span_json(span: ReadableSpan) -> dict[str, Any]:
    """One span as a JSON value; the shape is RecentDeliveries.deliveries'."""
    assert span.context is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "span_id": format_span_id(span.context.span_id),
        "parent_id": format_span_id(span.parent.span_id) if span.parent else None,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": span.status.status_code.name,
        "status_message": span.status.description,
        "attributes": dict(span.attributes or {}),
        "events": [
            {"name": event.name, "time_ns": event.timestamp, "attributes": dict(event.attributes or {})}
            for event in span.events
        ],
        "links": [
            {
                "trace_id": format_trace_id(link.context.trace_id),
                "span_id": format_span_id(link.context.span_id),
                "attributes": dict(link.attributes or {}),
            }
            for link in span.links
        ],
    }


def _size_estimate(span: Span) -> int:
    # What CPython needs for a span of the SDK, its attributes and links, measured once and rounded up.
    return 2048 + 256 * len(span.attributes or ()) + 512 * len(span.links)
