"""One AWS, and one functions server that uses it, for the tests of this folder that share them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.functions_server import FunctionsServer, running
from tests.harness.moto_aws import Aws, environment, running_moto


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    with running_moto() as found:
        yield found


@pytest.fixture(scope="session")
def functions(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    with running(tmp_path_factory.mktemp("functions"), environment(aws.url)) as server:
        yield server
