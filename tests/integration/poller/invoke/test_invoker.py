"""The invoker against a real HTTP server: what goes over the wire and what every fault turns into."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import botocore.session
import pytest
from aiohttp import web
from botocore.credentials import Credentials, RefreshableCredentials

import tidemill_poller.invoke.credentials
import tidemill_poller.invoke.invoker
from tidemill_poller.invoke import Invoker, InvokerMisconfigured
from tidemill_poller.retry import Delivered, FunctionError, Throttled, Unreachable

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:orders"


@dataclass
class Lambda:
    """A server that answers Invoke as told and keeps what it was sent."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"null"
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)
    hold: asyncio.Event | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.raw_path, dict(request.headers), await request.read()))
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        if self.hold is not None:
            await self.hold.wait()
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@pytest.fixture
async def lambda_() -> AsyncIterator[Lambda]:
    state = Lambda()
    application = web.Application(client_max_size=16 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", state.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    state.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield state
    await runner.cleanup()


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lambda_: Lambda) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", lambda_.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def session() -> botocore.session.Session:
    return botocore.session.Session()


async def test_the_event_arrives_to_the_byte_under_the_invoke_path_signed(lambda_: Lambda) -> None:
    payload = b'{"records":{"orders-0":[]}}'
    async with Invoker(session()) as invoker:
        outcome = await invoker.invoke(ARN, payload, trace_headers={"traceparent": "00-a-b-01"})
    path, headers, body = lambda_.seen[0]
    assert isinstance(outcome, Delivered)
    assert body == payload
    encoded = ARN.replace(":", "%3A")
    assert path == f"/2015-03-31/functions/{encoded}/invocations"
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=test/")
    assert "/eu-west-1/lambda/aws4_request" in headers["Authorization"]
    assert headers["traceparent"] == "00-a-b-01"
    assert "Transfer-Encoding" not in headers


async def test_an_alias_goes_into_the_qualifier(lambda_: Lambda) -> None:
    async with Invoker(session()) as invoker:
        await invoker.invoke(f"{ARN}:$LATEST", b"{}")
    assert lambda_.seen[0][0].endswith("function%3Aorders/invocations?Qualifier=%24LATEST")


async def test_a_six_megabyte_event_goes_through(lambda_: Lambda) -> None:
    async with Invoker(session()) as invoker:
        await invoker.invoke(ARN, b"x" * 6_291_456)
    assert len(lambda_.seen[0][2]) == 6_291_456


async def test_one_connection_serves_one_lane_for_all_its_invocations(lambda_: Lambda) -> None:
    async with Invoker(session()) as invoker:
        for _ in range(20):
            await invoker.invoke(ARN, b"{}")
    assert len(lambda_.peers) == 1


async def test_connections_are_bounded_and_the_rest_wait_their_turn(lambda_: Lambda) -> None:
    async with Invoker(session(), connections_max=3) as invoker:
        outcomes = await asyncio.gather(*(invoker.invoke(ARN, b"{}") for _ in range(50)))
    assert len(lambda_.peers) <= 3
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (200, {}, Delivered),
        (200, {"X-Amz-Function-Error": "Unhandled"}, FunctionError),
        (429, {}, Throttled),
        (404, {}, Unreachable),
        (503, {}, Unreachable),
        (307, {"Location": "/elsewhere"}, Unreachable),
    ],
)
async def test_replies_are_told_apart(
    lambda_: Lambda, status: int, headers: dict[str, str], kind: type
) -> None:
    lambda_.status, lambda_.headers, lambda_.body = status, headers, b"{}"
    async with Invoker(session()) as invoker:
        assert isinstance(await invoker.invoke(ARN, b"{}"), kind)
    assert len(lambda_.seen) == 1


async def test_a_reply_larger_than_lambda_allows_is_not_read_to_its_end(lambda_: Lambda) -> None:
    lambda_.body = b"x" * (tidemill_poller.invoke.invoker.RESPONSE_BYTES_MAX + 1)
    async with Invoker(session()) as invoker:
        outcome = await invoker.invoke(ARN, b"{}")
        assert isinstance(outcome, Unreachable)
        assert outcome.error_type == "ResponseTooLarge"
        lambda_.body = b"1"
        assert isinstance(await invoker.invoke(ARN, b"{}"), Delivered)


