"""Finds the function that a FunctionName and a Qualifier mean, or says in Lambda's words that there is none.

Called by the modules that serve the Lambda API.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Final

from tidemill_awsapi import ApiError
from tidemill_functions.code.registry import LATEST, Function, Registry

# The pattern of the model's NamespacedFunctionName, with its parts named: a name, a partial or a full ARN.
_REFERENCE: Final = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)


def find_function(registry: Registry, reference: str, qualifier: str | None = None) -> Function:
    """Return the function, version or alias's version by name, partial ARN or ARN.

    An alias with weights gives one of its versions, by chance. Raises ApiError as Lambda does.
    """
    if qualifier is None and ":" not in reference and (function := registry.get(reference)) is not None:
        return function
    name, wanted = _parsed(registry, reference, qualifier)
    function = registry.get(name)
    if function is None or wanted in (None, LATEST):
        found = function
    elif wanted.isdigit():
        found = registry.get(f"{name}:{wanted}")
    else:
        alias = registry.attached.get(name).aliases.get(wanted)
        found = registry.get(_key_of(name, _chosen(alias))) if alias else None
    if found is None:
        raise _not_found(registry.arn(f"{name}:{wanted}" if wanted else name))
    return found


def find_latest(registry: Registry, reference: str) -> Function:
    """Return the function itself, whatever qualifier stands in the reference; raises as `find_function`."""
    name, _ = _parsed(registry, reference, None)
    return find_function(registry, name)


def qualifier_of(reference: str, qualifier: str | None) -> str | None:
    """Return the qualifier in a reference or beside it."""
    match = _REFERENCE.fullmatch(reference)
    return qualifier or (match["qualifier"] if match else None)


def invoked_arn(registry: Registry, function: Function, reference: str, qualifier: str | None) -> str:
    """Return the ARN that a handler is told it was invoked by: with the qualifier, if there was one."""
    asked = qualifier_of(reference, qualifier)
    return registry.arn(f"{function.name}:{asked}") if asked else function.arn


def name_of(reference: str) -> str:
    """Return the bare name in a FunctionName, for functions that do not exist yet."""
    match = _REFERENCE.fullmatch(reference)
    return match["name"] if match else reference


def weights_of(alias: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the additional versions of an alias with their shares, 0 to 1."""
    weights: Mapping[str, float] = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return weights


def _chosen(alias: Mapping[str, Any]) -> str:
    point = random.random()  # noqa: S311 - shares traffic, guards nothing
    for version, weight in weights_of(alias).items():
        point -= weight
        if point < 0:
            return version
    chosen: str = alias["FunctionVersion"]
    return chosen


def _key_of(name: str, version: str) -> str:
    return name if version == LATEST else f"{name}:{version}"


def _parsed(registry: Registry, reference: str, qualifier: str | None) -> tuple[str, str | None]:
    """Return name and qualifier. Raises ApiError if it is no reference, or another account's."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:  # the model's own check lets nothing else through
        raise ApiError("InvalidParameterValueException", f"{reference!r} is no function name or ARN.")
    within = match["qualifier"]
    if within is not None and qualifier is not None and within != qualifier:
        raise ApiError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    _, _, _, region, account, *_ = registry.arn(match["name"]).split(":")
    if match["region"] not in (None, region) or match["account"] not in (None, account):
        region, account = match["region"] or region, match["account"] or account
        raise _not_found(f"arn:aws:lambda:{region}:{account}:function:{match['name']}")
    return match["name"], within or qualifier


def _not_found(arn: str) -> ApiError:
    return ApiError("ResourceNotFoundException", f"Function not found: {arn}")
