"""The broker's settings: its flags, and Kafka's own broker configuration by `--set name=value`; frozen.

A Kafka setting is a field here whose name has `_` for `.`; its row (Kafka's name, type, range, meaning) hangs
on the field. All faults are reported together.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from tidemill_broker.errors import BrokerError
from tidemill_broker.listeners import PORTS, ListenerName, parse_advertised

Kind = Literal["boolean", "int", "long", "string", "list"]

CONTROL_PORT: Final = 4583  # the MSK API's, if no other is asked for
INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
_ROW: Final = "kafka"
_ACCOUNT_ID: Final = re.compile(r"\d{12}")


class SettingsError(BrokerError, ValueError):
    """Settings that cannot be used; one line for each fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A row of Kafka's broker configuration. `default` None means: not set, a coarser unit decides."""

    name: str
    kind: Kind
    default: Any
    doc: str
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> bool | int | str:
        """Read a value given as text. Raises ValueError with what is expected."""
        if self.kind == "boolean":
            return _boolean(text)
        if self.kind in ("int", "long"):
            return self._number(text)
        self._choose(text)
        return text

    def _number(self, text: str) -> int:
        most = self.most if self.most is not None else INT_MAX if self.kind == "int" else LONG_MAX
        try:
            number = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if number > most:
            raise ValueError(f"must be at most {most}")
        if self.least is not None and number < self.least:
            raise ValueError(f"must be at least {self.least}")
        return number

    def _choose(self, text: str) -> None:
        values = [part.strip() for part in text.split(",")] if self.kind == "list" else [text]
        if self.choices and not set(values) <= set(self.choices):
            raise ValueError(f"must be one of {', '.join(self.choices)}")


