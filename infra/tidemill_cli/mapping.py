"""`tidemill mapping …`: event source mappings over Lambda's own API, and a live view of their partitions."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from tidemill_cli.access import source_access
from tidemill_cli.cause import cause_first
from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError
from tidemill_cli.lookup import all_mappings, function_name, function_named, mapping_uuid
from tidemill_cli.options import EndpointUrl, Json, command_group, endpoint, pairs
from tidemill_cli.output import (
    open_console,
    print_facts,
    print_json,
    print_table,
    say,
    visible,
    without_metadata,
)
from tidemill_cli.tuning import Access, given, tuned

app = command_group("Event source mappings: which topic invokes which function.")


class StartingPosition(StrEnum):
    """Where a mapping without committed offsets begins."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_TIMESTAMP = "AT_TIMESTAMP"


Name = Annotated[
    str, typer.Argument(metavar="MAPPING", help="UUID or the start of it, function, or topic of the mapping")
]
# A shorter row than this has room for the start of a UUID only.
_WHOLE_UUID_COLUMNS: Final = 110
_UUID_START_MIN: Final = 8


@app.command()
@tuned
def create(
    request: dict[str, Any],
    function: Annotated[str | None, typer.Argument(help="Function name or ARN")] = None,
    topic: Annotated[str | None, typer.Option(help="The topic to read")] = None,
    cluster_arn: Annotated[
        str | None, typer.Option(help="MSK cluster. Default: the endpoint's own cluster")
    ] = None,
    bootstrap: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="A self-managed Kafka instead; repeatable")
    ] = None,
    access: Access = None,
    starting_position: Annotated[
        StartingPosition, typer.Option(help="Where to begin without committed offsets")
    ] = StartingPosition.TRIM_HORIZON,
    starting_timestamp: Annotated[
        datetime | None, typer.Option(help="With AT_TIMESTAMP: the time, UTC")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group id. Default: the mapping's UUID")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Create it without polling")] = False,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag; repeatable")] = None,
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
    request |= given(FunctionName=function, Topics=[topic] if topic else None)
    request |= _source(request, there, cluster_arn, bootstrap, pairs(access or [], "--access"), group)
    request |= given(
        StartingPositionTimestamp=starting_timestamp.replace(tzinfo=UTC) if starting_timestamp else None,
        Enabled=False if disabled else None,
        Tags=pairs(tag, "--tag") if tag else None,
    )
    request.setdefault("StartingPosition", starting_position.value)
    made = without_metadata(there.aws("lambda").create_event_source_mapping(**request))
    if as_json:
        print_json(made)
    else:
        print(
            visible(
                f"Mapping {made['UUID']}: topic {','.join(made['Topics'])} invokes {function_name(made)}."
            )
        )
        say(f"Follow it: tidemill mapping watch {made['UUID'][:_UUID_START_MIN]}")


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
    there = endpoint(endpoint_url)
    mappings = all_mappings(
        there, **given(FunctionName=function_named(there, function) if function else None)
    )
    if as_json:
        print_json(mappings)
        return
    counted = _dropped_records(there)
    dropped = [counted.get(mapping["UUID"], 0) for mapping in mappings]
    rows = [
        (
            uuid,
            function_name(mapping),
            ",".join(mapping.get("Topics", [])),
            mapping["State"],
            _result(mapping, lost),
        )
        for uuid, mapping, lost in zip(_uuids(mappings), mappings, dropped, strict=True)
    ]
    print_table(
        ("uuid", "function", "topic", "state", "last result"),
        rows,
        empty="No mappings. Create one: tidemill mapping create FUNCTION --topic TOPIC",
    )
    failing = next((each for each in mappings if _is_failing(each)), None)
    if failing is not None:
        say(f"The whole of an error: tidemill function logs {function_name(failing).partition(':')[0]}")
    if any(dropped):
        say(
            "Dropped records are lost to the mapping: it gave them up and has no failure destination. "
            "Keep the next ones: tidemill mapping update MAPPING --on-failure ARN"
        )


@app.command()
def get(name: Name, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Show one mapping.

    For example:

        tidemill mapping get delays

        tidemill mapping get 4f6f3bd0 --json
    """
    there = endpoint(endpoint_url)
    _show(there.aws("lambda").get_event_source_mapping(UUID=mapping_uuid(there, name)), as_json=as_json)


@app.command()
@tuned
def update(
    request: dict[str, Any],
    name: Name,
    function: Annotated[str | None, typer.Option(help="Invoke this function from now on")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Poll, or stop and keep the offsets")
    ] = None,
    access: Access = None,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Change a mapping; what is not given stays as it is.

    For example:

        tidemill mapping update delays --batch-size 500

        tidemill mapping update flights --disable
    """
    request |= given(
        FunctionName=function,
        Enabled=enabled,
        SourceAccessConfigurations=_entries(pairs(access, "--access")) if access else None,
    )
    if not request:
        raise UserError("Nothing to change.", hint="Name what to change, e.g. --batch-size 500 or --disable.")
    there = endpoint(endpoint_url)
    request["UUID"] = mapping_uuid(there, name)
    _show(there.aws("lambda").update_event_source_mapping(**request), as_json=as_json)


@app.command()
def delete(name: Name, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Delete a mapping; committed offsets stay in Kafka.

    For example:

        tidemill mapping delete delays
    """
    there = endpoint(endpoint_url)
    uuid = mapping_uuid(there, name)
    reply = there.aws("lambda").delete_event_source_mapping(UUID=uuid)
    if as_json:
        print_json(without_metadata(reply))
    else:
        say(f"Mapping {uuid} is being deleted; it settles what is in flight first.")


@app.command()
def retry(name: Name, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Try at once what waits to be tried again.

    For example:

        tidemill mapping retry delays
    """
    there = endpoint(endpoint_url)
    uuid = mapping_uuid(there, name)
    there.aws("lambda").get_event_source_mapping(UUID=uuid)  # the route says nothing of what is not there
    reply = there.own("POST", f"/_tidemill/mappings/{uuid}/retry")
    if as_json:
        print_json(reply)
    elif reply["partitions"]:
        say(f"Trying again in {reply['partitions']} partition(s). See: tidemill mapping watch {name}")
    else:
        say(f"No partition of mapping {uuid} waits to try again.")


@app.command()
def skip(
    name: Name,
    partition: Annotated[str, typer.Option(help="The partition that is stuck: TOPIC-NUMBER")],
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Give up the record that a partition is stuck at.

    The record goes to the failure destination if there is one.

    For example:

        tidemill mapping skip delays --partition flights-3
    """
    there = endpoint(endpoint_url)
    uuid = mapping_uuid(there, name)
    there.aws("lambda").get_event_source_mapping(UUID=uuid)  # the route says nothing of what is not there
    reply = there.own("POST", f"/_tidemill/mappings/{uuid}/partitions/{quote(partition, safe='')}/skip")
    if as_json:
        print_json(reply)
    else:
        say(f"Skipped offset {reply['offset']} of {reply['partition']}.")


@app.command()
def watch(
    name: Name,
    trees: Annotated[int, typer.Option(help="Retry trees to show below the partitions")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end")] = False,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Show each partition live, with the latest retry trees.

    For example:

        tidemill mapping watch delays

        tidemill mapping watch 4f6f3bd0 --once --json
    """
    from tidemill_cli.watch import look, watch_live

    there = endpoint(endpoint_url)
    uuid = mapping_uuid(there, name)
    # The poller's status route shows what runs, and says nothing of a mapping that is not there.
    mapping = there.aws("lambda").get_event_source_mapping(UUID=uuid)
    if as_json:
        print_json(look(there, uuid, trees).as_json())
    else:
        watch_live(there, uuid, trees, function=function_name(mapping).partition(":")[0], once=once)


def _source(
    request: dict[str, Any],
    there: Endpoint,
    cluster_arn: str | None,
    bootstrap: list[str] | None,
    access: dict[str, str],
    group: str | None,
) -> dict[str, Any]:
    """Return the members that name the Kafka cluster; the endpoint's own if none is named."""
    entries = _entries(access)
    if bootstrap and cluster_arn:
        raise UserError("A mapping reads one cluster: give --cluster-arn or --bootstrap, not both.")
    if (
        not bootstrap
        and not cluster_arn
        and not {"EventSourceArn", "SelfManagedEventSource"} & request.keys()
    ):
        cluster_arn = there.cluster_arn
        if not entries and "SourceAccessConfigurations" not in request:
            entries = source_access(there)
    self_managed = bool(bootstrap) or "SelfManagedEventSource" in request
    kind = "SelfManagedKafkaEventSourceConfig" if self_managed else "AmazonManagedKafkaEventSourceConfig"
    return given(
        EventSourceArn=cluster_arn,
        SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}} if bootstrap else None,
        SourceAccessConfigurations=entries or None,
        **{kind: {"ConsumerGroupId": group} if group else None},
    )


def _is_failing(mapping: dict[str, Any]) -> bool:
    """Say whether the last result is an error of the function."""
    return str(mapping.get("LastProcessingResult") or "").startswith("PROBLEM: Function")


def _dropped_records(there: Endpoint) -> dict[str, int]:
    """Return by UUID how many records are in no destination, as the poller has counted since it started."""
    try:
        counted = there.own("GET", "/_tidemill/mappings")["mappings"]
    except (UserError, ValueError, LookupError, TypeError):
        return {}  # the endpoint is AWS, or another emulator: it does not say
    return {each["mapping"]: int(each["dropped_records"]) for each in counted}


def _result(mapping: dict[str, Any], dropped: int) -> str:
    result = cause_first(mapping.get("LastProcessingResult") or "")
    lost = f"{dropped:,} record{'' if dropped == 1 else 's'} dropped, no destination"
    return f"{result}, {lost}" if dropped else result


def _uuids(mappings: list[dict[str, Any]]) -> list[str]:
    """Return what the first column shows: UUIDs, or starts of them that are unique, where lines are short."""
    whole = [str(mapping["UUID"]) for mapping in mappings]
    if open_console().width >= _WHOLE_UUID_COLUMNS:
        return whole
    length = _UUID_START_MIN
    while len({uuid[:length] for uuid in whole}) < len(whole):
        length += 1
    return [uuid[:length] for uuid in whole]


def _entries(access: dict[str, str]) -> list[dict[str, str]]:
    return [{"Type": name, "URI": uri} for name, uri in access.items()]


def _show(mapping: dict[str, Any], *, as_json: bool) -> None:
    mapping = without_metadata(mapping)
    if as_json:
        print_json(mapping)
    else:
        print_facts(mapping.items())
        if _is_failing(mapping):
            name = function_name(mapping).partition(":")[0]
            say(f"The whole of the error: tidemill function logs {name}")
