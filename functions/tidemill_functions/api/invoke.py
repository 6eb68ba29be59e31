"""Serves Lambda's Invoke: one request in, one invocation, one reply in Lambda's shape.

Owns the request's limits and errors; how a handler runs is the pool's. Registered with tidemill_awsapi by
`__main__`. This is the hot path: no task and no thread per call.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tidemill_awsapi import ApiError, Call
from tidemill_functions.api.lookup import find_function, invoked_arn, qualifier_of
from tidemill_functions.code.registry import Function, Registry
from tidemill_functions.errors import FunctionNotFound, ReservedConcurrencyReached, TooManyInvocations
from tidemill_functions.runtime.environment import Invocation
from tidemill_functions.runtime.event_queue import EventQueue
from tidemill_functions.runtime.event_store import Event
from tidemill_functions.runtime.pool import Pool

# Lambda's quotas for a request: 6 MB synchronous, 1 MB (since October 2025) asynchronous.
REQUEST_BYTES_MAX: Final = 6_291_456
EVENT_BYTES_MAX: Final = 1_048_576
_ALWAYS_CHECKED_BYTES: Final = 1_048_576
# A full batch of 10,000 records has some 120,000.
_VALUES_MAX: Final = 500_000


class InvokeApi:
    """The Invoke operation."""

    def __init__(self, registry: Registry, pool: Pool, events: EventQueue) -> None:
        self._registry = registry
        self._pool = pool
        self._events = events

    async def invoke(self, call: Call) -> Mapping[str, Any]:
        """RequestResponse, Event or DryRun."""
        params = call.params
        function = find_function(self._registry, params["FunctionName"], params.get("Qualifier"))
        kind = params.get("InvocationType", "RequestResponse")
        _refuse_unbuilt(params)
        payload = _checked_payload(params.get("Payload") or b"{}", kind)
        if kind == "DryRun":
            return {"StatusCode": 204}
        trace_id = accepted_trace_id(call.headers.get("X-Amzn-Trace-Id"))
        try:
            if kind == "Event":
                await self._accept(function, payload, trace_id, call)
                return {"StatusCode": 202}
            return await self._run(function, payload, trace_id, call)
        except ReservedConcurrencyReached:
            self._pool.reporter.throttled(function.name)
            raise ApiError(
                "TooManyRequestsException",
                "Rate Exceeded.",
                Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
            ) from None
        except TooManyInvocations:
            self._pool.reporter.throttled(function.name)
            raise ApiError(
                "TooManyRequestsException", "Rate Exceeded.", Reason="ConcurrentInvocationLimitExceeded"
            ) from None
        except FunctionNotFound as error:
            raise ApiError("ResourceNotFoundException", f"Function not found: {error}") from None

    async def invoke_async(self, call: Call) -> Mapping[str, Any]:
        """InvokeAsync, the deprecated form of Invoke for events."""
        params = {
            "FunctionName": call.params["FunctionName"],
            "Payload": call.params["InvokeArgs"],
            "InvocationType": "Event",
        }
        reply = await self.invoke(dataclasses.replace(call, params=params))
        return {"Status": reply["StatusCode"]}

    async def _accept(self, function: Function, payload: bytes, trace_id: str, call: Call) -> None:
        event = Event(
            key=function.key,
            qualifier=qualifier_of(*_named(call)) or "",
            arn=invoked_arn(self._registry, function, *_named(call)),
            request_id=call.request_id,
            trace_id=trace_id,
            caller_trace=call.headers.get("X-Amzn-Trace-Id", ""),
            payload=payload,
        )
        try:
            await self._events.put(event)
        except OSError as error:
            raise ApiError(
                "ServiceException",
                f"The event could not be kept: {error.strerror}; free space and invoke again.",
            ) from None

    async def _run(self, function: Function, payload: bytes, trace_id: str, call: Call) -> Mapping[str, Any]:
        wants_log = call.params.get("LogType") == "Tail"
        invocation = Invocation(
            payload=payload,
            arn=invoked_arn(self._registry, function, *_named(call)),
            request_id=call.request_id,
            trace_id=trace_id,
            caller_trace=call.headers.get("X-Amzn-Trace-Id", ""),
            client_context=_client_context(call.params.get("ClientContext")),
            wants_log=wants_log,
        )
        result = await self._pool.invoke(function, invocation)
        return {
            "StatusCode": 200,
            "Payload": result.payload,
            "ExecutedVersion": function.version,
            # Lambda says Unhandled for every error of a managed runtime, raised or not.
            "FunctionError": "Unhandled" if result.failed else None,
            "LogResult": base64.b64encode(result.log_tail).decode() if wants_log else None,
        }


def _named(call: Call) -> tuple[str, str | None]:
    return call.params["FunctionName"], call.params.get("Qualifier")


def _refuse_unbuilt(params: Mapping[str, Any]) -> None:
    for member in ("TenantId", "DurableExecutionName"):
        if member in params:
            raise ApiError(
                "InvalidParameterValueException", f"{member} is not built in Tidemill: invoke without it."
            )


def _checked_payload(payload: bytes, kind: str) -> bytes:
    limit = EVENT_BYTES_MAX if kind == "Event" else REQUEST_BYTES_MAX
    if len(payload) > limit:
        raise ApiError(
            "RequestTooLargeException",
            f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
        )
    try:
        check_json(payload)
    except orjson.JSONDecodeError as error:
        raise ApiError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from None
    return payload


def check_json(payload: bytes) -> None:
    """Check that a payload is JSON; one of very many values is left to the function, which reads it anyway.

    Reading it here would hold up every other invocation. Raises JSONDecodeError.
    """
    if len(payload) <= _ALWAYS_CHECKED_BYTES or sum(map(payload.count, (b",", b"[", b"{"))) <= _VALUES_MAX:
        orjson.loads(payload)


def _client_context(header: str | None) -> bytes:
    """Return the client context as one line of JSON."""
    if header is None:
        return b""
    try:
        return orjson.dumps(orjson.loads(base64.b64decode(header, validate=True)))
    except (binascii.Error, orjson.JSONDecodeError):
        raise ApiError(
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
        ) from None


def accepted_trace_id(header: str | None) -> str:
    """Return the caller's trace header, or a new one: only printable ASCII can be passed on as a header."""
    return header if header and header.isascii() and header.isprintable() else new_trace_id()


def new_trace_id() -> str:
    """Return a trace header as Lambda makes one for a call that brings none; nobody samples it."""
    number = f"{random.getrandbits(160):040x}"
    return f"Root=1-{int(time.time()):08x}-{number[:24]};Parent={number[24:]};Sampled=0"