def _kafka(name: str, kind: Kind, default: object, doc: str, **limits: Any) -> Any:
    row = Setting(name=name, kind=kind, default=default, doc=doc, **limits)
    return field(default=default, metadata={_ROW: row})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a broker is given. The defaults are Kafka's; each departure says so in its meaning."""

    host: str = "127.0.0.1"
    port: int = 9092
    listeners: Mapping[ListenerName, int | None] = field(default_factory=dict)  # as --listener named them
    tls_dir: Path | None = None  # what init-tls made
    control_port: int | None = None  # None: CONTROL_PORT, or a free one where that is taken
    data_dir: Path = Path(".tidemill/broker")
    ready_file: Path | None = None
    region: str = "us-east-1"
    account_id: str = "123456789012"
    given: frozenset[str] = frozenset()  # the names that --set named

    advertised_listeners: str = _kafka(
        "advertised.listeners",
        "string",
        "",
        "What clients are told to connect to: PLAINTEXT://host:port,TLS://host:port,SCRAM://…,IAM://…;"
        " listeners that are left out tell the address that they listen on.",
    )
    allow_everyone_if_no_acl_found: bool = _kafka(
        "allow.everyone.if.no.acl.found",
        "boolean",
        True,  # noqa: FBT003 - the default itself
        "Whether who is no IAM principal may use a resource without ACLs. (MSK's default; Kafka's is false.)",
    )
    auto_create_topics_enable: bool = _kafka(
        "auto.create.topics.enable",
        "boolean",
        True,  # noqa: FBT003 - the default itself
        "Create a topic when a client first asks for it. (MSK's default is false.)",
    )
    compression_type: str = _kafka(
        "compression.type",
        "string",
        "producer",
        "The default of the topic config compression.type; batches are kept as they came.",
        choices=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
    )
    connection_failed_authentication_delay_ms: int = _kafka(
        "connection.failed.authentication.delay.ms",
        "int",
        100,
        "How long a connection that failed to log in waits for its answer and its end.",
        least=0,
        most=5_000,
    )
    connections_max_idle_ms: int = _kafka(
        "connections.max.idle.ms", "long", 600_000, "Close a connection that was idle for so long.", least=-1
    )
    connections_max_reauth_ms: int = _kafka(
        "connections.max.reauth.ms",
        "long",
        0,
        "A SASL session must authenticate again after so long; 0: when its credentials expire.",
        least=0,
    )
    default_replication_factor: int = _kafka(
        "default.replication.factor",
        "int",
        1,
        "The replication factor of topics whose creator leaves it open; reported, one node holds the data.",
        least=1,
        most=60,
    )
    fetch_max_bytes: int = _kafka(
        "fetch.max.bytes", "int", 55 * 1024 * 1024, "The most bytes that one Fetch returns.", least=1024
    )
    group_initial_rebalance_delay_ms: int = _kafka(
        "group.initial.rebalance.delay.ms",
        "int",
        0,
        "How long an empty group waits for more members. Kafka's 3000 only costs time on one machine.",
        least=0,
    )
    group_max_session_timeout_ms: int = _kafka(
        "group.max.session.timeout.ms", "int", 1_800_000, "The longest session timeout of a member.", least=1
    )
    group_max_size: int = _kafka(
        "group.max.size", "int", 1_000, "The most members of a group. (Kafka sets no limit.)", least=1
    )
    group_min_session_timeout_ms: int = _kafka(
        "group.min.session.timeout.ms", "int", 6_000, "The shortest session timeout of a member.", least=1
    )
    log_cleanup_policy: str = _kafka(
        "log.cleanup.policy",
        "list",
        "delete",
        "The default of the topic config cleanup.policy.",
        choices=("delete", "compact"),
    )
    log_flush_interval_messages: int = _kafka(
        "log.flush.interval.messages",
        "long",
        LONG_MAX,
        "Flush to the disk after so many records; 1: before each acknowledgement.",
        least=1,
    )
    log_flush_offset_checkpoint_interval_ms: int = _kafka(
        "log.flush.offset.checkpoint.interval.ms",
        "int",
        60_000,
        "How often the log notes how far it is safe on disk; recovery after a crash scans from there.",
        least=1,
    )
    log_index_interval_bytes: int = _kafka(
        "log.index.interval.bytes", "int", 4096, "Bytes of log between two entries of its indexes.", least=0
    )
    log_message_timestamp_after_max_ms: int = _kafka(
        "log.message.timestamp.after.max.ms",
        "long",
        3_600_000,
        "How far in the future a record may be.",
        least=0,
    )
    log_message_timestamp_before_max_ms: int = _kafka(
        "log.message.timestamp.before.max.ms",
        "long",
        LONG_MAX,
        "How far in the past a record may be.",
        least=0,
    )
    log_message_timestamp_type: str = _kafka(
        "log.message.timestamp.type",
        "string",
        "CreateTime",
        "Whether records carry their producer's time or the broker's.",
        choices=("CreateTime", "LogAppendTime"),
    )
    log_retention_bytes: int = _kafka(
        "log.retention.bytes", "long", -1, "How many bytes a partition keeps; -1: no limit.", least=-1
    )
    log_retention_check_interval_ms: int = _kafka(
        "log.retention.check.interval.ms", "long", 300_000, "How often retention is looked after.", least=1
    )
    log_retention_hours: int = _kafka(
        "log.retention.hours", "int", 168, "How long records are kept, in hours; -1: for ever.", least=-1
    )
    log_retention_minutes: int | None = _kafka(
        "log.retention.minutes", "int", None, "How long, in minutes; goes before hours.", least=-1
    )
    log_retention_ms: int | None = _kafka(
        "log.retention.ms", "long", None, "How long, in milliseconds; goes before minutes.", least=-1
    )
    log_roll_hours: int = _kafka(
        "log.roll.hours", "int", 168, "The age at which a new segment begins, in hours.", least=1
    )
    log_roll_ms: int | None = _kafka(
        "log.roll.ms", "long", None, "The same in milliseconds; goes before hours.", least=1
    )
    log_segment_bytes: int = _kafka(
        "log.segment.bytes", "int", 2**30, "The size at which a new segment begins.", least=14
    )
    max_connections: int = _kafka(
        "max.connections",
        "int",
        INT_MAX,
        "The most connections at a time; more are closed at once, and those above half of the open files.",
        least=0,
    )
    max_request_partition_size_limit: int = _kafka(
        "max.request.partition.size.limit",
        "int",
        2000,
        "The most partitions that one DescribeTopicPartitions answer holds.",
        least=1,
    )
    message_max_bytes: int = _kafka(
        "message.max.bytes", "int", 1_048_588, "The largest record batch, as it lies in the log.", least=0
    )
    min_insync_replicas: int = _kafka(
        "min.insync.replicas",
        "int",
        1,
        "The default of the topic config; one node is always in sync.",
        least=1,
    )
    num_partitions: int = _kafka(
        "num.partitions", "int", 1, "The partitions of topics whose creator leaves it open.", least=1
    )
    offset_metadata_max_bytes: int = _kafka(
        "offset.metadata.max.bytes", "int", 4096, "The longest text beside a committed offset.", least=0
    )
    offsets_retention_check_interval_ms: int = _kafka(
        "offsets.retention.check.interval.ms", "long", 600_000, "How often offsets are expired.", least=1
    )
    offsets_retention_minutes: int = _kafka(
        "offsets.retention.minutes", "int", 10_080, "How long an empty group keeps its offsets.", least=1
    )
    offsets_topic_num_partitions: int = _kafka(
        "offsets.topic.num.partitions",
        "int",
        1,
        "The partitions of __consumer_offsets. Kafka's 50 spread groups over brokers; here is one.",
        least=1,
    )
    producer_id_expiration_ms: int = _kafka(
        "producer.id.expiration.ms",
        "int",
        86_400_000,
        "How long an idle producer's sequence is known.",
        least=1,
    )
    sasl_enabled_mechanisms: str = _kafka(
        "sasl.enabled.mechanisms",
        "list",
        "SCRAM-SHA-512,SCRAM-SHA-256",
        "What the scram listener offers; PLAIN may be added: the listener is always TLS.",
        choices=("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"),
    )
    sasl_server_max_receive_size: int = _kafka(
        "sasl.server.max.receive.size",
        "int",
        16_384,
        "The largest request of a connection that has not logged in. (Kafka's default is 512 KiB.)",
        least=1_024,
        most=1024 * 1024,
    )
    socket_request_max_bytes: int = _kafka(
        "socket.request.max.bytes",
        "int",
        104_857_600,
        "The largest request; a larger one ends its connection.",
        least=1,
    )
    ssl_client_auth: str = _kafka(
        "ssl.client.auth",
        "string",
        "requested",
        "Whether the tls listener asks for a client's certificate; one that is shown must verify."
        " (Kafka's default is none.)",
        choices=("none", "requested", "required"),
    )
    ssl_keystore_location: str = _kafka(
        "ssl.keystore.location",
        "string",
        "",
        "PEM file of the broker's private key and certificate chain; empty: broker.pem in --tls-dir.",
    )
    ssl_principal_mapping_rules: str = _kafka(
        "ssl.principal.mapping.rules",
        "string",
        "DEFAULT",
        "How a certificate's name becomes a user: RULE:regex/replacement/[L|U], the first that matches.",
    )
    ssl_truststore_location: str = _kafka(
        "ssl.truststore.location",
        "string",
        "",
        "PEM file of the CAs whose client certificates are taken; empty: ca.pem in --tls-dir.",
    )
    super_users: str = _kafka(
        "super.users", "string", "", "Who may do everything, whatever the ACLs say: User:alice;User:CN=bob."
    )
    tidemill_authentication_timeout_ms: int = _kafka(
        "tidemill.authentication.timeout.ms",
        "int",
        10_000,
        "How long a connection has for its TLS handshake and its login together.",
        least=100,
    )
    tidemill_identity_files: str = _kafka(
        "tidemill.identity.files",
        "string",
        "",
        "Files of IAM identities, separated by commas; empty: identities.json in the data directory.",
    )
    tidemill_scram_secrets: str = _kafka(
        "tidemill.scram.secrets",
        "string",
        "off",
        "Take SCRAM users from Secrets Manager's AmazonMSK_* secrets.",
        choices=("off", "on"),
    )
    tidemill_scram_secrets_refresh_ms: int = _kafka(
        "tidemill.scram.secrets.refresh.ms",
        "int",
        10_000,
        "How often those secrets are read again.",
        least=100,
    )
    tidemill_unauthenticated_connections_max: int = _kafka(
        "tidemill.unauthenticated.connections.max",
        "int",
        256,
        "The most connections in a TLS handshake or a login at a time, all listeners together.",
        least=1,
    )

    def kafka_values(self) -> dict[str, bool | int | str | None]:
        """Every Kafka setting by Kafka's name; None where none is set."""
        return {row.name: getattr(self, name) for name, row in _rows()}

    @property
    def listening(self) -> Mapping[ListenerName, int]:
        """The listeners that are on, and each one's port; 0: any free one."""
        if not self.listeners:
            return {"plaintext": self.port}
        usual = {**PORTS, "plaintext": self.port}
        return {name: usual[name] if port is None else port for name, port in self.listeners.items()}

    @property
    def anonymous_listeners(self) -> Sequence[ListenerName]:
        """Those without authentication, where every client is User:ANONYMOUS."""
        nameless = {"plaintext"} if self.ssl_client_auth == "required" else {"plaintext", "tls"}
        return [name for name in self.listening if name in nameless]

    def advertised(self, listener: ListenerName) -> tuple[str, int | None]:
        """Return what clients are told to connect to; port None: the one that is listened on."""
        return parse_advertised(self.advertised_listeners).get(listener, (self.host, None))


