"""Finds the function that a FunctionName and a Qualifier mean, or says in Lambda's words that there is none.

Called by the rooms that serve the Lambda API. Only `$LATEST` exists until versions and aliases are built.
"""

from __future__ import annotations

import re

from tidemill_awsapi import ApiError
from tidemill_functions.code.registry import LATEST, Function, Registry

# The pattern of the model's NamespacedFunctionName, with its parts named: a name, a partial or a full ARN.
_REFERENCE = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)


def find_function(registry: Registry, reference: str, qualifier: str | None = None) -> Function:
    """The function by name, partial ARN or ARN. Raises ApiError as Lambda does."""
    if qualifier is None and (function := registry.get(reference)) is not None:
        return function
    match = _REFERENCE.fullmatch(reference)
    if match is None:  # the model's own check lets nothing else through
        raise ApiError("InvalidParameterValueException", f"{reference!r} is no function name or ARN.")
    within = match["qualifier"]
    if within is not None and qualifier is not None and within != qualifier:
        raise ApiError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    arn = registry.arn(match["name"])
    _, _, _, region, account, *_ = arn.split(":")
    if match["region"] not in (None, region) or match["account"] not in (None, account):
        region, account = match["region"] or region, match["account"] or account
        raise _not_found(f"arn:aws:lambda:{region}:{account}:function:{match['name']}")
    function = registry.get(match["name"])
    wanted = within or qualifier
    if function is None or wanted not in (None, LATEST):
        raise _not_found(f"{arn}:{wanted}" if wanted else arn)
    return function


def name_of(reference: str) -> str:
    """The bare name in a FunctionName, for functions that do not exist yet."""
    match = _REFERENCE.fullmatch(reference)
    return match["name"] if match else reference


def _not_found(arn: str) -> ApiError:
    return ApiError("ResourceNotFoundException", f"Function not found: {arn}")
