"""`tidemill topic …`: topics of any Kafka, by its own protocol."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill_cli.options import BootstrapServers, EndpointUrl, Json, command_group, endpoint, pairs
from tidemill_cli.output import print_facts, print_json, print_table, say, visible

app = command_group("Topics: create, describe, write to, read from.")

Name = Annotated[str, typer.Argument(metavar="TOPIC")]


@app.command()
def create(
    name: Name,
    partitions: Annotated[int, typer.Option(help="Number of partitions", min=1)] = 1,
    replication_factor: Annotated[
        int, typer.Option(help="As MSK clients send it; one machine keeps one copy")
    ] = 1,
    config: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, as in Kafka; repeatable")] = None,
    endpoint_url: EndpointUrl = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Create a topic.

    For example:

        tidemill topic create flights --partitions 6 --config retention.ms=86400000
    """
    from tidemill_cli import kafka
    from tidemill_cli.access import kafka_options

    options = kafka_options(endpoint(endpoint_url), bootstrap_servers)
    configs = pairs(config or [], "--config")
    asyncio.run(kafka.create_topic(options, name, partitions, replication_factor, configs))
    if as_json:
        print_json({"topic": name, "partitions": partitions})
    else:
        say(f"Topic {name} has {partitions} partition{'s' if partitions > 1 else ''}.")


@app.command("list")
def list_(
    endpoint_url: EndpointUrl = None, bootstrap_servers: BootstrapServers = None, as_json: Json = False
) -> None:
    """List topics.

    For example:

        tidemill topic list --bootstrap-servers 127.0.0.1:9092
    """
    from tidemill_cli import kafka
    from tidemill_cli.access import kafka_options

    names = asyncio.run(kafka.list_topics(kafka_options(endpoint(endpoint_url), bootstrap_servers)))
    if as_json:
        print_json(names)
    else:
        print_table(
            ("topic",),
            [(name,) for name in names],
            empty="No topics. Create one: tidemill topic create TOPIC",
        )


@app.command()
def describe(
    name: Name,
    endpoint_url: EndpointUrl = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Show a topic's partitions, offsets and own configuration.

    For example:

        tidemill topic describe flights
    """
    from tidemill_cli import kafka
    from tidemill_cli.access import kafka_options

    options = kafka_options(endpoint(endpoint_url), bootstrap_servers)
    about = asyncio.run(kafka.describe_topic(options, name))
    if as_json:
        print_json(about)
        return
    print_facts([("topic", name), ("partitions", len(about["partitions"])), ("configs", about["configs"])])
    rows = [(p["partition"], p["leader"], p["replicas"], p["start"], p["end"]) for p in about["partitions"]]
    print_table(("partition", "leader", "replicas", "start", "end"), rows, empty="")


@app.command()
def produce(
    name: Name,
    value: Annotated[
        list[str] | None, typer.Argument(help="Values. Default: lines of --file or standard input")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The key of every record")] = None,
    key_separator: Annotated[
        str | None, typer.Option(help="Cut each line into key and value at this text")
    ] = None,
    header: Annotated[list[str] | None, typer.Option(help="NAME=VALUE on every record; repeatable")] = None,
    file: Annotated[Path | None, typer.Option(help="One record for each line")] = None,
    endpoint_url: EndpointUrl = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Write records.

    For example:

        tidemill topic produce flights '{"carrier": "UA", "dep_delay": 3}' --key N14228

        tidemill topic produce flights --file flights.jsonl

        printf 'k1:v1' | tidemill topic produce flights --key-separator :
    """
    from tidemill_cli import kafka
    from tidemill_cli.access import kafka_options

    options = kafka_options(endpoint(endpoint_url), bootstrap_servers)
    headers = [(header_name, text.encode()) for header_name, text in pairs(header or [], "--header").items()]
    records = kafka.records_to_produce(_lines(value, file), key, key_separator)
    placed = asyncio.run(kafka.produce(options, name, records, headers))
    if as_json:
        print_json(placed)
    else:
        total = sum(placed["records"].values())
        say(f"{total} record{'s' if total != 1 else ''} written to {len(placed['records'])} partition(s).")


@app.command()
def tail(
    name: Name,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin at the oldest record")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="End after this many records", min=1)
    ] = None,
    endpoint_url: EndpointUrl = None,
    bootstrap_servers: BootstrapServers = None,
    as_json: Json = False,
) -> None:
    """Print records as they come; joins no group and commits nothing.

    For example:

        tidemill topic tail flights

        tidemill topic tail flights --from-beginning -n 10 --json
    """
    from tidemill_cli import kafka
    from tidemill_cli.access import kafka_options

    options = kafka_options(endpoint(endpoint_url), bootstrap_servers)

    def show(record: Any) -> None:
        print(visible(kafka.record_line(record, as_json=as_json)), flush=True)

    asyncio.run(kafka.tail(options, name, show, from_beginning=from_beginning, count_max=count))


def _lines(values: list[str] | None, file: Path | None) -> list[str]:
    if values:
        return values
    content = file.read_bytes() if file else sys.stdin.buffer.read()
    # Of bytes: text has more ends of lines than JSON knows. What is no UTF-8 comes out as it went in.
    return [line.decode(errors="surrogateescape") for line in content.splitlines()]
