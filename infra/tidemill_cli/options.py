"""Owns the options that many commands share, and the parsing of NAME=VALUE pairs."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tidemill_cli.clients import DEFAULT_ENDPOINT_URL, Endpoint
from tidemill_cli.errors import UserError

EndpointUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url", envvar="AWS_ENDPOINT_URL", help=f"The one endpoint. Default: {DEFAULT_ENDPOINT_URL}"
    ),
]
BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers", help="Addresses of a plaintext Kafka. Default: the endpoint's cluster"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts")]


def command_group(text: str, **options: Any) -> typer.Typer:
    """Return a group of commands whose help is plain text: Rich's tables cut option names at 80 columns."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, **options)


def endpoint(url: str | None) -> Endpoint:
    """Return the endpoint that a command was given, or the default."""
    return Endpoint(url)


def pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """Return NAME=VALUE options as a dictionary."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise UserError(f"{flag} takes NAME=VALUE, not {value!r}.")
        found[name] = text
    return found
