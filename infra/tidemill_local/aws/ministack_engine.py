"""The engine ministack of the embedded AWS: its ASGI application behind our bounds, and what of it is off.

ministack reads its environment when it is imported, so nothing here imports it before that is set. Off are
Lambda and MSK, which Tidemill's own programs are; what opens ports of its own; Docker; scripts of other
emulators; processes, which would run users' code; and the administration of its state by HTTP. See
docs/decisions/0804.
"""

import argparse
import asyncio
import logging
import os
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web
from yarl import URL

from tidemill_awsapi import refuse_foreign_pages
from tidemill_local.aws.asgi import NOTHING_AROUND, Around, asgi_handler
from tidemill_local.aws.bounded_logs import bound_ministack_logs
from tidemill_local.aws.documents import DOCUMENT_BYTES_MAX
from tidemill_local.aws.kept.journal import StateUnwritable
from tidemill_local.aws.limits import bound_executions, end_what_holds, forbid_processes, spared
from tidemill_local.aws.wsgi import BODY_BYTES_MAX
from tidemill_local.aws_errors import AwsError, reply_of, unavailable
from tidemill_local.stacks.engine import install, reject_own_types

logger = logging.getLogger(__name__)

_Reply = tuple[int, dict[str, str], bytes]
# Steps of CloudFormation and custom resources wait in these.
_THREADS_MAX: Final = 64
_OURS: Final = (
    "This port answers no {}: send it to the one endpoint of `tidemill up`, whose own program does."
)
_OFF: Final = "The embedded AWS of Tidemill has no {}: it would open ports of its own."
_REFUSED: Final[Mapping[str, str]] = {
    "lambda": _OURS.format("Lambda"),
    "lambda-core": _OURS.format("Lambda"),
    "lambda-microvms": _OURS.format("Lambda"),
    "kafka": _OURS.format("MSK"),
    "dsql": _OFF.format("Aurora DSQL"),
    "transfer": _OFF.format("Transfer Family"),
}
_LOCALHOST: Final = re.compile(r"\.localhost(?=:|$)", re.IGNORECASE)
_NO_SUCH_SOCKET: Final = "unix:///nonexistent/docker.sock"


class _State(Protocol):
    """The kept state, whose module imports ministack."""

    def flush(self, looked_up: dict[Any, None]) -> None:
        """Write what a request has changed. Raises StateUnwritable."""

    async def follow(self) -> None:
        """Write what threads change, for ever."""


def ministack_application(arguments: argparse.Namespace, port: int) -> web.Application:
    """The aiohttp application of the whole engine; ``port`` is where it listens."""
    endpoint = URL(arguments.endpoint_url or f"http://{arguments.host}:{port}")
    os.environ.update(_environ(arguments.account_id, endpoint))
    from ministack import app as ministack  # noqa: PLC0415 - after its environment is set
    from ministack.services import cloudwatch_logs, stepfunctions  # noqa: PLC0415 - the same

    bound_ministack_logs(cloudwatch_logs)
    bound_executions(stepfunctions)

    for service, sentence in _REFUSED.items():
        ministack.SERVICE_HANDLERS[service] = _refusal(sentence)
    ministack._decompress_request_body = _inflated  # noqa: SLF001 - its own inflates without a bound
    _find_buckets_at_localhost(ministack, endpoint.host or "")
    # Glue's jobs, and the JavaScript of CloudFront and AppSync, would run here as the user.
    forbid_processes()
    state = _state(arguments.state_dir, arguments.rewrite_from_bytes)
    if arguments.endpoint_url:
        install(str(endpoint).rstrip("/"))
    else:
        reject_own_types()
    made = web.Application(middlewares=[refuse_foreign_pages], client_max_size=BODY_BYTES_MAX)
    # What a custom resource's function answers; its token is a secret of the one that waits for it.
    made.router.add_route("PUT", "/_ministack/cfn-response/{token}", asgi_handler(ministack.app))
    made.router.add_route("*", "/_ministack/{path:.*}", _no_administration)
    made.router.add_route("*", "/{path:.*}", asgi_handler(ministack.app, _keeping(state)))
    made.cleanup_ctx.append(_started(ministack, state, arguments.held_s))
    return made


