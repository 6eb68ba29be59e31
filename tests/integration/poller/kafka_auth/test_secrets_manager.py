"""Secrets Manager that fails, or does not answer, is told as that, and holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from aiohttp import web

from tests.fakes.http_thread import serving
from tidemill_poller.aws import AwsClients
from tidemill_poller.errors import SecretDenied, SecretUnreadable
from tidemill_poller.kafka_auth import KafkaAccess
from tidemill_poller.mapping import Mapping, SelfManagedSource, SourceAccess

PLAIN = Mapping(
    uuid="0b4f12a8",
    function_arn="arn:aws:lambda:eu-west-1:123456789012:function:orders",
    source=SelfManagedSource(bootstrap_servers=("a:9092",)),
    topic="orders",
    consumer_group_id="group",
)
LOGIN = '{"username": "u", "password": "p"}'


class SecretsManager:
    """Has any secret; `status` other than 200 is its answer instead."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.answering.set()
        self.status, self.code = 200, ""
        self.asked = 0

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_post("/", self._answer)
        return application

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        await asyncio.to_thread(self.answering.wait)
        reply: dict[str, Any] = {"VersionId": "1", "SecretString": LOGIN}
        return web.json_response(
            reply if self.status == 200 else {"__type": self.code, "message": "m"}, status=self.status
        )


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsManager]:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = SecretsManager()
    with serving(server.application) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        yield server
        server.answering.set()


def with_secret(name: str) -> Mapping:
    return replace(PLAIN, access=(SourceAccess(type="BASIC_AUTH", uri=name),))


def access(*, version_age_s: float = 0.0) -> KafkaAccess:
    return KafkaAccess(AwsClients(boto3.Session(region_name="us-east-1")), version_age_s=version_age_s)


async def test_no_answer_holds_up_neither_who_connects_nor_who_invokes(manager: SecretsManager) -> None:
    manager.answering.clear()
    asked = access()
    following = [asyncio.ensure_future(asked.secret_versions(with_secret(f"s-{i}"))) for i in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(3):
        assert (await asked.options(PLAIN)).bootstrap_servers == "a:9092"
        await asyncio.to_thread(int)  # as the invoker renews its credentials
    manager.answering.set()
    assert await asyncio.gather(*following) == [{f"s-{i}": "1"} for i in range(20)]


async def test_mappings_that_share_a_secret_ask_for_it_together(manager: SecretsManager) -> None:
    asked = access(version_age_s=30)
    versions = await asyncio.gather(*(asked.secret_versions(with_secret("s")) for _ in range(50)))
    assert versions == [{"s": "1"}] * 50
    assert manager.asked <= 2, "by each thread once"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "InternalServiceError", SecretUnreadable),
        (400, "ThrottlingException", SecretUnreadable),
        (400, "AccessDeniedException", SecretDenied),
    ],
)
async def test_a_failure_that_passes_is_no_rejection(
    manager: SecretsManager, status: int, code: str, kind: type[SecretUnreadable]
) -> None:
    manager.status, manager.code = status, code
    with pytest.raises(SecretUnreadable, match=code) as raised:
        await access().options(with_secret("s"))
    assert type(raised.value) is kind


async def test_credentials_that_come_later_are_taken(
    manager: SecretsManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    asked = access()
    with pytest.raises(SecretUnreadable, match="Unable to locate credentials"):
        await asked.options(with_secret("s"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    assert (await asked.options(with_secret("s"))).username == "u"
    assert manager.asked == 1
