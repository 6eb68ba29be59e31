"""From one request frame to its handler, and from what that answers to a response frame.

The server calls `dispatch`; what an API does, its family's module knows.
"""

import inspect
from collections.abc import Awaitable, Generator
from time import perf_counter
from types import GeneratorType
from typing import Any, Final

from tidemill_broker.apis import versions
from tidemill_broker.apis.api import Api, CloseConnection, Reply
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.apis.request import Request
from tidemill_broker.apis.table import APIS
from tidemill_broker.apis.turns import TURN_S, run_for
from tidemill_broker.log.authorized import NativeSteps
from tidemill_broker.protocol import frames
from tidemill_broker.protocol.errors import MalformedFrame
from tidemill_broker.protocol.frames import RequestHeader
from tidemill_broker.protocol.reader import ELEMENTS_MAX

# Decoding makes objects of many times a request's size while all other requests wait. Only Produce
# carries bulk, and it is never decoded; the next largest, a SyncGroup with the assignments of a thousand
# members, has room in this. (Kafka has but one limit for all, socket.request.max.bytes.)
DECODED_BYTES_MAX: Final = 8 * 1024 * 1024
# What is larger waits for a turn before it is decoded: many that come at once must not add up.
AT_ONCE_BYTES_MAX: Final = 32 * 1024
# Of a request whose right does not depend on its elements, where the client does not have it: they are
# decoded only to answer each with the same error.
DENIED_ELEMENTS_MAX: Final = 1_000
# Produce and Fetch, which the native core reads from their first byte on: their header costs Python nothing.
_RAW: Final = {api.key: api.handle for api in APIS.values() if api.raw}


def dispatch(broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
    """Answer one request frame (without its length): at once where the handler can, else by an awaitable.

    Raises CloseConnection, from here or from the awaitable, for malformed frames, unknown APIs and
    unsupported versions, as Kafka does. Any other exception is our bug: the server logs it and closes that
    connection. `frame` must stay as it is until this returns; with Fetch and Produce that wait, it is copied.
    """
    stage = connection.sasl
    try:
        if stage is not None and not stage.passes(broker, frame):
            login: Reply | Awaitable[Reply] = stage.answer(broker, connection, frame)
            return login
        if len(frame) > 1 and frame[0] == 0 and frame[1] in _RAW:
            reply = _RAW[frame[1]](broker, connection, frame)
            return _raw_in_turns(broker, connection, reply) if type(reply) is GeneratorType else reply
        return _decoded(broker, connection, frame)
    except MalformedFrame as error:
        raise CloseConnection(f"malformed frame: {error}") from error


def _decoded(broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
    header = frames.read_request_header(frame)
    api = APIS.get(header.api_key)
    if api is None:
        raise CloseConnection(f"unknown API key {header.api_key}")
    if not api.speaks(header.api_version):
        if api.key != frames.API_VERSIONS:
            raise CloseConnection(f"{api.name} has no version {header.api_version} here")
        return frames.framed(versions.fallback(header))
    if len(frame) > DECODED_BYTES_MAX:
        raise CloseConnection(f"a request of {len(frame)} bytes: {api.name} may have {DECODED_BYTES_MAX}")
    connection.name_client(header.client_id)
    if len(frame) > AT_ONCE_BYTES_MAX:
        steps = _read_and_handle(broker, connection, api, header, bytes(frame))
        return _in_turns(broker, connection, header, steps)
    return _answered(broker, connection, header, _handle(broker, connection, api, header, frame))


def _answered(
    broker: Broker, connection: Connection, header: RequestHeader, response: Any
) -> Reply | Awaitable[Reply]:
    """Answer at once what is short."""
    if isinstance(response, GeneratorType):
        began_s = perf_counter()
        done, answer = run_for(response, TURN_S)
        if not done or perf_counter() - began_s > TURN_S / 2:
            return _in_turns(broker, connection, header, _ended(answer) if done else response)
        response = answer
    elif inspect.isawaitable(response):
        return _encode_later(header, response)
    return frames.framed(frames.encode_response(header, response))


def _handle(
    broker: Broker, connection: Connection, api: Api, header: RequestHeader, frame: memoryview | bytes
) -> Any:
    """Check the right of the whole request, decode it, and begin to answer it."""
    most = api.elements_max or ELEMENTS_MAX
    if api.right is not None and not api.right(connection, header, frame):
        most = min(most, DENIED_ELEMENTS_MAX)
    body = frames.decode_request(header, frame, elements_max=most)
    return api.handle(broker, Request(api=api.name, header=header, body=body, connection=connection))


def _read_and_handle(
    broker: Broker, connection: Connection, api: Api, header: RequestHeader, frame: bytes
) -> Generator[None, None, Any]:
    try:
        response = _handle(broker, connection, api, header, frame)
    except MalformedFrame as error:
        raise CloseConnection(f"malformed frame: {error}") from error
    yield
    return (yield from response) if isinstance(response, GeneratorType) else response


def _in_turns(
    broker: Broker, connection: Connection, header: RequestHeader, steps: Generator[None, None, Any]
) -> Awaitable[Reply]:
    """Answer in turns; the connection's next requests wait for it."""
    connection.in_turns = True
    return _answered_in_turns(broker, connection, header, steps)


async def _answered_in_turns(
    broker: Broker, connection: Connection, header: RequestHeader, steps: Generator[None, None, Any]
) -> Reply:
    try:
        response = await broker.turns.take(steps)
        if inspect.isawaitable(response):
            return await _encode_later(header, response)
        return frames.framed(await broker.turns.take(frames.encode_response_in_turns(header, response)))
    finally:
        connection.in_turns = False


def _ended(answer: Any) -> Generator[None, None, Any]:
    yield from ()
    return answer


def _raw_in_turns(
    broker: Broker, connection: Connection, steps: NativeSteps[Reply | Awaitable[Reply]]
) -> Awaitable[Reply]:
    connection.in_turns = True
    return _raw_later(broker, connection, steps)


async def _raw_later(
    broker: Broker, connection: Connection, steps: NativeSteps[Reply | Awaitable[Reply]]
) -> Reply:
    try:
        reply = await broker.turns.take(steps)
    except MalformedFrame as error:
        raise CloseConnection(f"malformed frame: {error}") from error
    finally:
        connection.in_turns = False
    if isinstance(reply, Awaitable):
        return await reply
    return reply


async def _encode_later(header: RequestHeader, response: Awaitable[Any]) -> Reply:
    return frames.framed(frames.encode_response(header, await response))
