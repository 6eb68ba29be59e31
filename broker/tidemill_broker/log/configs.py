"""The topic configs: one table of names, types, defaults and ranges, as Kafka's TopicConfig has them.

Topics validate against it, DescribeConfigs lists it, and the core gets the few values that it obeys. A config
that is accepted without effect here says so in `remark`; nothing unknown is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from typing import Final

from tidemill_broker._core import LogConfig
from tidemill_broker.log.errors import InvalidConfig

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1
DAY_MS: Final = 24 * 60 * 60 * 1000
MINUTE_MS: Final = 60 * 1000
HOUR_MS: Final = 60 * MINUTE_MS


class ConfigType(IntEnum):
    """The type codes of DescribeConfigs (org.apache.kafka.clients.admin.ConfigEntry.ConfigType)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """One row of the table.

    `synonyms` are the broker settings that give the default, strongest first, each with the factor to the
    config's unit (`log.retention.hours` counts hours, `retention.ms` milliseconds).
    """

    name: str
    type: ConfigType
    default: str
    synonyms: tuple[tuple[str, int], ...] = ()
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    remark: str = ""


def _row(
    name: str, kind: ConfigType, default: object, *synonyms: str | tuple[str, int], **rest: object
) -> TopicConfig:
    pairs = tuple((synonym, 1) if isinstance(synonym, str) else synonym for synonym in synonyms)
    return TopicConfig(name=name, type=kind, default=str(default), synonyms=pairs, **rest)  # type: ignore[arg-type]  # rows below are checked by the tests


_KEPT: Final = "Accepted; batches are kept as the producer compressed them."
_NO_COMPACTION: Final = "Accepted; compaction is not built yet, so a compacted topic keeps every record."
_ONE_NODE: Final = "Accepted; there is one replica to this broker."
_NO_TIERS: Final = "Accepted as false only; tiered storage is not built yet."
_LIST, _STRING, _BOOLEAN = ConfigType.LIST, ConfigType.STRING, ConfigType.BOOLEAN
_INT, _LONG, _DOUBLE = ConfigType.INT, ConfigType.LONG, ConfigType.DOUBLE

