"""What `--aws-endpoint-url` may name: something that answers as AWS does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.harness.embedded_aws import embedded_aws
from tidemill_local import preconditions
from tidemill_local.errors import AwsUnreachable
from tidemill_local.preconditions import require_aws


@asynccontextmanager
async def listening(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("engine", ["ministack", "moto"])
async def test_each_emulator_is_an_aws(tmp_path: Path, engine: str) -> None:
    with embedded_aws(tmp_path, engine=engine) as running:
        await require_aws(running.url)


@pytest.mark.parametrize("status", [200, 404])
async def test_another_web_server_is_rejected_in_one_sentence(status: int) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>hello</html>")

    async with listening(answer) as url:
        with pytest.raises(AwsUnreachable) as raised:
            await require_aws(url)
    assert str(raised.value) == (
        f"What listens at {url} is no AWS (HTTP status {status} for sts:GetCallerIdentity): name one, "
        "or leave --aws-endpoint-url out for the embedded one."
    )


async def test_a_server_of_another_protocol_is_rejected() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x00\x00\x05kafka")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AwsUnreachable, match=r"is no AWS \("):
            await require_aws(f"http://127.0.0.1:{port}")


async def test_a_server_that_stays_silent_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "_ANSWER_TIMEOUT_S", 0.2)
    ended = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AwsUnreachable, match=r"no answer within 0\.2 s"):
            await require_aws(f"http://127.0.0.1:{port}")
        ended.set()
