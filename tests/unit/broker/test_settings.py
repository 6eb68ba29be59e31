"""Kafka's settings by name: what is taken, and each fault told in one sentence that names the fix."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill_broker.listeners import ListenerName
from tidemill_broker.log.configs import TOPIC_CONFIGS
from tidemill_broker.settings import (
    KAFKA_SETTINGS,
    Settings,
    SettingsError,
    parse_kafka_settings,
    read_environment,
)


@pytest.mark.parametrize(
    ("pair", "field", "value"),
    [
        ("num.partitions=6", "num_partitions", 6),
        (" num.partitions = 6 ", "num_partitions", 6),
        ("auto.create.topics.enable=FALSE", "auto_create_topics_enable", False),
        ("log.retention.ms=-1", "log_retention_ms", -1),
        ("log.cleanup.policy=delete,compact", "log_cleanup_policy", "delete,compact"),
        ("log.flush.interval.messages=9223372036854775807", "log_flush_interval_messages", 2**63 - 1),
    ],
)
def test_a_setting_is_taken_by_kafkas_name(pair: str, field: str, value: Any) -> None:
    settings = Settings(**parse_kafka_settings([pair]))
    assert getattr(settings, field) == value
    assert settings.given == {pair.partition("=")[0].strip()}


@pytest.mark.parametrize(
    ("text", "listener", "address"),
    [
        ("PLAINTEXT://kafka.local:19092", "plaintext", ("kafka.local", 19092)),
        ("PLAINTEXT://[::1]:9092", "plaintext", ("::1", 9092)),
        ("", "plaintext", ("127.0.0.1", None)),
        ("PLAINTEXT://a:1, TLS://b:2,IAM://c:3", "tls", ("b", 2)),
        ("PLAINTEXT://a:1, TLS://b:2,IAM://c:3", "scram", ("127.0.0.1", None)),
    ],
)
def test_each_listener_has_its_advertised_address(
    text: str, listener: ListenerName, address: tuple[str, int | None]
) -> None:
    settings = Settings(**parse_kafka_settings([f"advertised.listeners={text}"]))
    assert settings.advertised(listener) == address


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        ("num.partition=6", "did you mean num.partitions"),
        ("zookeeper.connect=x", "no such setting here"),
        ("num.partitions", "write it as name=value"),
        ("num.partitions=", "must be a whole number"),
        ("num.partitions=six", "must be a whole number"),
        ("num.partitions=0", "must be at least 1"),
        ("num.partitions=2147483648", "must be at most 2147483647"),
        ("log.retention.bytes=9223372036854775808", "must be at most 9223372036854775807"),
        ("auto.create.topics.enable=yes", "must be true or false"),
        ("compression.type=brotli", "must be one of uncompressed, zstd, lz4, snappy, gzip, producer"),
        ("log.cleanup.policy=delete,burn", "must be one of delete, compact"),
        ("advertised.listeners=kafka:9092", "must be SCHEME://host:port"),
        ("advertised.listeners=SSL://kafka:9092", "must be SCHEME://host:port"),
        ("advertised.listeners=PLAINTEXT://kafka", "must be SCHEME://host:port"),
        ("advertised.listeners=PLAINTEXT://kafka:99999", "must be SCHEME://host:port"),
        ("advertised.listeners=TLS://a:1,tls://b:2", "TLS is advertised twice"),
    ],
)
def test_a_setting_that_cannot_be_is_rejected(pair: str, fault: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_kafka_settings([pair])
    assert str(raised.value).startswith(f"--set {pair.partition('=')[0]}")
    assert fault in str(raised.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        parse_kafka_settings(
            ["num.partitions=0", "log.segment.bytes=1", "num.io.threads=3", "max.connections=5"]
        )
    assert len(str(raised.value).splitlines()) == 3


def test_a_setting_that_is_given_twice_has_the_last_value() -> None:
    assert Settings(**parse_kafka_settings(["num.partitions=2", "num.partitions=3"])).num_partitions == 3


def test_every_default_keeps_to_its_own_rule() -> None:
    defaults = Settings().kafka_values()
    assert defaults.keys() == KAFKA_SETTINGS.keys()
    for name, row in KAFKA_SETTINGS.items():
        value = defaults[name]
        assert value == row.default
        assert value is None or row.parse(str(value)) == value


def test_a_field_is_named_as_kafka_names_the_setting() -> None:
    for name in KAFKA_SETTINGS:
        assert hasattr(Settings(), name.replace(".", "_"))


@pytest.mark.parametrize("name", sorted(KAFKA_SETTINGS))
def test_every_setting_says_what_it_is_for(name: str) -> None:
    assert len(KAFKA_SETTINGS[name].doc) > 15


def test_settings_that_give_topics_their_defaults_have_the_topic_configs_defaults() -> None:
    """Else a topic would behave differently from what DescribeConfigs of a bare Kafka says."""
    for row in TOPIC_CONFIGS.values():
        for name, factor in row.synonyms:
            setting = KAFKA_SETTINGS.get(name)
            if setting is not None and setting.default is not None:
                same = str(setting.default * factor if factor > 1 else setting.default)
                assert same == row.default, f"{name} and {row.name}"


def test_region_and_account_come_from_where_awss_tools_take_them() -> None:
    assert read_environment({}) == {}
    assert read_environment({"AWS_DEFAULT_REGION": "eu-west-1"}) == {"region": "eu-west-1"}
    both = {
        "AWS_REGION": "eu-north-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "TIDEMILL_ACCOUNT_ID": "111122223333",
    }
    assert read_environment(both) == {"region": "eu-north-1", "account_id": "111122223333"}


@pytest.mark.parametrize("account_id", ["1234", "12345678901x", "1234567890123"])
def test_an_account_has_twelve_digits(account_id: str) -> None:
    with pytest.raises(SettingsError, match="must be 12 digits"):
        read_environment({"TIDEMILL_ACCOUNT_ID": account_id})
