"""Owns the options that `mapping create` and `mapping update` share, and the API's members made of them."""

import inspect
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill_cli.errors import UserError

BatchSize = Annotated[int | None, typer.Option(help="Records in one invocation, at most (1-10000)")]
Window = Annotated[int | None, typer.Option(help="Seconds to wait for a full batch (0-300)")]
Retries = Annotated[int | None, typer.Option(help="Retries of a failing batch; -1: no limit")]
MaxAge = Annotated[
    int | None, typer.Option(help="Give up records older than this many seconds; -1: no limit")
]
Bisect = Annotated[bool | None, typer.Option("--bisect/--no-bisect", help="Split a failing batch in halves")]
Partial = Annotated[
    bool | None,
    typer.Option(
        "--report-batch-item-failures/--no-report-batch-item-failures",
        help="The function reports the records that failed",
    ),
]
OnFailure = Annotated[
    str | None, typer.Option(help="Failure destination: ARN of an SQS queue, SNS topic or S3 bucket")
]
Filters = Annotated[
    list[str] | None, typer.Option("--filter", metavar="JSON", help="A filter pattern; repeatable")
]
MinPollers = Annotated[int | None, typer.Option(help="Provisioned mode: at least this many pollers")]
MaxPollers = Annotated[int | None, typer.Option(help="Provisioned mode: at most this many pollers")]
FromFile = Annotated[
    Path | None, typer.Option("--from", help="JSON file with the API's members; options override it")
]
Access = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TYPE=URI", help="A SourceAccessConfiguration, e.g. SASL_SCRAM_512_AUTH=ARN; repeatable"
    ),
]


def tuned(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options; it gets the request that they make as ``request``."""
    own = inspect.signature(command)
    shared = inspect.signature(_request)

    @wraps(command)
    def run(**options: Any) -> None:
        request = _request(**{name: options.pop(name) for name in shared.parameters})
        command(request=request, **options)

    parameters = [
        *(each for each in own.parameters.values() if each.name != "request"),
        *shared.parameters.values(),
    ]
    # Typer reads names, types and defaults from here.
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # functions may carry one
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _request(
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
) -> dict[str, Any]:
    """Return the members of the API's request: those of the file, overridden by options."""
    partial = report_batch_item_failures
    return _from_file(from_file) | given(
        BatchSize=batch_size,
        MaximumBatchingWindowInSeconds=window,
        MaximumRetryAttempts=retries,
        MaximumRecordAgeInSeconds=max_age,
        BisectBatchOnFunctionError=bisect,
        FunctionResponseTypes=None if partial is None else ["ReportBatchItemFailures"] * partial,
        DestinationConfig=None if on_failure is None else {"OnFailure": {"Destination": on_failure}},
        FilterCriteria={"Filters": [{"Pattern": pattern} for pattern in filters]} if filters else None,
        ProvisionedPollerConfig=given(MinimumPollers=min_pollers, MaximumPollers=max_pollers) or None,
    )


def given(**members: Any) -> dict[str, Any]:
    """Return the members that have a value."""
    return {name: value for name, value in members.items() if value is not None}


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} must hold one JSON object with the API's members.")
    return document
