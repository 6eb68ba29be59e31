"""Whatever JSON a client sends, the control API accepts it or refuses it: no call is a fault of ours."""

from __future__ import annotations

import json
from collections import abc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.http_thread import serving
from tests.fakes.kafka_access import secrets_are_fine
from tests.fakes.lambda_functions import FakeFunctions
from tidemill_poller.control_api import application
from tidemill_poller.mapping import State
from tidemill_poller.settings import Settings
from tidemill_poller.store import MappingStore

PATH = "/2015-03-31/event-source-mappings"
MSK = "arn:aws:kafka:us-east-1:123456789012:cluster/c/0a-1"

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(st.integers(0, 1), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 1), max_size=2),
)


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(values), junk)


def block(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.fixed_dictionaries({}, optional=members), junk)


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(one, max_size=3), junk)


group = block(
    ConsumerGroupId=some("g", ""),
    SchemaRegistryConfig=some({}, {"SchemaRegistryURI": "x"}),
    ConsumptionMode=some("Stream", "Queue"),
)
destination = some(
    "", "kafka://t", "kafka://orders", "arn:aws:sqs:us-east-1:123456789012:q", "arn:a:b:::", "$"
)
kinds = some(
    "VPC_SUBNET", "VPC_SECURITY_GROUP", "BASIC_AUTH", "IAM_AUTH", "VIRTUAL_HOST", "OAUTHBEARER_SCOPE"
)
FIELDS = {
    "FunctionName": some("f", "f:1", "absent", "arn:aws:lambda:us-east-1:123456789012:function:f", "a:b:c:d"),
    "EventSourceArn": some(MSK, "arn:aws:kafka:::", "arn:aws:sqs:us-east-1:123456789012:q", ""),
    "SelfManagedEventSource": block(
        Endpoints=block(KAFKA_BOOTSTRAP_SERVERS=several(some("b:9092", "b:0", "b:99999")))
    ),
    "Topics": several(some("orders", ".", "")),
    "Enabled": junk,
    "BatchSize": some(1, 10_000, 0),
    "MaximumBatchingWindowInSeconds": some(0, 300, 301),
    "StartingPosition": some("LATEST", "AT_TIMESTAMP", "x"),
    "StartingPositionTimestamp": some(0, 1, -1, 1e300, 1e18, 4_000_000_000),
    "MaximumRetryAttempts": some(-1, 3),
    "MaximumRecordAgeInSeconds": some(-1, 0, 60),
    "BisectBatchOnFunctionError": junk,
    "FunctionResponseTypes": several(some("ReportBatchItemFailures")),
    "ProvisionedPollerConfig": block(
        MinimumPollers=some(1, 200), MaximumPollers=some(1, 2001), PollerGroupName=some("g", "")
    ),
    "FilterCriteria": block(
        Filters=several(block(Pattern=some("{}", '{"value": ["x"]}', '{"value": {"a": [{"prefix": 1}]}}')))
    ),
    "DestinationConfig": block(
        OnFailure=block(Destination=destination), OnSuccess=block(Destination=destination)
    ),
    "SourceAccessConfigurations": several(
        block(Type=kinds, URI=some("subnet:subnet-1", "security_group:sg-1"))
    ),
    "AmazonManagedKafkaEventSourceConfig": group,
    "SelfManagedKafkaEventSourceConfig": group,
    "Tags": some({"a": "b"}, {"aws:a": "b"}),
    "KMSKeyArn": some(""),
    "MetricsConfig": block(Metrics=several(some("EventCount"))),
    "LoggingConfig": block(SystemLogLevel=some("INFO")),
    "ScalingConfig": block(MaximumConcurrency=some(2)),
    "Queues": several(some("q")),
}
calls = st.one_of(
    st.fixed_dictionaries({}, optional=FIELDS),
    # Sound calls with one or two fields replaced come further.
    st.tuples(
        st.just({"FunctionName": "f", "EventSourceArn": MSK, "Topics": ["orders"]}),
        st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=2, unique=True).flatmap(
            lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
        ),
    ).map(lambda parts: {**parts[0], **parts[1]}),
)


@pytest.fixture(scope="module")
def served() -> abc.Iterator[tuple[str, MappingStore]]:
    with TemporaryDirectory() as directory:
        where = Path(directory)

        def make() -> Any:
            functions = FakeFunctions({"f": 30, "f:1": 30})
            return application(MappingStore(where), functions, Settings(), secrets_are_fine)

        with serving(make) as url:
            store = MappingStore(where)
            yield url, store
            store.close()


def status_of(url: str, method: str, call: Any) -> int:
    request = Request(url, data=json.dumps(call).encode(), method=method)
    try:
        with urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except HTTPError as error:
        rejection, status = json.load(error), error.code
    assert rejection["message"]
    return status


@settings(max_examples=400, deadline=None)
@given(call=calls)
def test_any_create_is_accepted_or_rejected(served: tuple[str, MappingStore], call: dict[str, Any]) -> None:
    url, store = served
    before = store.all()
    status = status_of(url + PATH, "POST", call)
    after = store.all()
    assert (status, len(after)) in ((202, len(before) + 1), (400, len(before)), (409, len(before)))
    for mapping in after:
        store.delete(mapping.uuid)


@settings(max_examples=300, deadline=None)
@given(call=calls)
def test_any_update_is_accepted_or_rejected(served: tuple[str, MappingStore], call: dict[str, Any]) -> None:
    url, store = served
    assert (
        status_of(url + PATH, "POST", {"FunctionName": "f", "EventSourceArn": MSK, "Topics": ["t-0"]}) == 202
    )
    [created] = store.all()
    store.set_status(created.uuid, state=State.ENABLED)
    before = store.get(created.uuid)
    status = status_of(f"{url}{PATH}/{created.uuid}", "PUT", call)
    assert status in (202, 400)
    assert (store.get(created.uuid) == before) == (status == 400)
    store.delete(created.uuid)