async def test_a_rejected_connection_is_an_outcome_that_names_the_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
    async with Invoker(session()) as invoker:
        outcome = await invoker.invoke(ARN, b"{}")
    assert isinstance(outcome, Unreachable)
    assert url in outcome.reason


async def test_an_answer_that_never_comes_ends_in_a_timeout(
    lambda_: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidemill_poller.invoke.invoker, "INVOKE_TIMEOUT_S", 0.05)
    lambda_.hold = asyncio.Event()
    async with Invoker(session()) as invoker:
        outcome = await invoker.invoke(ARN, b"{}")
    lambda_.hold.set()
    assert isinstance(outcome, Unreachable)
    assert outcome.error_type == "Timeout"


async def test_a_cancelled_invocation_is_cancelled(lambda_: Lambda) -> None:
    lambda_.hold = asyncio.Event()
    async with Invoker(session()) as invoker:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await invoker.invoke(ARN, b"{}")
    lambda_.hold.set()


async def test_a_connection_cut_in_the_middle_of_the_reply_is_an_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
    async with server, Invoker(session()) as invoker:
        outcome = await invoker.invoke(ARN, b"{}")
    assert isinstance(outcome, Unreachable)
    assert outcome.error_type == aiohttp.ClientPayloadError.__name__


async def test_the_endpoint_of_a_profile_s_services_section_is_used(
    lambda_: Lambda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_LAMBDA")
    (tmp_path / "config").write_text(
        "[profile local]\nregion = eu-west-1\nservices = here\n"
        f"[services here]\nlambda =\n  endpoint_url = {lambda_.url}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "local")
    async with Invoker(session()) as invoker:
        assert isinstance(await invoker.invoke(ARN, b"{}"), Delivered)


async def test_without_a_region_the_invoker_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(InvokerMisconfigured, match="Set AWS_REGION"):
        await Invoker(session()).__aenter__()


async def test_without_credentials_the_outcome_says_what_to_set(
    lambda_: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with Invoker(session()) as invoker:
        outcome = await invoker.invoke(ARN, b"{}")
    assert isinstance(outcome, Unreachable)
    assert outcome.error_type == "Credentials"
    assert "AWS_ACCESS_KEY_ID" in outcome.reason
    assert not lambda_.seen


async def test_rotated_credentials_sign_the_next_invocation(
    lambda_: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidemill_poller.invoke.credentials, "CREDENTIAL_CHECK_S", 0)
    keys = iter(["FIRST", "SECOND", "THIRD"])

    def refresh() -> dict[str, str]:
        # So near to its end that botocore asks for new ones at every use.
        expiry = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)
        return {
            "access_key": next(keys),
            "secret_key": "secret",
            "token": "token",
            "expiry_time": expiry.isoformat(),
        }

    own = session()
    credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")
    own._credentials = credentials
    async with Invoker(own) as invoker:
        await invoker.invoke(ARN, b"{}")
        await invoker.invoke(ARN, b"{}")
    used = [headers["Authorization"].split("=")[1].split("/")[0] for _, headers, _ in lambda_.seen]
    assert used == ["SECOND", "THIRD"]


async def test_a_credential_provider_that_fails_is_an_outcome(lambda_: Lambda) -> None:
    class Failing(Credentials):  # type: ignore[misc]  # botocore ships no types
        def get_frozen_credentials(self) -> None:
            msg = "the token\nhas expired"
            raise RuntimeError(msg)

    own = session()
    own._credentials = Failing("a", "b")
    async with Invoker(own) as invoker:
        outcome = await invoker.invoke(ARN, b"{}")
    assert outcome == Unreachable(
        reason="No AWS credentials: the token has expired", error_type="Credentials"
    )
    assert not lambda_.seen
