"""ApiVersions: what the table of APIs says, in the form that each client generation reads.

Versions 0-4. A request in an unknown version is answered with a v0 body, UNSUPPORTED_VERSION and the
row of ApiVersions itself (KIP-511). No feature is finalized: transactions, KIP-848 groups and share groups
are not here, and clients fall back by that (KIP-584).
"""

import re
import struct
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from tidemill_broker.apis.api import Api
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import API_VERSIONS, LAST_API_VERSIONS, RequestHeader

MIN_VERSION, MAX_VERSION = 0, LAST_API_VERSIONS
# The pattern that Kafka's ApiVersionsRequest holds names and versions of software to.
SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
FIRST_VERSION_WITH_SOFTWARE: Final = 3

Row = tuple[int, int, int]  # API key, lowest and highest version

_advertised: list[Row] = []


def advertise(apis: Iterable[Api]) -> None:
    """Take the rows that ApiVersions answers. Called once, when the table is made."""
    for api in apis:
        lowest = api.min_version if api.advertised_min_version is None else api.advertised_min_version
        _advertised.append((api.key, lowest, api.max_version))


def api_versions(_broker: Broker, request: Request) -> Any:
    """Answer ApiVersions, and keep the name of the client software (v3+)."""
    if request.version >= FIRST_VERSION_WITH_SOFTWARE:
        name, version = request.body.client_software_name, request.body.client_software_version
        if not (SOFTWARE.fullmatch(name) and SOFTWARE.fullmatch(version)):
            return _response(request, ErrorCode.invalid_request, ())
        request.connection.software_name, request.connection.software_version = name, version
    return _response(request, ErrorCode.none, tuple(_advertised))


def fallback(header: RequestHeader) -> bytes:
    """Answer a version from the future: header v0 and body v0, which every client can read."""
    own_row = struct.pack(">hhh", API_VERSIONS, MIN_VERSION, MAX_VERSION)
    return struct.pack(">ihi", header.correlation_id, ErrorCode.unsupported_version, 1) + own_row


def _response(request: Request, error: ErrorCode, rows: tuple[Row, ...]) -> Any:
    reply = request.reply
    return reply.ApiVersionsResponse(error_code=error, api_keys=_api_keys(reply.ApiVersion, rows))


@cache  # every connection begins by asking
def _api_keys(api_version: type[Any], rows: tuple[Row, ...]) -> tuple[Any, ...]:
    return tuple(api_version(api_key=key, min_version=low, max_version=high) for key, low, high in rows)


APIS: Final = (
    Api(
        key=API_VERSIONS,
        name="ApiVersions",
        min_version=MIN_VERSION,
        max_version=MAX_VERSION,
        handle=api_versions,
    ),
)