def _find_buckets_at_localhost(ministack: Any, host: str) -> None:
    """SDKs whose endpoint is named ``localhost`` put the bucket in front: ``BUCKET.localhost:4580``."""
    bucket_of = ministack._extract_s3_vhost_bucket  # noqa: SLF001 - nothing public tells buckets from hosts

    def bucket_at(named: str) -> str | None:
        found: str | None = bucket_of(named) or bucket_of(_LOCALHOST.sub(f".{host}", named))
        return found

    ministack._extract_s3_vhost_bucket = bucket_at  # noqa: SLF001 - as above


def _environ(account_id: str, endpoint: URL) -> dict[str, str]:
    return {
        "MINISTACK_ACCOUNT_ID": account_id,
        "MINISTACK_REGION": os.environ.get("AWS_REGION", "us-east-1"),
        # Addresses in replies and outputs, such as a queue's URL, are the endpoint's.
        "MINISTACK_HOST": endpoint.host or "",
        "GATEWAY_PORT": str(endpoint.port),
        "LOG_LEVEL": "WARNING",
        "DOCKER_HOST": _NO_SUCH_SOCKET,
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "LOCALSTACK_PERSISTENCE": "0",
        "AUTH": "false",
        "SERVICES": "",
        "USE_SSL": "0",
        # AWS's own policies, such as AWSLambdaMSKExecutionRole, are there without being made.
        "MINISTACK_AUTOCREATE_AWS_MANAGED": "1",
    }


def _state(folder: Path | None, rewrite_from_bytes: int) -> _State | None:
    """What was kept, read back; None without a folder to keep it in."""
    if folder is None:
        return None
    from tidemill_local.aws.kept.state import KeptState  # noqa: PLC0415 - ministack, after its environment is set

    state = KeptState(folder, rewrite_from_bytes=rewrite_from_bytes)
    state.load()
    return state


def _keeping(state: _State | None) -> Around:
    """Keep what a request changes before it is answered."""
    if state is None:
        return NOTHING_AROUND
    from tidemill_local.aws.kept.stores import looked_up  # noqa: PLC0415 - as above

    def begin() -> dict[Any, None]:
        places: dict[Any, None] = {}
        looked_up.set(places)
        return places

    def end(places: dict[Any, None]) -> AwsError | None:
        try:
            with spared():
                state.flush(places)
        except StateUnwritable as error:
            logger.warning("%s", error)
            return unavailable(str(error))
        return None

    return begin, end


def _started(
    ministack: Any, state: _State | None, held_s: float
) -> Callable[[web.Application], AsyncIterator[None]]:
    """What ministack's own lifespan does, without Docker, scripts and listeners."""

    async def context(_application: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        ministack._MAIN_LOOP = loop  # noqa: SLF001 - what its lifespan sets
        loop.set_default_executor(ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="ministack"))
        with spared():  # a task keeps the context in which it is made
            following = loop.create_task(state.follow(), name="kept state") if state else None
        end_what_holds(loop, held_s=held_s)
        yield
        if following:
            following.cancel()

    return context


def _refusal(sentence: str) -> Callable[..., Awaitable[_Reply]]:
    """A service's handler, by ministack's contract, that answers 501 in the service's own protocol."""
    error = AwsError(status=501, code="NotImplementedException", xml_code="NotImplemented", message=sentence)

    async def refuse(
        _method: str, _path: str, headers: Mapping[str, str], _body: bytes, _query: Mapping[str, Any]
    ) -> _Reply:
        spelt = {
            "Content-Type": headers.get("content-type", ""),
            "Authorization": headers.get("authorization", ""),
        }
        reply = reply_of(error, spelt, "", "")
        return reply.status, dict(reply.headers), reply.body

    return refuse


def _inflated(body: bytes, headers: MutableMapping[str, str]) -> bytes:
    """Inflate a gzip body, by the contract of ministack's own function; what is too large stays as it is."""
    if headers.get("content-encoding", "").strip().lower() != "gzip":
        return body
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        whole = inflater.decompress(body, DOCUMENT_BYTES_MAX)
    except zlib.error:
        return body
    if not inflater.eof:
        return body
    del headers["content-encoding"]
    return whole


async def _no_administration(_request: web.Request) -> web.Response:
    raise web.HTTPNotFound(text="The embedded AWS is not administered by HTTP: see `tidemill reset`.\n")
