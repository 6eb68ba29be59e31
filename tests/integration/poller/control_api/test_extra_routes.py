"""Routes of the program's own stand beside AWS's."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

from aiohttp import web

from tests.fakes.http_thread import serving
from tests.fakes.kafka_access import secrets_are_fine
from tests.fakes.lambda_functions import FakeFunctions
from tests.integration.poller.control_api.conftest import client_of
from tidemill_poller.control_api import application
from tidemill_poller.settings import Settings
from tidemill_poller.store import MappingStore


def test_an_extra_route_is_served_beside_the_api(tmp_path: Path) -> None:
    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    def make() -> web.Application:
        routes = [web.get("/_tidemill/health", health)]
        return application(MappingStore(tmp_path), FakeFunctions({}), Settings(), secrets_are_fine, routes)

    with serving(make) as endpoint:
        with urlopen(f"{endpoint}/_tidemill/health", timeout=5) as reply:
            assert reply.read() == b'{"status": "ok"}'
        assert client_of(endpoint).list_event_source_mappings()["EventSourceMappings"] == []