_ROWS: Final = (
    _row("cleanup.policy", _LIST, "delete", "log.cleanup.policy", choices=("compact", "delete")),
    _row("compression.gzip.level", _INT, -1, "compression.gzip.level", least=-1, most=9, remark=_KEPT),
    _row("compression.lz4.level", _INT, 9, "compression.lz4.level", least=1, most=17, remark=_KEPT),
    _row(
        "compression.type",
        _STRING,
        "producer",
        "compression.type",
        choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        remark=_KEPT,
    ),
    _row("compression.zstd.level", _INT, 3, "compression.zstd.level", least=-131072, most=22, remark=_KEPT),
    _row(
        "delete.retention.ms",
        _LONG,
        DAY_MS,
        "log.cleaner.delete.retention.ms",
        least=0,
        remark=_NO_COMPACTION,
    ),
    _row(
        "file.delete.delay.ms",
        _LONG,
        MINUTE_MS,
        "log.segment.delete.delay.ms",
        least=0,
        remark="Accepted; files go at once.",
    ),
    _row("flush.messages", _LONG, LONG_MAX, "log.flush.interval.messages", least=1),
    _row(
        "flush.ms",
        _LONG,
        LONG_MAX,
        "log.flush.interval.ms",
        least=0,
        remark="Accepted; the checkpoint flushes by time.",
    ),
    _row("follower.replication.throttled.replicas", _LIST, "", remark=_ONE_NODE),
    _row("index.interval.bytes", _INT, 4096, "log.index.interval.bytes", least=0),
    _row("leader.replication.throttled.replicas", _LIST, "", remark=_ONE_NODE),
    _row("local.retention.bytes", _LONG, -2, least=-2, remark="Accepted; nothing is tiered."),
    _row("local.retention.ms", _LONG, -2, least=-2, remark="Accepted; nothing is tiered."),
    _row(
        "max.compaction.lag.ms",
        _LONG,
        LONG_MAX,
        "log.cleaner.max.compaction.lag.ms",
        least=1,
        remark=_NO_COMPACTION,
    ),
    _row("max.message.bytes", _INT, 1048588, "message.max.bytes", least=0),
    _row("message.timestamp.after.max.ms", _LONG, HOUR_MS, "log.message.timestamp.after.max.ms", least=0),
    _row("message.timestamp.before.max.ms", _LONG, LONG_MAX, "log.message.timestamp.before.max.ms", least=0),
    _row(
        "message.timestamp.type",
        _STRING,
        "CreateTime",
        "log.message.timestamp.type",
        choices=("CreateTime", "LogAppendTime"),
    ),
    _row(
        "min.cleanable.dirty.ratio",
        _DOUBLE,
        0.5,
        "log.cleaner.min.cleanable.ratio",
        least=0,
        most=1,
        remark=_NO_COMPACTION,
    ),
    _row(
        "min.compaction.lag.ms", _LONG, 0, "log.cleaner.min.compaction.lag.ms", least=0, remark=_NO_COMPACTION
    ),
    _row("min.insync.replicas", _INT, 1, "min.insync.replicas", least=1, remark=_ONE_NODE),
    _row(
        "preallocate",
        _BOOLEAN,
        "false",
        "log.preallocate",
        remark="Accepted; segments grow as they are written.",
    ),
    _row("remote.log.copy.disable", _BOOLEAN, "false", remark="Accepted; nothing is tiered."),
    _row("remote.log.delete.on.disable", _BOOLEAN, "false", remark="Accepted; nothing is tiered."),
    _row("remote.storage.enable", _BOOLEAN, "false", choices=("false",), remark=_NO_TIERS),
    _row("retention.bytes", _LONG, -1, "log.retention.bytes", least=-1),
    _row(
        "retention.ms",
        _LONG,
        7 * DAY_MS,
        "log.retention.ms",
        ("log.retention.minutes", MINUTE_MS),
        ("log.retention.hours", HOUR_MS),
        least=-1,
    ),
    # The broker's own setting may be less, as in Kafka 3; for clients see CLIENTS_LEAST.
    _row("segment.bytes", _INT, 2**30, "log.segment.bytes", least=14, most=INT_MAX),
    _row(
        "segment.index.bytes",
        _INT,
        10 * 2**20,
        "log.index.size.max.bytes",
        least=4,
        remark="Accepted; indexes grow as needed.",
    ),
    _row(
        "segment.jitter.ms",
        _LONG,
        0,
        "log.roll.jitter.ms",
        ("log.roll.jitter.hours", HOUR_MS),
        least=0,
        remark="Accepted; one broker rolls without jitter.",
    ),
    _row("segment.ms", _LONG, 7 * DAY_MS, "log.roll.ms", ("log.roll.hours", HOUR_MS), least=1),
    _row(
        "unclean.leader.election.enable",
        _BOOLEAN,
        "false",
        "unclean.leader.election.enable",
        remark=_ONE_NODE,
    ),
)

# Kafka 4's floor (LogConfig): with 14 bytes each record would be a segment, a file that is opened and kept.
CLIENTS_LEAST: Final = {"segment.bytes": 1024 * 1024}

TOPIC_CONFIGS: Final[Mapping[str, TopicConfig]] = {row.name: row for row in _ROWS}


