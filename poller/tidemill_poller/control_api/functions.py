"""Functions as the control API needs them: how they are named, whether they exist, how long they may run.

The one place that calls the Lambda API; with boto3, found as every AWS client is (profile, region,
AWS_ENDPOINT_URL_LAMBDA), in a thread.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Final, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tidemill_poller.arn import parse_arn
from tidemill_poller.aws import AwsClients, describe
from tidemill_poller.errors import FunctionLookupFailed

_NAME: Final = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:)?"
    r"(?:(?P<region>[a-z]{2,4}(?:-[a-z]+)+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_-]+))?"
)
_LATEST: Final = "$LATEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionView:
    """A function that exists; `arn` keeps the qualifier of the request."""

    arn: str
    timeout_s: int


class FunctionLookup(Protocol):
    """Where functions are looked up."""

    async def resolve(self, function_name: str) -> FunctionView | None:
        """The function by any form of its name, or None when there is no such function, version or alias.

        Raises FunctionLookupFailed if Lambda cannot be asked.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionName:
    """A FunctionName taken apart; what was not given is None."""

    region: str | None
    account: str | None
    name: str
    qualifier: str | None

    def names(self, function_arn: str) -> bool:
        """Whether a mapping of `function_arn` belongs to this function; no qualifier is $LATEST's."""
        arn = parse_arn(function_arn)
        assert arn is not None, "stored mappings have resolved ARNs"
        _, name, *qualifier = arn.resource.split(":")
        return (
            name == self.name
            and self.region in (None, arn.region)
            and self.account in (None, arn.account)
            and (self.qualifier or _LATEST) == (qualifier[0] if qualifier else _LATEST)
        )


def parse_function_name(text: str) -> FunctionName:
    """A name, partial ARN or ARN, with or without a qualifier; anything else is taken as a bare name."""
    match = _NAME.fullmatch(text)
    if match is None:
        return FunctionName(region=None, account=None, name=text, qualifier=None)
    return FunctionName(**match.groupdict())


class LambdaFunctions:
    """A FunctionLookup on the Lambda API's GetFunctionConfiguration."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def resolve(self, function_name: str) -> FunctionView | None:
        """As the Protocol says."""
        return await asyncio.to_thread(self._resolve, function_name)

    def _resolve(self, function_name: str) -> FunctionView | None:
        qualifier = parse_function_name(function_name).qualifier
        asked = {"FunctionName": function_name}
        if qualifier is not None:
            asked = {"FunctionName": function_name.removesuffix(f":{qualifier}"), "Qualifier": qualifier}
        try:
            client = self._clients.get("lambda", None)
            reply = client.get_function_configuration(**asked)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise FunctionLookupFailed(f"Lambda did not describe the function: {describe(error)}") from error
        except (BotoCoreError, ValueError) as error:
            raise FunctionLookupFailed(
                f"Lambda cannot be asked about the function: {describe(error)}."
                " Is it running, and does AWS_ENDPOINT_URL_LAMBDA (or AWS_ENDPOINT_URL) point to it?"
            ) from error
        arn = _with_qualifier(reply["FunctionArn"], qualifier)
        return FunctionView(arn=arn, timeout_s=reply.get("Timeout", 0))


def _with_qualifier(function_arn: str, qualifier: str | None) -> str:
    """Return the ARN with the qualifier that was asked for, whatever Lambda resolved it to."""
    arn = parse_arn(function_arn)
    if arn is None:
        raise FunctionLookupFailed(f"Lambda described the function by '{function_arn}', which is no ARN.")
    parts = arn.resource.split(":")[:2]
    return str(replace(arn, resource=":".join(parts if qualifier is None else [*parts, qualifier])))
