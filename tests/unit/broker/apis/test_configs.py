"""DescribeConfigs, IncrementalAlterConfigs, AlterConfigs: sources, synonyms, operations and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import InnerBroker, inner_broker
from tidemill_broker.log.configs import TOPIC_CONFIGS
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.settings import KAFKA_SETTINGS

DESCRIBE, ALTER, INCREMENTAL_ALTER = 32, 33, 44
TOPIC, BROKER, BROKER_LOGGER, GROUP = 2, 4, 8, 32
DYNAMIC_TOPIC, STATIC_BROKER, DEFAULT = 1, 4, 5
SET, DELETE, APPEND, SUBTRACT = range(4)


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[InnerBroker]:
    with inner_broker(tmp_path, "log.retention.minutes=2") as opened:
        opened.broker.topics.create("flights", partitions=1, configs={"max.message.bytes": "5000"})
        yield opened


def overrides(inner: InnerBroker) -> dict[str, str]:
    flights = inner.broker.topics.get("flights")
    assert flights is not None
    return dict(flights.configs)


def describe(inner: InnerBroker, version: int, kind: int, name: str, **members: Any) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": members.pop("keys", None)}
    (result,) = inner.ask(DESCRIBE, version, resources=[resource], **members).results
    return result


@pytest.mark.parametrize("version", range(1, 5))
def test_every_topic_config_is_described_with_where_it_comes_from(inner: InnerBroker, version: int) -> None:
    result = describe(inner, version, TOPIC, "flights")
    configs = {each.name: each for each in result.configs}
    assert set(configs) == set(TOPIC_CONFIGS)
    expected = {
        "max.message.bytes": ("5000", DYNAMIC_TOPIC),
        "retention.ms": ("120000", STATIC_BROKER),
        "segment.bytes": ("1073741824", DEFAULT),
    }
    for name, (value, source) in expected.items():
        assert (configs[name].value, configs[name].config_source) == (value, source)
        assert not configs[name].read_only
        assert not configs[name].is_sensitive
        assert configs[name].synonyms == ()
    if version >= 3:
        assert configs["retention.ms"].config_type == 5  # a long
        assert configs["retention.ms"].documentation is None


def test_synonyms_are_told_strongest_first(inner: InnerBroker) -> None:
    result = describe(inner, 4, TOPIC, "flights", keys=["max.message.bytes"], include_synonyms=True)
    (config,) = result.configs
    assert [(each.name, each.value, each.source) for each in config.synonyms] == [
        ("max.message.bytes", "5000", DYNAMIC_TOPIC),
        ("message.max.bytes", "1048588", DEFAULT),
    ]


def test_a_synonym_is_told_in_its_own_unit_and_all_that_are_set(inner: InnerBroker) -> None:
    (config,) = describe(inner, 4, TOPIC, "flights", keys=["retention.ms"], include_synonyms=True).configs
    assert config.value == "120000"
    assert [(each.name, each.value, each.source) for each in config.synonyms] == [
        ("log.retention.minutes", "2", STATIC_BROKER),
        ("log.retention.hours", "168", DEFAULT),
    ], "retention.ms takes the first; hours and minutes are what the operator wrote"
    (config,) = describe(inner, 4, TOPIC, "flights", keys=["preallocate"], include_synonyms=True).configs
    assert config.synonyms == ()


def test_a_setting_that_was_given_tells_its_default_behind_it(tmp_path: Path) -> None:
    with inner_broker(tmp_path, "num.partitions=4") as inner:
        (config,) = describe(inner, 4, BROKER, "1", keys=["num.partitions"], include_synonyms=True).configs
    assert [(each.value, each.source) for each in config.synonyms] == [("4", STATIC_BROKER), ("1", DEFAULT)]


def test_documentation_is_told_to_those_who_ask(inner: InnerBroker) -> None:
    result = describe(inner, 4, BROKER, "1", keys=["num.partitions"], include_documentation=True)
    assert "partitions" in result.configs[0].documentation


def test_an_empty_list_of_names_means_all_as_older_clients_send_it(inner: InnerBroker) -> None:
    assert len(describe(inner, 1, TOPIC, "flights", keys=[]).configs) == len(TOPIC_CONFIGS)


def test_the_brokers_settings_are_described_and_read_only(inner: InnerBroker) -> None:
    configs = {each.name: each for each in describe(inner, 4, BROKER, "1").configs}
    assert set(configs) == set(KAFKA_SETTINGS)
    assert all(each.read_only for each in configs.values())
    assert configs["log.retention.minutes"].config_source == STATIC_BROKER
    assert (configs["log.retention.ms"].value, configs["auto.create.topics.enable"].value) == (None, "true")
    assert describe(inner, 4, BROKER, "").configs == (), "the cluster's dynamic default has nothing set"


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "ghost", ErrorCode.unknown_topic_or_partition),
        (BROKER, "2", ErrorCode.invalid_request),
        (BROKER, "one", ErrorCode.invalid_request),
        (BROKER_LOGGER, "1", ErrorCode.invalid_request),
        (GROUP, "g", ErrorCode.invalid_request),
        (99, "x", ErrorCode.invalid_request),
    ],
)
def test_what_has_no_configs_is_rejected(inner: InnerBroker, kind: int, name: str, code: ErrorCode) -> None:
    result = describe(inner, 4, kind, name)
    assert (result.error_code, result.configs) == (code, ())
    assert result.error_message
    for key in (ALTER, INCREMENTAL_ALTER):
        assert alter(inner, key, [], kind=kind, name=name).error_code is code


def alter(
    inner: InnerBroker,
    key: int,
    configs: list[dict[str, Any]],
    *,
    version: int = 1,
    kind: int = TOPIC,
    name: str = "flights",
    validate_only: bool = False,
) -> Any:
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    return inner.ask(key, version, resources=[resource], validate_only=validate_only).responses[0]


def change(operation: int, name: str, value: str | None = None) -> dict[str, Any]:
    return {"name": name, "config_operation": operation, "value": value}


@pytest.mark.parametrize("version", [0, 1])
def test_single_configs_are_set_and_deleted(inner: InnerBroker, version: int) -> None:
    changes = [change(SET, "retention.ms", "7000"), change(DELETE, "max.message.bytes")]
    assert alter(inner, INCREMENTAL_ALTER, changes, version=version).error_code is ErrorCode.none
    assert overrides(inner) == {"retention.ms": "7000"}


def test_lists_are_appended_to_and_subtracted_from(inner: InnerBroker) -> None:
    alter(inner, INCREMENTAL_ALTER, [change(APPEND, "cleanup.policy", "compact")])
    assert overrides(inner)["cleanup.policy"] == "delete,compact", "beginning with the default"
    alter(inner, INCREMENTAL_ALTER, [change(APPEND, "cleanup.policy", "compact")])
    assert overrides(inner)["cleanup.policy"] == "delete,compact", "and nothing twice"
    alter(inner, INCREMENTAL_ALTER, [change(SUBTRACT, "cleanup.policy", "delete")])
    assert overrides(inner)["cleanup.policy"] == "compact"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ([change(SET, "retention.ms", "x")], ErrorCode.invalid_config, "not a number"),
        ([change(SET, "retention.ms", "-2")], ErrorCode.invalid_config, "at least -1"),
        ([change(SET, "no.such", "1")], ErrorCode.invalid_config, "no.such"),
        ([change(DELETE, "no.such")], ErrorCode.invalid_config, "no.such"),
        ([change(SET, "retention.ms")], ErrorCode.invalid_request, "Null value"),
        ([change(APPEND, "retention.ms", "1")], ErrorCode.invalid_config, "not LIST"),
        ([change(APPEND, "cleanup.policy")], ErrorCode.invalid_request, "Null value"),
        ([change(9, "retention.ms", "1")], ErrorCode.invalid_request, "no config operation 9"),
        ([change(SET, "retention.ms", "1")] * 2, ErrorCode.invalid_request, "more than once"),
        (
            [change(SET, "retention.ms", "1"), change(SET, "cleanup.policy", "burn")],
            ErrorCode.invalid_config,
            "cleanup.policy",
        ),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(
    inner: InnerBroker, changes: list[dict[str, Any]], code: ErrorCode, words: str
) -> None:
    result = alter(inner, INCREMENTAL_ALTER, changes)
    assert result.error_code is code
    assert words in result.error_message
    assert overrides(inner) == {"max.message.bytes": "5000"}


@pytest.mark.parametrize("version", range(3))
def test_alter_configs_replaces_all_overrides(inner: InnerBroker, version: int) -> None:
    result = alter(inner, ALTER, [{"name": "retention.ms", "value": "9000"}], version=version)
    assert result.error_code is ErrorCode.none
    assert overrides(inner) == {"retention.ms": "9000"}


@pytest.mark.parametrize("key", [ALTER, INCREMENTAL_ALTER])
def test_validate_only_changes_nothing(inner: InnerBroker, key: int) -> None:
    asked = {"name": "retention.ms", "value": "9000"} | ({} if key == ALTER else {"config_operation": SET})
    assert alter(inner, key, [asked], validate_only=True).error_code is ErrorCode.none
    assert overrides(inner) == {"max.message.bytes": "5000"}


def test_the_brokers_settings_cannot_be_changed_while_it_runs(inner: InnerBroker) -> None:
    result = alter(inner, INCREMENTAL_ALTER, [change(SET, "num.partitions", "3")], kind=BROKER, name="1")
    assert result.error_code is ErrorCode.invalid_request
    assert "--set" in result.error_message


def test_a_resource_that_is_named_twice_is_rejected_both_times(inner: InnerBroker) -> None:
    resource = {
        "resource_type": TOPIC,
        "resource_name": "flights",
        "configs": [change(SET, "retention.ms", "1")],
    }
    reply = inner.ask(INCREMENTAL_ALTER, 1, resources=[resource, resource])
    assert {each.error_code for each in reply.responses} == {ErrorCode.invalid_request}
    asked = {"resource_type": TOPIC, "resource_name": "flights", "configuration_keys": None}
    described = inner.ask(DESCRIBE, 4, resources=[asked, asked])
    assert {each.error_code for each in described.results} == {ErrorCode.invalid_request}
    assert overrides(inner) == {"max.message.bytes": "5000"}


@pytest.mark.parametrize(("key", "version"), [(33, 2), (44, 1)])
@pytest.mark.parametrize("validate_only", [True, False])
def test_no_client_changes_the_configs_of_an_internal_topic(
    inner: InnerBroker, key: int, version: int, *, validate_only: bool
) -> None:
    topic = inner.broker.topics.create("__consumer_offsets", partitions=1, internal=True)
    change = {"name": "cleanup.policy", "value": "delete", "config_operation": 0}
    if key == 33:
        del change["config_operation"]
    resource = {"resource_type": 2, "resource_name": "__consumer_offsets", "configs": [change]}
    (altered,) = inner.ask(key, version, resources=[resource], validate_only=validate_only).responses
    assert altered.error_code is ErrorCode.invalid_request
    assert "belongs to the broker" in altered.error_message
    assert topic.configs == {}


def test_a_client_gets_segments_of_a_mebibyte_at_least(inner: InnerBroker) -> None:
    """Kafka 4's floor: each segment is a file."""
    small, enough = (
        {"name": "segment.bytes", "value": str(bytes_), "config_operation": 0}
        for bytes_ in (2**20 - 1, 2**20)
    )
    old = inner.broker.topics.create("old", partitions=1, configs={"segment.bytes": "100"})
    topic = inner.broker.topics.create("t", partitions=1)

    def altered(name: str, *configs: dict[str, Any]) -> ErrorCode:
        resource = {"resource_type": 2, "resource_name": name, "configs": list(configs)}
        (response,) = inner.ask(44, 1, resources=[resource], validate_only=False).responses
        error: ErrorCode = response.error_code
        return error

    assert altered("t", small) is ErrorCode.invalid_config
    assert altered("t", enough) is ErrorCode.none
    assert topic.configs == {"segment.bytes": str(2**20)}
    assert altered("old", {"name": "retention.ms", "value": "5", "config_operation": 0}) is ErrorCode.none
    assert old.configs == {"segment.bytes": "100", "retention.ms": "5"}
    asked = {
        "name": "n",
        "num_partitions": 1,
        "replication_factor": 1,
        "configs": [{"name": "segment.bytes", "value": "14"}],
    }
    (created,) = inner.ask(19, 5, topics=[asked]).topics
    assert created.error_code is ErrorCode.invalid_config
    assert "must be at least 1048576" in created.error_message
