"""Owns `tidemill import` and `tidemill export`: mappings from AWS, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError
from tidemill_cli.lookup import choose, function_name, mapping_uuid
from tidemill_cli.mapping import StartingPosition
from tidemill_cli.options import EndpointUrl, Json, endpoint, pairs
from tidemill_cli.output import print_json, say, visible, without_metadata
from tidemill_cli.portable.request import Overrides, create_request, is_kafka, overridden
from tidemill_cli.tuning import Access

_UUID_START: Final = 8


class Format(StrEnum):
    """What `export` writes."""

    CLI = "cli"
    CLOUDFORMATION = "cloudformation"
    SAM = "sam"
    CDK = "cdk"
    TERRAFORM = "terraform"


Function = Annotated[str | None, typer.Option(help="The function to invoke. Default: the mapping's own")]
Cluster = Annotated[
    str | None, typer.Option("--event-source-arn", "--cluster-arn", help="The MSK cluster to read")
]
Bootstrap = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST:PORT", help="The self-managed Kafka to read; repeatable"),
]
OnFailure = Annotated[str | None, typer.Option(help="Another failure destination; '': none")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Mappings as AWS replies them, and the tags where they could be read; None where they could not."""

    mappings: Sequence[Any]
    tags: Mapping[str, str] | None


def add_to(app: typer.Typer) -> None:
    """Give the command line both commands."""
    app.command("import")(import_)
    app.command("export")(export)


def import_(
    name: Annotated[
        str | None, typer.Argument(metavar="MAPPING", help="Of several in the file: this one only")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="JSON of get- or list-event-source-mappings; -: stdin")
    ] = None,
    from_uuid: Annotated[str | None, typer.Option(metavar="UUID", help="Read this mapping from AWS")] = None,
    profile: Annotated[str | None, typer.Option(help="The AWS profile to read with")] = None,
    region: Annotated[str | None, typer.Option(help="The AWS region to read from")] = None,
    from_endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Read from here instead of AWS")
    ] = None,
    function: Function = None,
    event_source_arn: Cluster = None,
    bootstrap: Bootstrap = None,
    access: Access = None,
    on_failure: OnFailure = None,
    starting_position: Annotated[
        StartingPosition, typer.Option(help="Where to begin")
    ] = StartingPosition.AT_TIMESTAMP,
    starting_timestamp: Annotated[
        datetime | None, typer.Option(help="With AT_TIMESTAMP: the time, UTC. Default: now")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A tag; repeatable")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the call that creates it, and create nothing")
    ] = False,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Create a mapping here that is equal to one of AWS.

    It invokes the local function of the same name, reads the local cluster and begins now. Whatever else
    differs from the original is listed.

    For example:

        tidemill import --from-uuid UUID --profile prod --region eu-west-1

        aws lambda get-event-source-mapping --uuid UUID | tidemill import --file -

        tidemill import orders --file list-event-source-mappings.json --dry-run
    """
    from tidemill_cli.portable.command_line import aws_command
    from tidemill_cli.portable.local import Start, imported

    there = endpoint(endpoint_url)
    origin = _origin(file, from_uuid, profile, region, from_endpoint_url)
    given = pairs(tag or [], "--tag")
    overrides = _overrides(function, event_source_arn, bootstrap, access, on_failure)
    start = Start(
        position=starting_position.value,
        timestamp=starting_timestamp.replace(tzinfo=UTC) if starting_timestamp else None,
    )
    tags = {**(origin.tags or {}), **given} if origin.tags is not None or given else None
    # All of them before the first is created: what is wrong with one changes nothing.
    made = [
        imported(one, tags, overrides=overrides, start=start, there=there)
        for one in _chosen(origin.mappings, name)
    ]
    for each in made:
        for line in each.changes:
            say(line)
        if not dry_run:
            _create(there, each.request, as_json=as_json)
        elif as_json:
            print_json(each.request)
        else:
            print(aws_command(each.request))


def export(
    name: Annotated[
        str, typer.Argument(metavar="MAPPING", help="UUID or the start of it, function, or topic")
    ],
    form: Annotated[Format, typer.Option("--as", help="What to write")],
    function: Function = None,
    event_source_arn: Cluster = None,
    bootstrap: Bootstrap = None,
    access: Access = None,
    on_failure: OnFailure = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Write a mapping as a command or a template.

    What it writes creates an equal mapping; ARNs stay unless others are given.

    For example:

        tidemill export orders --as cloudformation --event-source-arn ARN --function orders > orders.yaml

        tidemill export orders --as cli
    """
    there = endpoint(endpoint_url)
    client = there.aws("lambda")
    found = without_metadata(client.get_event_source_mapping(UUID=mapping_uuid(there, name)))
    tags = client.list_tags(Resource=found["EventSourceMappingArn"]).get("Tags", {})
    overrides = _overrides(function, event_source_arn, bootstrap, access, on_failure)
    print(visible_lines(_written(form, overridden(create_request(found, tags), overrides), client, found)))


