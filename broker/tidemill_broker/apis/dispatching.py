"""From one request frame to its handler, and from what that answers to a response frame.

The server calls `dispatch`; what an API does, its family's module knows.
"""

import inspect
from collections.abc import Awaitable
from typing import Any, Final

from tidemill_broker.apis import versions
from tidemill_broker.apis.api import CloseConnection, Reply
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.apis.request import Request
from tidemill_broker.apis.table import APIS
from tidemill_broker.protocol import frames
from tidemill_broker.protocol.errors import MalformedFrame
from tidemill_broker.protocol.frames import RequestHeader

# Decoding makes objects of up to fifty times a request's size while all other requests wait. Only Produce
# carries bulk, and it is never decoded; the next largest, a SyncGroup with the assignments of a thousand
# members, has room in this. (Kafka has but one limit for all, socket.request.max.bytes.)
DECODED_BYTES_MAX: Final = 8 * 1024 * 1024
# Produce and Fetch, which the native core reads from their first byte on: their header costs Python nothing.
_RAW: Final = {api.key: api.handle for api in APIS.values() if api.raw}


def dispatch(broker: Broker, connection: Connection, frame: memoryview) -> Reply | Awaitable[Reply]:
    """Answer one request frame (without its length): at once where the handler can, else by an awaitable.

    Raises CloseConnection, from here or from the awaitable, for malformed frames, unknown APIs and
    unsupported versions, as Kafka does. Any other exception is our bug: the server logs it and closes that
    connection. `frame` must stay as it is until the reply is there.
    """
    stage = connection.sasl
    try:
        if stage is not None and not stage.passes(broker, frame):
            login: Reply | Awaitable[Reply] = stage.answer(broker, connection, frame)
            return login
        if len(frame) > 1 and frame[0] == 0 and frame[1] in _RAW:
            reply: Reply | Awaitable[Reply] = _RAW[frame[1]](broker, connection, frame)
            return reply
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
        body = frames.decode_request(header, frame)
    except MalformedFrame as error:
        raise CloseConnection(f"malformed frame: {error}") from error
    connection.name_client(header.client_id)
    request = Request(api=api.name, header=header, body=body, connection=connection)
    response = api.handle(broker, request)
    if inspect.isawaitable(response):
        return _encode_later(header, response)
    return frames.framed(frames.encode_response(header, response))


async def _encode_later(header: RequestHeader, response: Awaitable[Any]) -> Reply:
    return frames.framed(frames.encode_response(header, await response))
