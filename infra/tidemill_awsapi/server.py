"""Owns the HTTP server of one AWS service: request in, operation's handler called, reply or AWS error out.

Called by the programs' API rooms, which bring the handlers. One request is one pass: route, parse,
validate, call, serialise; all of it is built from the model when the Service is made.

See docs/decisions/0800.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from multidict import MultiDict, MultiDictProxy

from tidemill_awsapi.bodies import check_values, read_body
from tidemill_awsapi.errors import ApiError, render_error
from tidemill_awsapi.foreign_pages import refuse_foreign_pages
from tidemill_awsapi.malformed import keep_bytes_out_of_logs
from tidemill_awsapi.model import load_service
from tidemill_awsapi.parsing import InputParser, RequestParts
from tidemill_awsapi.routing import Router
from tidemill_awsapi.scope import credential_scope
from tidemill_awsapi.serialising import OutputSerialiser
from tidemill_awsapi.validation import InputValidator, describe_violations

logger = logging.getLogger(__name__)

# CreateFunction's largest zip, 50 MB, as base64, with room for the rest of the document.
MAX_BODY_BYTES = 70 * 1024 * 1024
_LONG_DOCUMENT_BYTES: Final = 1024 * 1024
# Most requests have no query: parsing none costs nothing.
_NO_QUERY: MultiDictProxy[str] = MultiDictProxy(MultiDict())


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One valid request for one operation.

    ``params`` holds the input members by the model's names: blobs and streaming payloads as bytes, timestamps
    as aware datetimes. ``headers`` are case-insensitive. Region and access key come from the SigV4 scope when
    there is one; signatures are not verified.
    """

    operation: str
    params: dict[str, Any]
    headers: Mapping[str, str]
    region: str
    account_id: str
    access_key_id: str | None
    request_id: str


Handler = Callable[[Call], Awaitable[Mapping[str, Any]]]


class Service:
    """One AWS service by botocore's name ("lambda", "kafka"), answered by ``handlers`` by operation name.

    A handler returns the output shape's members (None = absent) or raises ApiError. An operation of the model
    without a handler answers 501 NotImplementedException with its name.
    """

    def __init__(self, name: str, handlers: Mapping[str, Handler], *, region: str, account_id: str) -> None:
        self._model = load_service(name)
        unknown = handlers.keys() - self._model.operations.keys()
        if unknown:
            raise ValueError(f"{name} has no operation {', '.join(sorted(unknown))}")
        self._router = Router(self._model)
        self._operations = {
            operation: _Operation(self._model.operations[operation], handler)
            for operation, handler in handlers.items()
        }
        self._region = region
        self._account_id = account_id
        # MSK reports broken constraints under its own name, Lambda under the framework's.
        self._invalid = self._model.first_error("BadRequestException", "ValidationException")
        self._internal = self._model.first_error("ServiceException", "InternalServerErrorException")

    def application(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> web.Application:
        """An aiohttp application; callers may add routes of their own under ``/_tidemill/``."""
        keep_bytes_out_of_logs(logger)
        application = web.Application(client_max_size=max_body_bytes, middlewares=[refuse_foreign_pages])
        application.router.add_route("*", "/{path:.*}", self._answer)
        return application

    async def _answer(self, request: web.Request) -> web.Response:
        request_id = str(uuid.uuid4())
        try:
            return await self._call(request, request_id)
        except ApiError as error:
            return self._refusal(error, request_id)
        except web.HTTPRequestEntityTooLarge:
            too_large = ApiError(
                "RequestEntityTooLargeException",
                f"Request must be smaller than {request.client_max_size} bytes",
                status=413,
            )
            return self._refusal(too_large, request_id)
        except Exception:
            logger.exception(
                "request failed service=%s path=%s request_id=%s", self._model.name, request.path, request_id
            )
            internal = ApiError(
                self._internal, "An internal error occurred; the server's log names it.", status=500
            )
            return self._refusal(internal, request_id)

    async def _call(self, request: web.Request, request_id: str) -> web.Response:
        raw_path, _, query_string = request.raw_path.partition("?")
        query = request.query if query_string else _NO_QUERY
        matched = self._router.match(request.method, raw_path, query)
        if matched is None:
            raise ApiError(
                "UnknownOperationException",
                f"{self._model.name} has no operation at {request.method} {raw_path}",
                status=404,
            )
        name, labels = matched
        operation = self._operations.get(name)
        if operation is None:
            raise ApiError(
                "NotImplementedException",
                f"{self._model.name}:{name} is not implemented by Tidemill.",
                status=501,
            )
        body = await read_body(request)
        parts = RequestParts(labels=labels, query=query, headers=request.headers, body=body)
        params = await operation.parsed(parts)
        if violations := operation.validator.violations(params):
            raise ApiError(self._invalid, describe_violations(violations))
        scope = credential_scope(request.headers, query_string)
        call = Call(
            operation=name,
            params=params,
            headers=request.headers,
            region=scope.region if scope else self._region,
            account_id=self._account_id,
            access_key_id=scope.access_key_id if scope else None,
            request_id=request_id,
        )
        reply = operation.serialiser.serialise(await operation.handler(call))
        headers = {**reply.headers, "x-amzn-RequestId": request_id}
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    def _refusal(self, error: ApiError, request_id: str) -> web.Response:
        reply = render_error(self._model, error)
        headers = {**reply.headers, "x-amzn-RequestId": request_id, "Content-Type": "application/json"}
        return web.Response(status=reply.status, body=reply.body, headers=headers)


class _Operation:
    """What one operation needs, built from its model once."""

    def __init__(self, model: Any, handler: Handler) -> None:
        self.handler = handler
        self.parser = InputParser(model.input_shape)
        self.validator = InputValidator(model.input_shape)
        self.serialiser = OutputSerialiser(model)

    async def parsed(self, parts: RequestParts) -> dict[str, Any]:
        """Parse the input; a long document in a thread, where others are served meanwhile."""
        if not self.parser.reads_json or len(parts.body) < _LONG_DOCUMENT_BYTES:
            return self.parser.parse(parts)
        await check_values(parts.body)
        return await asyncio.to_thread(self.parser.parse, parts)
