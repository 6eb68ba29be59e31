"""Apache Kafka's own tools, of 4.3.1 and of 3.9.2, against our broker.

Each start of Java costs a second: what tools do with groups is compared with Kafka itself, the rest was once.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import pytest

from tests.conformance.conftest import KafkaLike
from tests.conformance.test_clients import produce
from tests.harness.processes import wait_until
from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.apache_kafka import VERSION, jars_or_skip, run_tool
from tests.oracles.group_members import Member

pytestmark = pytest.mark.kafka

OLD = "3.9.2"
TOOLS = "org.apache.kafka.tools."
TOPICS, OFFSETS = f"{TOOLS}TopicCommand", f"{TOOLS}GetOffsetShell"
GROUPS = f"{TOOLS}consumer.group.ConsumerGroupCommand"
CONFIGS = "kafka.admin.ConfigCommand"
CONSOLE_CONSUMER = f"{TOOLS}consumer.ConsoleConsumer"


@dataclass(frozen=True)
class Tools:
    """Kafka's tools of one version, pointed at one broker."""

    broker: KafkaLike
    version: str

    def run(self, main_class: str, *arguments: str, stdin: str | None = None) -> str:
        """Run one to its end; what it printed."""
        where = ("--bootstrap-server", self.broker.bootstrap_servers)
        return self.run_bare(main_class, *where, *arguments, stdin=stdin)

    def run_bare(self, main_class: str, *arguments: str, stdin: str | None = None) -> str:
        """Run one that is told the broker in its own way."""
        done = run_tool(main_class, *arguments, version=self.version, stdin=stdin)
        assert done.returncode == 0, f"{main_class} {arguments}: {done.stdout} {done.stderr}"
        return done.stdout


OURS = [("tidemill", VERSION), ("tidemill", OLD)]
BOTH_BROKERS = pytest.mark.parametrize(
    "tools", [*OURS, ("apache_kafka", VERSION)], ids="-".join, indirect=True
)
BOTH_VERSIONS = pytest.mark.parametrize("tools", OURS, ids="-".join, indirect=True)
NEWEST = pytest.mark.parametrize("tools", OURS[:1], ids="-".join, indirect=True)


@pytest.fixture
def tools(request: pytest.FixtureRequest) -> Tools:
    broker, version = request.param
    jars_or_skip(version)
    return Tools(request.getfixturevalue(broker), version)


@pytest.fixture
def name() -> str:
    return f"java-{uuid.uuid4().hex[:8]}"


def table(printed: str) -> list[list[str]]:
    """The rows of what a tool printed, without the empty ones."""
    return [line.split() for line in printed.splitlines() if line.split()]


@BOTH_VERSIONS
def test_kafka_topics_creates_describes_alters_and_deletes(tools: Tools, name: str) -> None:
    retention = "retention.ms=3600000"
    tools.run(TOPICS, "--create", "--topic", name, "--partitions", "3", "--config", retention)
    tools.run(TOPICS, "--alter", "--topic", name, "--partitions", "5")
    described = tools.run(TOPICS, "--describe", "--topic", name)
    assert "PartitionCount: 5" in described
    assert retention in described
    assert described.count("Leader: 1") == 5
    tools.run(TOPICS, "--delete", "--topic", name)
    assert name not in tools.run(TOPICS, "--list").split()


@NEWEST
def test_kafka_configs_alters_and_describes(tools: Tools, name: str) -> None:
    entity = ("--entity-type", "topics", "--entity-name", name)
    tools.run(TOPICS, "--create", "--topic", name, "--config", "retention.ms=3600000")
    tools.run(CONFIGS, "--alter", *entity, "--add-config", "max.message.bytes=2000000,retention.ms=7200000")
    described = tools.run(CONFIGS, "--describe", *entity)
    assert "max.message.bytes=2000000" in described
    assert "retention.ms=7200000" in described
    tools.run(CONFIGS, "--alter", *entity, "--delete-config", "max.message.bytes,retention.ms")
    assert "retention.ms" not in tools.run(CONFIGS, "--describe", *entity)


@BOTH_BROKERS
def test_kafka_consumer_groups_sees_a_live_group(tools: Tools, name: str) -> None:
    produce("confluent-kafka", tools.broker, name, range(30))
    with Member("confluent-kafka", tools.broker.bootstrap_servers, [name], name) as member:
        wait_until(lambda: len(member.received) == 30, what="every record")
        assert name in tools.run(GROUPS, "--list").split()
        state = table(tools.run(GROUPS, "--describe", "--group", name, "--state"))
        assert state[-1][-3:] == ["range", "Stable", "1"]
        rows = table(tools.run(GROUPS, "--describe", "--group", name))
        assert all(row[5] == "0" for row in rows if row[0] == name), "no lag"
        assert any(row[-1] == "rdkafka" for row in rows), "the member's client id"