def validate(configs: Mapping[str, str]) -> None:
    """Check every config. Raises InvalidConfig for the first that is unknown or out of range."""
    for name, value in configs.items():
        row = TOPIC_CONFIGS.get(name)
        if row is None:
            near = get_close_matches(name, TOPIC_CONFIGS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidConfig(name, f"Unknown topic config name: {name}{hint}")
        fault = _fault(row, value)
        if fault:
            raise InvalidConfig(name, f"Invalid value {value} for configuration {name}: {fault}")


def validate_for_clients(configs: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Check what a client asks for, also against the least values that the broker itself may go below.

    What a topic has already (`present`) may stay. Raises InvalidConfig.
    """
    validate(configs)
    for name, least in CLIENTS_LEAST.items():
        value = configs.get(name)
        if value is not None and value != present.get(name) and int(value) < least:
            raise InvalidConfig(
                name, f"Invalid value {value} for configuration {name}: must be at least {least}"
            )


def effective(overrides: Mapping[str, str], broker: Mapping[str, object]) -> dict[str, str]:
    """Return every topic config's value: the topic's own, else the broker setting's, else the default."""
    return {name: value(row, overrides, broker) for name, row in TOPIC_CONFIGS.items()}


def value(row: TopicConfig, overrides: Mapping[str, str], broker: Mapping[str, object]) -> str:
    """One config's effective value."""
    own = overrides.get(row.name)
    return default(row, broker) if own is None else own


def default(row: TopicConfig, broker: Mapping[str, object]) -> str:
    """What a topic without the config has: the strongest broker setting that is set, else Kafka's default."""
    for name, factor in row.synonyms:
        setting = broker.get(name)
        if setting is not None:
            return _scaled(setting, factor)
    return row.default


def log_config(
    overrides: Mapping[str, str], broker: Mapping[str, object], *, internal: bool = False
) -> LogConfig:
    """Return the values that the core obeys.

    Retention deletes nothing from an internal topic, whatever its configs or the broker's defaults say: its
    records are the state of all groups (docs/decisions/0301).
    """
    values = effective(overrides, broker)
    policies = _items(values["cleanup.policy"])
    expiration = broker.get("producer.id.expiration.ms")
    return LogConfig(
        segment_bytes=int(values["segment.bytes"]),
        segment_ms=int(values["segment.ms"]),
        index_interval_bytes=int(values["index.interval.bytes"]),
        retention_ms=-1 if internal else int(values["retention.ms"]),
        retention_bytes=-1 if internal else int(values["retention.bytes"]),
        delete="delete" in policies and not internal,
        compact="compact" in policies,
        max_message_bytes=int(values["max.message.bytes"]),
        log_append_time=values["message.timestamp.type"] == "LogAppendTime",
        timestamp_before_max_ms=int(values["message.timestamp.before.max.ms"]),
        timestamp_after_max_ms=int(values["message.timestamp.after.max.ms"]),
        flush_messages=int(values["flush.messages"]),
        producer_expiration_ms=DAY_MS if expiration is None else int(str(expiration)),
    )


def _scaled(setting: object, factor: int) -> str:
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, str) or factor == 1:
        number = str(setting)
        if factor == 1:
            return number
        setting = int(number)
    count = int(str(setting))
    # A negative duration means "never" in every unit.
    return str(count if count < 0 else count * factor)


def _fault(row: TopicConfig, text: str) -> str | None:
    if row.type is ConfigType.LIST:
        return _choice_fault(row, _items(text))
    if row.type in (ConfigType.BOOLEAN, ConfigType.STRING):
        choices = row.choices or (("true", "false") if row.type is ConfigType.BOOLEAN else ())
        return None if text in choices else f"must be one of {', '.join(choices)}"
    return _number_fault(row, text)


def _choice_fault(row: TopicConfig, items: Sequence[str]) -> str | None:
    if not row.choices or all(item in row.choices for item in items):
        return None
    return f"must be a list of {', '.join(row.choices)}"


def _number_fault(row: TopicConfig, text: str) -> str | None:
    try:
        number = float(text) if row.type is ConfigType.DOUBLE else int(text)
    except ValueError:
        return "not a number"
    if math.isnan(number):
        return "not a number"
    limit = INT_MAX if row.type is ConfigType.INT else LONG_MAX
    if row.least is not None and number < row.least:
        return f"must be at least {row.least:g}"
    if number > (limit if row.most is None else row.most):
        return f"must be at most {limit if row.most is None else int(row.most)}"
    return None


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