def _rows() -> Iterable[tuple[str, Setting]]:
    return [(each.name, each.metadata[_ROW]) for each in fields(Settings) if _ROW in each.metadata]


KAFKA_SETTINGS: Final[Mapping[str, Setting]] = {row.name: row for _, row in _rows()}


def parse_kafka_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn `name=value` texts into the fields of Settings. Raises SettingsError with every fault."""
    values: dict[str, Any] = {}
    faults = []
    for pair in pairs:
        try:
            name, value = _parse_pair(pair)
        except SettingsError as fault:
            faults.append(str(fault))
        else:
            values[name.replace(".", "_")] = value
            values["given"] = values.get("given", frozenset()) | {name}
    if faults:
        raise SettingsError("\n".join(faults))
    return values


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Take region and account from where AWS's tools and Tidemill's other programs take them."""
    found = {
        "region": environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        "account_id": environ.get("TIDEMILL_ACCOUNT_ID"),
    }
    if found["account_id"] and not _ACCOUNT_ID.fullmatch(found["account_id"]):
        raise SettingsError("TIDEMILL_ACCOUNT_ID must be 12 digits")
    return {name: value for name, value in found.items() if value}


def _parse_pair(pair: str) -> tuple[str, bool | int | str]:
    name, equals, text = pair.partition("=")
    row = KAFKA_SETTINGS.get(name.strip())
    if not equals:
        raise SettingsError(f"--set {pair}: write it as name=value")
    if row is None:
        near = get_close_matches(name.strip(), KAFKA_SETTINGS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see docs/operations.md for the names"
        raise SettingsError(f"--set {name.strip()}: no such setting here; {hint}")
    try:
        value = row.parse(text.strip())
        if row.name == "advertised.listeners":
            parse_advertised(str(value))
    except ValueError as fault:
        raise SettingsError(f"--set {row.name}={text.strip()}: {fault}") from None
    return row.name, value


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"
