"""The largest request of each API is answered in turns: between two of them a handler does little.

The work is counted in calls, so a busy machine changes nothing. `test_bystander.py` measures time.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from functools import partial

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tests.fakes.largest_requests import largest_requests
from tests.fakes.work_meter import most_calls_in_a_turn
from tidemill_broker.apis import APIS, Api
from tidemill_broker.apis.api import CloseConnection
from tidemill_broker.apis.dispatching import DENIED_ELEMENTS_MAX
from tidemill_broker.apis.request import Request
from tidemill_broker.protocol.errors import MalformedFrame
from tidemill_broker.protocol.frames import decode_request, read_request_header

# What the broker takes is 20,000 (protocol.reader.ELEMENTS_MAX); a part of it is enough to tell.
ELEMENTS = int(os.environ.get("TIDEMILL_FUZZ_ELEMENTS", "3000"))
# Of one element, while others wait: names are compared, places looked up; everything else yields.
CALLS_PER_ELEMENT = 5.5
CREATE_TOPICS = 19
TOPICS = 100
HANDLED = [pytest.param(api, id=api.name) for api in APIS.values()]


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerBroker]:
    """A broker with topics, where the client may do all."""
    with inner_broker(tmp_path_factory.mktemp("allowed")) as inner:
        topics = [{"name": f"there{n}", "num_partitions": 1, "replication_factor": 1} for n in range(TOPICS)]
        inner.ask(CREATE_TOPICS, 7, topics=topics)
        yield inner


@pytest.fixture(scope="module")
def denied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InnerBroker]:
    """A broker where the client has no right at all."""
    with inner_broker(tmp_path_factory.mktemp("denied"), "allow.everyone.if.no.acl.found=false") as inner:
        yield inner


def longest_steps(inner: InnerBroker, api: Api) -> dict[str, int]:
    """The calls of the longest step, for each way to fill the request."""
    longest = {}
    for version in sorted({api.min_version, api.max_version}):
        most = min(ELEMENTS, api.elements_max or ELEMENTS) - 5  # Kafka's header and body have a few
        for path, frame in largest_requests(api.key, version, most, "there"):
            try:
                longest[f"v{version} {path}"] = most_calls_in_a_turn(begun(inner, api, frame))
            except (CloseConnection, MalformedFrame):
                continue  # rejected, before anything was made of it
    return longest


def begun(inner: InnerBroker, api: Api, frame: bytes) -> partial[object]:
    """The handler's call, with a request that is read already: reading is one step, bounded by elements."""
    if api.raw:
        return partial(api.handle, inner.broker, inner.connection, memoryview(frame))
    header = read_request_header(frame)
    may = api.right is None or api.right(inner.connection, header, frame)
    body = decode_request(header, frame, elements_max=ELEMENTS if may else DENIED_ELEMENTS_MAX)
    request = Request(api=api.name, header=header, body=body, connection=inner.connection)
    return partial(api.handle, inner.broker, request)


@pytest.mark.parametrize("api", HANDLED)
async def test_the_largest_request_of_an_api_is_answered_in_short_steps(
    allowed: InnerBroker, api: Api
) -> None:
    longest = longest_steps(allowed, api)
    assert longest
    assert max(longest.values()) < ELEMENTS * CALLS_PER_ELEMENT, longest


@pytest.mark.parametrize("api", HANDLED)
async def test_so_it_is_without_any_right(denied: InnerBroker, api: Api) -> None:
    longest = longest_steps(denied, api)
    assert max(longest.values(), default=0) < ELEMENTS * CALLS_PER_ELEMENT, longest


async def test_a_handler_that_answers_all_at_once_is_told() -> None:
    def at_once() -> list[int]:
        return [hash(number) for number in range(ELEMENTS * 6)]

    def in_turns() -> Generator[None, None, None]:
        for number in range(ELEMENTS * 6):
            hash(number)
            yield

    assert most_calls_in_a_turn(at_once) > ELEMENTS * CALLS_PER_ELEMENT
    assert most_calls_in_a_turn(in_turns) < 10
