"""`tidemill mapping …`: event source mappings over Lambda's own API, and a live view of their partitions."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.cli.clients import Endpoint
from infra.cli.errors import Complaint
from infra.cli.options import EndpointUrl, Json, endpoint, pairs
from infra.cli.output import print_facts, print_json, print_table, say, without_metadata

app = typer.Typer(
    help="Event source mappings: which topic invokes which function, and how.", no_args_is_help=True
)


class StartingPosition(StrEnum):
    """Where a mapping without committed offsets begins."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_TIMESTAMP = "AT_TIMESTAMP"


BatchSize = Annotated[int | None, typer.Option(help="Records in one invocation, at most (1-10000)")]
Window = Annotated[int | None, typer.Option(help="Seconds to wait for a full batch (0-300)")]
Retries = Annotated[int | None, typer.Option(help="Retries of a failing batch; -1 is for ever")]
MaxAge = Annotated[int | None, typer.Option(help="Seconds after which a record is given up; -1 is never")]
Bisect = Annotated[bool | None, typer.Option("--bisect/--no-bisect", help="Split a failing batch in halves")]
Partial = Annotated[
    bool | None,
    typer.Option("--report-batch-item-failures/--no-report-batch-item-failures", help="Partial responses"),
]
OnFailure = Annotated[str | None, typer.Option(help="ARN of the queue, topic or bucket for what is given up")]
Filters = Annotated[list[str] | None, typer.Option("--filter", help="A filter pattern, JSON; repeatable")]
MinPollers = Annotated[int | None, typer.Option(help="Provisioned mode: at least this many pollers")]
MaxPollers = Annotated[int | None, typer.Option(help="Provisioned mode: at most this many pollers")]
FromFile = Annotated[
    Path | None, typer.Option("--from", help="JSON with the API's own members; flags override it")
]
Uuid = Annotated[str, typer.Argument(metavar="UUID", help="The mapping's UUID")]


