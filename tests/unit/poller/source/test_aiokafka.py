"""The shape of aiokafka that `source` reaches into: another version of it needs a look at what is named here.

Each name is used by `fetched`, `client` or `connecting` behind `noqa: SLF001`.
"""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher as fetchers
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from aiokafka.protocol.fetch import FetchRequest
from packaging.requirements import Requirement
from packaging.version import Version

HINT = (
    "aiokafka {version}: {what}. poller/tidemill_poller/source reaches into it: compare fetched.py with"
    " aiokafka's consumer/fetcher.py, run tests/integration/poller/source, then change this table and the"
    " version range in pyproject.toml"
)
SIGNATURES = {
    (Fetcher, "_proc_fetch_request"): ["self", "assignment", "node_id", "request"],
    (Fetcher, "_create_fetch_waiter"): ["self"],
    (Fetcher, "_notify"): ["self", "future"],
    (FetchResult, "__init__"): ["self", "tp", "assignment", "partition_records", "backoff"],
    (FetchResult, "check_assignment"): ["self", "tp"],
    (FetchResult, "_update_position"): ["self"],
    (GroupCoordinator, "check_errors"): ["self"],
    (GroupCoordinator, "fetch_committed_offsets"): ["self", "partitions"],
    (SubscriptionState, "fetch_context"): ["self"],
    (SubscriptionState, "wait_for_assignment"): ["self"],
    (SubscriptionState, "is_assigned"): ["self", "tp"],
}
"""What is called, and by which parameters."""
WORDS = {
    (AIOKafkaConsumer, "__init__"): ["self._subscription =", "self._client ="],
    (AIOKafkaConsumer, "start"): ["self._fetcher = Fetcher(", "self._coordinator ="],
    (Fetcher, "__init__"): ["self._records = collections.OrderedDict()", "self._client = client"],
    (Fetcher, "_fetch_requests_routine"): [
        "self._proc_fetch_request(assignment, node_id, request)",
        "self._wait_consume_future = create_future()",
    ],
    (Fetcher, "_proc_fetch_request"): ["self._client.send(node_id, request)", "request.topics"],
    (FetchResult, "__init__"): ["self._assignment =", "self._partition_records ="],
    (FetchResult, "_update_position"): ["next_fetch_offset"],
    (FetchRequest, "__init__"): ["self._max_bytes =", "self._topics ="],
}
"""What the source of these must hold: attributes that are set there, calls that go through a hook."""


def told(what: str) -> str:
    return HINT.format(version=version("aiokafka"), what=what)


@pytest.mark.parametrize(("owner", "name"), SIGNATURES, ids=lambda part: getattr(part, "__name__", part))
def test_what_is_called_has_the_parameters_that_it_had(owner: type, name: str) -> None:
    method = getattr(owner, name, None)
    assert method is not None, told(f"{owner.__name__}.{name} is gone")
    found = list(inspect.signature(method).parameters)
    assert found == SIGNATURES[owner, name], told(f"{owner.__name__}.{name} takes {found}")


@pytest.mark.parametrize(("owner", "name"), WORDS, ids=lambda part: getattr(part, "__name__", part))
def test_what_is_set_and_hooked_is_where_it_was(owner: type, name: str) -> None:
    source = inspect.getsource(getattr(owner, name))
    missing = [words for words in WORDS[owner, name] if words not in source]
    assert not missing, told(f"{owner.__name__}.{name} has no {missing}")


def test_a_partitions_state_says_where_it_stands() -> None:
    for name in ("position", "has_valid_position"):
        assert hasattr(TopicPartitionState, name), told(f"TopicPartitionState.{name} is gone")
    assert hasattr(fetchers, "FetchError"), told("what a fetch raises is no FetchError any more")


def test_no_other_minor_version_is_installed_by_accident() -> None:
    """The range of pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    (required,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "aiokafka")
    installed = Version(version("aiokafka"))
    assert installed in required.specifier, told("it is outside of the range")
    beyond = Version(f"{installed.major}.{installed.minor + 1}.0")
    assert beyond not in required.specifier, told(f"the range lets {beyond} in, at which nobody looked")
