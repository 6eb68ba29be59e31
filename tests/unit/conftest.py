"""No coroutine of ours blocks the event loop under test: by sleeping, or by a socket that waits.

Files are not watched: the broker writes its small ones whole before it answers, on the loop, and means to.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster

OURS = [
    "tidemill_poller",
    "tidemill_broker",
    "tidemill_functions",
    "tidemill_awsapi",
    "tidemill_local",
    "tests.unit.test_unblocked_loop",  # the proof that the watch works
]
WATCHED = [
    function
    for name, function in BlockBuster(OURS).functions.items()
    if name == "time.sleep" or name.startswith(("socket.", "ssl."))
]


@pytest.fixture(autouse=True)
def unblocked_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    if not inspect.iscoroutinefunction(request.function):
        yield
        return
    for function in WATCHED:
        function.activate()
    yield
    for function in WATCHED:
        function.deactivate()