@BOTH_BROKERS
def test_kafka_consumer_groups_resets_and_deletes(tools: Tools, name: str) -> None:
    produce("confluent-kafka", tools.broker, name, range(30))
    with Member("confluent-kafka", tools.broker.bootstrap_servers, [name], name) as member:
        wait_until(lambda: len(member.received) == 30, what="every record")
    reset = ("--reset-offsets", "--group", name, "--topic", name, "--execute")
    printed = tools.run(GROUPS, *reset, "--to-offset", "2")
    assert name in printed
    rows = [row for row in table(tools.run(GROUPS, "--describe", "--group", name)) if row[0] == name]
    assert {row[3] for row in rows} == {"2"}
    tools.run(GROUPS, "--delete", "--group", name)
    assert name not in tools.run(GROUPS, "--list").split()


@BOTH_VERSIONS
def test_records_pass_through_the_performance_tools(tools: Tools, name: str) -> None:
    tools.run(TOPICS, "--create", "--topic", name, "--partitions", "3")
    where = tools.broker.bootstrap_servers
    load = ("--topic", name, "--num-records", "3000", "--record-size", "100", "--throughput", "-1")
    # 3.9 has no --bootstrap-server here; 4 has another name for properties.
    to_old = ("--producer-props", f"bootstrap.servers={where}", "acks=all")
    to_new = ("--bootstrap-server", where, "--command-property", "acks=all")
    to = to_old if tools.version == OLD else to_new
    assert "3000 records sent" in tools.run_bare(f"{TOOLS}ProducerPerformance", *load, *to)
    offsets = [line.split(":") for line in tools.run(OFFSETS, "--topic", name).split()]
    assert sum(int(offset) for _, _, offset in offsets) == 3_000
    count = "--messages" if tools.version == OLD else "--num-records"
    consumed = tools.run(f"{TOOLS}ConsumerPerformance", "--topic", name, count, "3000", "--timeout", "20000")
    assert table(consumed.replace(",", " "))[-1][6] == "3000", consumed


@NEWEST
def test_the_verifiable_tools_agree(tools: Tools, name: str) -> None:
    """Each tells what was acknowledged and what was read as JSON."""
    sent = tools.run(f"{TOOLS}VerifiableProducer", "--topic", name, "--max-messages", "50", "--acks", "-1")
    acknowledged = [json.loads(line) for line in sent.splitlines() if "producer_send_success" in line]
    assert len(acknowledged) == 50
    consumer = f"{TOOLS}VerifiableConsumer"
    read = tools.run(
        consumer, "--topic", name, "--group-id", name, "--max-messages", "50", "--reset-policy", "earliest"
    )
    events = [json.loads(line) for line in read.splitlines() if line.startswith("{")]
    assert sum(event["count"] for event in events if event["name"] == "records_consumed") == 50
    committed = [event for event in events if event["name"] == "offsets_committed"]
    assert all(event["success"] for event in committed)


@NEWEST
def test_the_console_tools_pass_keys_and_headers(tools: Tools, name: str) -> None:
    parse = ("--reader-property", "parse.key=true", "--reader-property", "parse.headers=true")
    lines = "".join(f"h1:v1\tkey-{number}\tvalue-{number}\n" for number in range(5))
    tools.run(f"{TOOLS}ConsoleProducer", "--topic", name, *parse, "--compression-codec", "zstd", stdin=lines)
    show = ("--formatter-property", "print.key=true", "--formatter-property", "print.headers=true")
    read = tools.run(CONSOLE_CONSUMER, "--topic", name, "--from-beginning", "--max-messages", "5", *show)
    assert read == lines


@NEWEST
def test_kafka_reads_our_offsets_topic(tools: Tools, name: str) -> None:
    """The formatters decode keys and values as the broker's own code would."""
    produce("confluent-kafka", tools.broker, name, range(10))
    with Member("confluent-kafka", tools.broker.bootstrap_servers, [name], name) as member:
        wait_until(lambda: len(member.received) == 10, what="every record")
    read = ("--topic", "__consumer_offsets", "--from-beginning", "--timeout-ms", "1500")
    formatter = "org.apache.kafka.tools.consumer.{}MessageFormatter"
    offsets = tools.run(CONSOLE_CONSUMER, *read, "--formatter", formatter.format("Offsets"))
    assert f'"group":"{name}","topic":"{name}"' in offsets
    groups = tools.run(CONSOLE_CONSUMER, *read, "--formatter", formatter.format("GroupMetadata"))
    stored = [part for part in groups.split('{"key"') if f'"group":"{name}"' in part]
    assert '"protocol":"range"' in stored[0]
    assert '"members":[]' in stored[-1]


def test_kafka_reads_our_segments(tidemill: TidemillBroker, name: str) -> None:
    """DumpLogSegments finds every batch whole, with the codec that the producer chose."""
    jars_or_skip()
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        produce("confluent-kafka", tidemill, name, range(20), codec=codec)
    files = sorted((tidemill.data_dir / "data").glob(f"**/{name}-0/*.log"))
    dumped = run_tool(f"{TOOLS}DumpLogSegments", "--files", str(files[0]), "--deep-iteration")
    assert dumped.returncode == 0, dumped.stderr
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        assert f"compresscodec: {codec} " in dumped.stdout
    assert "isvalid: true" in dumped.stdout
    assert "isvalid: false" not in dumped.stdout
