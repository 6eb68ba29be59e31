"""How a delivery's trace travels with its failure record: beside the body, never in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# W3C Trace Context. X-Amzn-Trace-Id stays behind: SQS knows it as a system attribute that only AWS may
# interpret.
_CARRIED: Final = ("traceparent", "tracestate")


def context_out(trace_headers: Mapping[str, str]) -> dict[str, str]:
    """Return the trace context among the headers of a step."""
    return {name: trace_headers[name] for name in _CARRIED if name in trace_headers}


def message_attributes(trace_headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the trace context as MessageAttributes of SQS and SNS."""
    carried = context_out(trace_headers)
    return {name: {"DataType": "String", "StringValue": value} for name, value in carried.items()}
