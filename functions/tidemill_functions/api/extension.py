"""Serves what Lambda has no operation for: code that runs in place, logs, the code's download, health.

Routes under /_tidemill/, for the command line and for people; errors are {"error": "one sentence"}.
`__main__` adds them to the Lambda API's application.

    POST /_tidemill/functions               {"name", "path", "handler", "timeout_s"?, "memory_mb"?,
                                            "environment"?, "python"?, "virtual_env"?}
                                            -> FunctionConfiguration; 201 new, 200 changed
    GET  /_tidemill/functions/NAME/logs     ?lines=100&follow=1 -> text
    GET  /_tidemill/functions/NAME/code     the zip that the function was made from
    GET  /_tidemill/layers/NAME/1/code      the zip that the layer's version was made from
    GET  /_tidemill/health                  {"status", "functions", "environments", "cold_starts",
                                             "in_flight", "events"}
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidemill_awsapi import ApiError, read_body
from tidemill_functions.api.control import checked
from tidemill_functions.api.description import describe
from tidemill_functions.code.handlers import check_handler
from tidemill_functions.code.registry import Function, LocalCode, Registry, local_code
from tidemill_functions.errors import FunctionsError, InvalidFunction
from tidemill_functions.runtime.event_queue import EventQueue
from tidemill_functions.runtime.pool import Pool
from tidemill_functions.runtimes.table import Runtimes

_LOG_LINES_MAX: Final = 10_000


class Registration(BaseModel):
    """The body of POST /_tidemill/functions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[a-zA-Z0-9-_]{1,64}$")
    path: str = Field(min_length=1, description="A Python file, or the folder of module.function")
    handler: str = Field(min_length=1, max_length=128, pattern=r"^\S+$")
    timeout_s: int = 3
    memory_mb: int = 128
    environment: dict[str, str] = Field(default_factory=dict)
    python: str = Field(default="", description="The interpreter; else a .venv beside the code or above it")
    virtual_env: str = Field(default="", description="The caller's VIRTUAL_ENV, where there is no .venv")


class ExtensionApi:
    """The routes above."""

    def __init__(self, registry: Registry, pool: Pool, runtimes: Runtimes, events: EventQueue) -> None:
        self._registry = registry
        self._pool = pool
        self._runtimes = runtimes
        self._events = events
        self._followers: set[asyncio.Task[Any]] = set()

    def add_to(self, application: web.Application) -> None:
        """Add the routes."""
        application.router.add_post("/_tidemill/functions", self._told(self.register))
        application.router.add_get("/_tidemill/functions/{name}/logs", self._told(self.logs))
        application.router.add_get("/_tidemill/functions/{name}/code", self._told(self.code))
        application.router.add_get(
            r"/_tidemill/layers/{name:[a-zA-Z0-9_-]{1,140}}/{number:[0-9]{1,9}}/code", self._told(self.layer)
        )
        application.router.add_get("/_tidemill/health", self.health)
        application.on_shutdown.append(self._end_followers)

    async def register(self, request: web.Request) -> web.StreamResponse:
        """Register code that runs in place, or change it; the same again changes nothing that matters."""
        try:
            asked = Registration.model_validate_json(await read_body(request))
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
            )
            raise InvalidFunction(f"the registration cannot be read: {faults}") from None
        code, handler = local_code(asked.path, asked.handler)
        fields = checked(timeout_s=asked.timeout_s, memory_mb=asked.memory_mb, environment=asked.environment)
        await asyncio.to_thread(check_handler, Path(code.folder), handler)
        code, runtime = await asyncio.to_thread(
            self._runtimes.in_place, code, asked.python, asked.virtual_env
        )
        former = self._registry.get(asked.name)
        if former is None:
            function = self._registry.create(
                asked.name, code=code, handler=handler, runtime=runtime, **fields
            )
            return _json(describe(function), status=201)
        if not isinstance(former.code, LocalCode):
            return _json(
                {"error": f"{asked.name} was created from a zip: delete it first, or choose another name."},
                status=409,
            )
        function = self._registry.replace(asked.name, code=code, handler=handler, runtime=runtime, **fields)
        self._pool.retire(former)
        return _json(describe(function))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Answer the last lines of a function's log; with `follow`, then all that comes."""
        function = self._find(request)
        try:
            lines = min(int(request.query.get("lines", "100")), _LOG_LINES_MAX)
        except ValueError:
            raise InvalidFunction("lines must be a number, such as 100.") from None
        log = self._pool.log_of(function.name)
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        await response.write(log.tail(lines))
        if request.query.get("follow", "0") not in ("0", "false"):
            task = asyncio.current_task()
            assert task is not None
            self._followers.add(task)
            try:
                # The reader went away: there is nobody to tell.
                with contextlib.suppress(ConnectionResetError):
                    async for text in log.follow():
                        await response.write(text)
            finally:
                self._followers.discard(task)
        return response

    async def code(self, request: web.Request) -> web.StreamResponse:
        """Answer the zip as it was uploaded."""
        function = self._find(request)
        path = self._registry.zip_file(function)
        if path is None:
            raise InvalidFunction(
                f"{function.name} runs in place: its code is in {self._registry.folder(function)}."
            )
        return web.FileResponse(path, headers={"Content-Type": "application/zip"})

    async def layer(self, request: web.Request) -> web.StreamResponse:
        """Answer the zip of a layer's version as it was uploaded."""
        name, number = request.match_info["name"], int(request.match_info["number"])
        if self._registry.layers.get(name, number) is None:
            raise web.HTTPNotFound(
                body=orjson.dumps({"error": f"There is no layer version {name}:{number}."}),
                content_type="application/json",
            )
        path = self._registry.layers.zip_file(name, number)
        return web.FileResponse(path, headers={"Content-Type": "application/zip"})

    async def health(self, _request: web.Request) -> web.Response:
        """Answer that the server is alive, and how busy it is."""
        return _json(
            {
                "status": "ok",
                "functions": len(self._registry.all()),
                "environments": self._pool.environments,
                "cold_starts": self._pool.cold_starts,
                "in_flight": self._pool.in_flight,
                "events": len(self._events),
            }
        )

    def _find(self, request: web.Request) -> Function:
        function = self._registry.get(request.match_info["name"])
        if function is None:
            raise web.HTTPNotFound(
                body=orjson.dumps({"error": f"Function not found: {request.match_info['name']}"}),
                content_type="application/json",
            )
        return function

    @staticmethod
    def _told(
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the handler with its refusals answered as one sentence."""

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except FunctionsError as error:
                return _json({"error": str(error)}, status=400)
            except ApiError as error:
                return _json({"error": error.message}, status=400)

        return answer

    async def _end_followers(self, _application: web.Application) -> None:
        for follower in self._followers:
            follower.cancel()


def _json(document: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
