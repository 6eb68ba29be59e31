"""A function of each runtime with the contract suite's handler.

Where the tests run as root, handlers have users and file systems of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.contract.cases import CASES, Case, require, zipped
from tests.harness.functions_server import ISOLATED, ROLE, FunctionsServer, running

Name = Callable[[], str]
Make = Callable[..., str]

_shared: dict[str, str] = {}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsServer]:
    """Return one server for all tests of this folder."""
    with running(tmp_path_factory.mktemp("functions"), ISOLATED) as started:
        yield started


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    """Each runtime in turn."""
    found: Case = request.param
    require(found.program)
    return found


@pytest.fixture
def make(server: FunctionsServer, name: Name, case: Case) -> Iterator[Make]:
    """Makes functions of this runtime with the suite's handler; they go with the test."""
    made: list[str] = []

    def create(**members: Any) -> str:
        made.append(name())
        _create(server, made[-1], case, **members)
        return made[-1]

    yield create
    for function in made:
        server.client.delete_function(FunctionName=function)


@pytest.fixture
def function(server: FunctionsServer, name: Name, case: Case) -> str:
    """A function that the tests of one process share and leave as it was made; its process may have ended."""
    if case.name not in _shared:
        _create(server, made := name(), case)
        _shared[case.name] = made
    return _shared[case.name]


def _create(server: FunctionsServer, function: str, case: Case, **members: Any) -> None:
    given = {
        "Handler": case.handler,
        "Timeout": 40,
        "MemorySize": case.memory_mb,
        "Code": {"ZipFile": zipped(case.files())},
        "Environment": {"Variables": {"TABLE": "t é"}},
    }
    server.client.create_function(
        FunctionName=function, Runtime=case.runtime, Role=ROLE, **{**given, **members}
    )
