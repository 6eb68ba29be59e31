"""One server for all tests of this folder that leave it as it was; retries of events are quick in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.harness.functions_server import FunctionsServer, running

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    environment = {
        "TIDEMILL_FUNCTIONS_EVENT_RETRY_DELAYS_S": "[0.01, 0.02]",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    with running(tmp_path_factory.mktemp("functions"), environment) as started:
        yield started


@pytest.fixture
def name() -> Callable[[], str]:
    """Makes a function name that no other test has."""
    return lambda: f"function-{next(_numbers)}"
