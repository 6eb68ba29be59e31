"""A partition that waits to retry, beside the real function runtime: a fix of the function ends the wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import botocore.session
import pytest

from tests.fakes.poller import MAPPING, LaneWorld, lane_dependencies, records, until
from tests.harness.functions_server import FunctionsServer, running, zip_of
from tidemill_poller.fleet import FunctionUpdates
from tidemill_poller.invoke import Invoker
from tidemill_poller.offsets import CommitPoint

BROKEN = "def handler(event, context):\n    raise ValueError('broken')\n"
FIXED = "def handler(event, context):\n    return None\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    with running(tmp_path_factory.mktemp("functions")) as started:
        yield started


def edited_on_disk(server: FunctionsServer, folder: Path) -> tuple[str, Callable[[], None]]:
    path = folder / "orders.py"
    path.write_text(BROKEN)
    arn: str = server.register("edited", path)["FunctionArn"]

    def fix() -> None:
        path.write_text(FIXED)

    return arn, fix


def updated_by_a_call(server: FunctionsServer, folder: Path) -> tuple[str, Callable[[], None]]:
    arn: str = server.create("updated", BROKEN)["FunctionArn"]
    code = zip_of({"app.py": FIXED})

    def fix() -> None:
        server.client.update_function_code(FunctionName="updated", ZipFile=code)

    return arn, fix


@pytest.mark.parametrize("function", [edited_on_disk, updated_by_a_call], ids=lambda f: f.__name__)
async def test_a_fixed_function_is_retried_long_before_its_back_off_ends(
    server: FunctionsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[[FunctionsServer, Path], tuple[str, Callable[[], None]]],
) -> None:
    for variable, value in {
        "AWS_ENDPOINT_URL_LAMBDA": server.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(variable, value)
    arn, fix = await asyncio.to_thread(function, server, tmp_path)
    async with Invoker(botocore.session.Session()) as invoker:
        looks = 0

        async def revision(function_arn: str) -> str | None:
            nonlocal looks
            looks += 1
            return await invoker.revision(function_arn)

        updates = FunctionUpdates(revision, interval_s=0.2)
        looking = asyncio.ensure_future(updates.run())
        dependencies = lane_dependencies(
            invoker, updates=updates, mapping=replace(MAPPING, function_arn=arn), backoff_base_s=60.0
        )
        world = LaneWorld(dependencies)
        world.lane.feed(records(0))
        lane = asyncio.ensure_future(world.run_until(lambda: world.committed == CommitPoint(1), within_s=40))
        await until(lambda: world.status.state == "retrying" and world.status.retry_at_ms is not None)
        seen = looks
        await until(lambda: looks >= seen + 3)
        assert world.committed.offset == 0
        await asyncio.to_thread(fix)
        await lane
        looking.cancel()
    assert world.status.attempt == 2