@app.command()
def create(
    function: Annotated[str | None, typer.Argument(help="Function name or ARN")] = None,
    topic: Annotated[str | None, typer.Option(help="The topic to read")] = None,
    cluster_arn: Annotated[
        str | None, typer.Option(help="MSK cluster. Default: the endpoint's own cluster")
    ] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT of a self-managed Kafka instead; repeatable")
    ] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(
            help="TYPE=URI of a SourceAccessConfiguration, e.g. VPC_SUBNET=subnet:subnet-1; repeatable"
        ),
    ] = None,
    batch_size: BatchSize = None,
    window: Window = None,
    starting_position: Annotated[
        StartingPosition, typer.Option(help="Where to begin without committed offsets")
    ] = StartingPosition.TRIM_HORIZON,
    starting_timestamp: Annotated[
        datetime | None, typer.Option(help="With AT_TIMESTAMP: the time, UTC")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group id. Default: the mapping's UUID")] = None,
    filters: Filters = None,
    on_failure: OnFailure = None,
    retries: Retries = None,
    max_age: MaxAge = None,
    bisect: Bisect = None,
    report_batch_item_failures: Partial = None,
    min_pollers: MinPollers = None,
    max_pollers: MaxPollers = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Create it without polling yet")] = False,
    tag: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; repeatable")] = None,
    from_file: FromFile = None,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Create a mapping.

    For example:

        tidemill mapping create delays --topic flights

        tidemill mapping create delays --topic flights --bisect --retries 2 --min-pollers 1 --on-failure ARN

        tidemill mapping create delays --topic t --bootstrap broker:9092 --access VPC_SUBNET=subnet:subnet-1 …

        tidemill mapping create --from mapping.json
    """
    there = endpoint(endpoint_url)
    request = _from_file(from_file)
    request |= _tuning(
        batch_size=batch_size,
        window=window,
        retries=retries,
        max_age=max_age,
        bisect=bisect,
        partial=report_batch_item_failures,
        on_failure=on_failure,
        filters=filters,
        pollers=(min_pollers, max_pollers),
    )
    request |= _given(FunctionName=function, Topics=[topic] if topic else None)
    request |= _source(request, there, cluster_arn, bootstrap, pairs(access or [], "--access"), group)
    request |= _given(
        StartingPositionTimestamp=starting_timestamp.replace(tzinfo=UTC) if starting_timestamp else None,
        Enabled=False if disabled else None,
        Tags=pairs(tag, "--tag") if tag else None,
    )
    request.setdefault("StartingPosition", starting_position.value)
    _show(there.aws("lambda").create_event_source_mapping(**request), as_json=as_json)


@app.command("list")
def list_(
    function: Annotated[str | None, typer.Option(help="Only mappings of this function")] = None,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """List mappings.

    For example:

        tidemill mapping list --function delays
    """
    pages = (
        endpoint(endpoint_url)
        .aws("lambda")
        .get_paginator("list_event_source_mappings")
        .paginate(**_given(FunctionName=function))
    )
    mappings = [mapping for page in pages for mapping in page["EventSourceMappings"]]
    if as_json:
        print_json(mappings)
        return
    rows = [
        (
            mapping["UUID"],
            mapping["FunctionArn"].rpartition("function:")[2],
            ",".join(mapping.get("Topics", [])),
            mapping["State"],
            mapping.get("LastProcessingResult"),
        )
        for mapping in mappings
    ]
    print_table(
        ("uuid", "function", "topic", "state", "last result"),
        rows,
        empty="No mappings. Make one: tidemill mapping create FUNCTION --topic TOPIC",
    )


@app.command()
def get(uuid: Uuid, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Show one mapping.

    For example:

        tidemill mapping get UUID --json
    """
    _show(endpoint(endpoint_url).aws("lambda").get_event_source_mapping(UUID=uuid), as_json=as_json)


@app.command()
def update(
    uuid: Uuid,
    function: Annotated[str | None, typer.Option(help="Invoke this function from now on")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Poll, or keep offsets and rest")
    ] = None,
    batch_size: BatchSize = None,
    window: Window = None,
    filters: Filters = None,
    on_failure: OnFailure = None,
    retries: Retries = None,
    max_age: MaxAge = None,
    bisect: Bisect = None,
    report_batch_item_failures: Partial = None,
    min_pollers: MinPollers = None,
    max_pollers: MaxPollers = None,
    from_file: FromFile = None,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Change a mapping; what is not given stays.

    For example:

        tidemill mapping update UUID --batch-size 500

        tidemill mapping update UUID --disable
    """
    request = _from_file(from_file)
    request |= _tuning(
        batch_size=batch_size,
        window=window,
        retries=retries,
        max_age=max_age,
        bisect=bisect,
        partial=report_batch_item_failures,
        on_failure=on_failure,
        filters=filters,
        pollers=(min_pollers, max_pollers),
    )
    request |= _given(FunctionName=function, Enabled=enabled)
    if not request:
        raise Complaint("Nothing to change.", hint="Name what to change, e.g. --batch-size 500 or --disable.")
    _show(
        endpoint(endpoint_url).aws("lambda").update_event_source_mapping(**request | {"UUID": uuid}),
        as_json=as_json,
    )


@app.command()
def delete(uuid: Uuid, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Delete a mapping; committed offsets stay in Kafka.

    For example:

        tidemill mapping delete UUID
    """
    reply = endpoint(endpoint_url).aws("lambda").delete_event_source_mapping(UUID=uuid)
    if as_json:
        print_json(without_metadata(reply))
    else:
        say(f"Mapping {uuid} is being deleted: what is in flight is settled first.")


@app.command()
def watch(
    uuid: Uuid,
    trees: Annotated[int, typer.Option(help="Retry trees to show below the partitions")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end")] = False,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Show the state of each partition live, with the latest retry trees.

    For example:

        tidemill mapping watch UUID

        tidemill mapping watch UUID --once --json
    """
    from infra.cli.watch import look, watch_live

    there = endpoint(endpoint_url)
    # The poller's status route shows what runs, and says nothing of a mapping that is not there.
    there.aws("lambda").get_event_source_mapping(UUID=uuid)
    if as_json:
        print_json(look(there, uuid, trees).as_json())
    else:
        watch_live(there, uuid, trees, once=once)


def _tuning(
    *,
    batch_size: int | None,
    window: int | None,
    retries: int | None,
    max_age: int | None,
    bisect: bool | None,
    partial: bool | None,
    on_failure: str | None,
    filters: list[str] | None,
    pollers: tuple[int | None, int | None],
) -> dict[str, Any]:
    """The members that create and update share."""
    return _given(
        BatchSize=batch_size,
        MaximumBatchingWindowInSeconds=window,
        MaximumRetryAttempts=retries,
        MaximumRecordAgeInSeconds=max_age,
        BisectBatchOnFunctionError=bisect,
        FunctionResponseTypes=None if partial is None else ["ReportBatchItemFailures"] * partial,
        DestinationConfig=None if on_failure is None else {"OnFailure": {"Destination": on_failure}},
        FilterCriteria={"Filters": [{"Pattern": pattern} for pattern in filters]} if filters else None,
        ProvisionedPollerConfig=_given(MinimumPollers=pollers[0], MaximumPollers=pollers[1]) or None,
    )


def _source(
    request: dict[str, Any],
    there: Endpoint,
    cluster_arn: str | None,
    bootstrap: list[str] | None,
    access: dict[str, str],
    group: str | None,
) -> dict[str, Any]:
    """The members that name the Kafka cluster; the endpoint's own when nothing is named."""
    if bootstrap and cluster_arn:
        raise Complaint("A mapping reads one cluster: give --cluster-arn or --bootstrap, not both.")
    if (
        not bootstrap
        and not cluster_arn
        and not {"EventSourceArn", "SelfManagedEventSource"} & request.keys()
    ):
        cluster_arn = there.cluster_arn()
    self_managed = bool(bootstrap) or "SelfManagedEventSource" in request
    kind = "SelfManagedKafkaEventSourceConfig" if self_managed else "AmazonManagedKafkaEventSourceConfig"
    return _given(
        EventSourceArn=cluster_arn,
        SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}} if bootstrap else None,
        SourceAccessConfigurations=[{"Type": name, "URI": uri} for name, uri in access.items()] or None,
        **{kind: {"ConsumerGroupId": group} if group else None},
    )


def _given(**members: Any) -> dict[str, Any]:
    """The members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise Complaint(f"{path} is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise Complaint(f"{path} must hold one JSON object with the API's members.")
    return document


def _show(mapping: dict[str, Any], *, as_json: bool) -> None:
    mapping = without_metadata(mapping)
    if as_json:
        print_json(mapping)
    else:
        print_facts(mapping.items())
