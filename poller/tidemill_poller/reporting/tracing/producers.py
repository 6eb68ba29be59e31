"""Trace contexts that producers left in record headers, each distinct trace once. Pure.

Reads W3C traceparent, B3's single header and X-Amzn-Trace-Id. A batch may hold 10,000 records: this looks at
each header once and keeps a bounded number of contexts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# OpenTelemetry's own default for links of one span: more would be dropped without a word.
LINKS_MAX: Final = 128

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_B3: Final = re.compile(rb"([0-9a-f]{32}|[0-9a-f]{16})-([0-9a-f]{16})(?:-([01d]))?(?:-[0-9a-f]{16})?")
_XRAY_ROOT: Final = re.compile(rb"Root=1-([0-9a-f]{8})-([0-9a-f]{24})")
_XRAY_PARENT: Final = re.compile(rb"Parent=([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class ProducerContext:
    """One span of a producer: the trace id and span id as numbers, never 0."""

    trace_id: int
    span_id: int


def producer_contexts(
    headers: Iterable[Sequence[tuple[str, bytes]]],
) -> tuple[tuple[ProducerContext, ...], int]:
    """(the first LINKS_MAX distinct traces in record order, how many further ones there were)."""
    found: dict[int, ProducerContext] = {}
    for of_record in headers:
        for name, value in of_record:
            context = _read(name, value)
            if context is not None and context.trace_id not in found:
                found[context.trace_id] = context
    kept = tuple(found.values())[:LINKS_MAX]
    return kept, len(found) - len(kept)


def _read(name: str, value: bytes | None) -> ProducerContext | None:
    # Kafka allows null header values, and anybody may write anything: what is no context is passed over.
    if value is None:
        return None
    if name == "traceparent":
        match = _TRACEPARENT.fullmatch(value)
    elif name == "b3":
        match = _B3.fullmatch(value)
    elif name.lower() == "x-amzn-trace-id":
        return _xray(value)
    else:
        return None
    return _context(match[1], match[2]) if match else None


def _xray(value: bytes) -> ProducerContext | None:
    root, parent = _XRAY_ROOT.search(value), _XRAY_PARENT.search(value)
    return _context(root[1] + root[2], parent[1]) if root and parent else None


def _context(trace_id: bytes, span_id: bytes) -> ProducerContext | None:
    context = ProducerContext(int(trace_id, 16), int(span_id, 16))
    return context if context.trace_id and context.span_id else None