def visible_lines(text: str) -> str:
    """Return the text without control characters other than the ends of its lines."""
    return "\n".join(map(visible, text.split("\n")))


def _written(form: Format, request: dict[str, Any], client: Any, found: Mapping[str, Any]) -> str:
    from tidemill_cli.portable import cdk, command_line, templates, terraform

    if form is Format.SAM:
        for member in templates.left_out_of_sam(request):
            say(f"not kept: {member}, which a SAM event has no property for; --as cloudformation has")
        configuration = client.get_function_configuration(FunctionName=found["FunctionArn"])
        return templates.sam(request, configuration)
    if form is Format.TERRAFORM:
        for member in terraform.left_out_of_terraform(request):
            say(f"not kept: {member} 0, which Terraform's provider takes as not set (500 ms)")
    return {
        Format.CLI: command_line.aws_command,
        Format.CLOUDFORMATION: templates.cloudformation,
        Format.CDK: cdk.application,
        Format.TERRAFORM: terraform.resource,
    }[form](request)


def _origin(
    file: Path | None, uuid: str | None, profile: str | None, region: str | None, url: str | None
) -> _Origin:
    from tidemill_cli.portable.reading import from_aws, from_file

    if (file is None) == (uuid is None):
        raise UserError(
            "Name where the mapping comes from: --from-uuid UUID (AWS) or --file FILE, one of both."
        )
    if uuid is None:
        assert file is not None
        return _Origin(mappings=from_file(file), tags=None)
    found, tags = from_aws(uuid, profile=profile, region=region, endpoint_url=url)
    return _Origin(mappings=[found], tags=tags)


def _chosen(mappings: Sequence[Any], name: str | None) -> Sequence[Any]:
    """The mapping that has the name or, of a list, all that read Kafka: an account has others beside them."""
    if name is not None:
        return [choose([one for one in mappings if isinstance(one, dict) and "UUID" in one], name)]
    kafka = [one for one in mappings if not isinstance(one, dict) or is_kafka(one)]
    if len(mappings) == 1 or not kafka:
        return mappings
    for one in mappings:
        if one not in kafka:
            say(f"not kept: mapping {one.get('UUID')} of {one.get('EventSourceArn')}, which is no Kafka")
    return kafka


def _overrides(
    function: str | None,
    event_source_arn: str | None,
    bootstrap: list[str] | None,
    access: list[str] | None,
    on_failure: str | None,
) -> Overrides:
    # One by one: a mapping has several subnets.
    named = [item for each in access or () for item in pairs([each], "--access").items()]
    entries = [{"Type": kind, "URI": uri} if uri else {"Type": kind} for kind, uri in named]
    return Overrides(
        function=function,
        event_source_arn=event_source_arn,
        bootstrap=bootstrap,
        access=entries or None,
        on_failure=on_failure,
    )


def _create(there: Endpoint, request: dict[str, Any], *, as_json: bool) -> None:
    from botocore.exceptions import ClientError

    try:
        made = without_metadata(there.aws("lambda").create_event_source_mapping(**request))
    except ClientError as error:
        if error.response["Error"].get("Message") != "Function does not exist":
            raise
        raise UserError(
            f"There is no function {request['FunctionName']!r} here.",
            hint="Register it: tidemill function register; or name another with --function.",
        ) from None
    if as_json:
        print_json(made)
        return
    print(visible(f"Mapping {made['UUID']}: topic {','.join(made['Topics'])} invokes {function_name(made)}."))
    say(f"Follow it: tidemill mapping watch {made['UUID'][:_UUID_START]}")
