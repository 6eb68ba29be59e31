"""Serves the Lambda operations on published versions and aliases.

A version is a function that does not change; an alias names one, or two by weights. It writes the registry.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from tidemill_awsapi import ApiError, Call
from tidemill_functions.api.description import check_revision, describe, invalid, not_there, paged
from tidemill_functions.api.lookup import find_latest, weights_of
from tidemill_functions.code.registry import LATEST, LocalCode, Registry

# Lambda's: an alias routes to one version beside its own.
_ROUTED_VERSIONS_MAX: Final = 1


class VersionsApi:
    """The operations, each a handler for tidemill_awsapi."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def publish_version(self, call: Call) -> Mapping[str, Any]:
        """PublishVersion."""
        params = call.params
        function = find_latest(self._registry, params["FunctionName"])
        check_revision(function.revision_id, params)
        code, sha256 = function.code, params.get("CodeSha256")
        if isinstance(code, LocalCode):
            raise invalid(
                f"{function.name} runs in place and can change: create it from a zip to publish it."
            )
        if sha256 not in (None, "", code.sha256):
            raise invalid(
                f"CodeSHA256 ({sha256}) is different from current CodeSHA256 in $LATEST ({code.sha256}). "
                "Please try again with the CodeSHA256 in $LATEST."
            )
        return describe(self._registry.publish(function.name, params.get("Description")))

    async def list_versions_by_function(self, call: Call) -> Mapping[str, Any]:
        """ListVersionsByFunction: $LATEST first, then by number."""
        function = find_latest(self._registry, call.params["FunctionName"])
        versions = [describe(one) for one in (function, *self._registry.versions(function.name))]
        page, marker = paged(versions, call.params)
        return {"Versions": page, "NextMarker": marker}

    async def create_alias(self, call: Call) -> Mapping[str, Any]:
        """CreateAlias."""
        name, alias = self._function(call), call.params["Name"]
        if alias in self._registry.attached.get(name).aliases:
            raise ApiError(
                "ResourceConflictException", f"Alias already exists: {self._registry.arn(f'{name}:{alias}')}"
            )
        return self._put(name, {"Name": alias, "Description": ""}, call.params)

    async def update_alias(self, call: Call) -> Mapping[str, Any]:
        """UpdateAlias: what is not given stays."""
        name, found = self._found(call)
        check_revision(found["RevisionId"], call.params)
        return self._put(name, found, call.params)

    async def get_alias(self, call: Call) -> Mapping[str, Any]:
        """GetAlias."""
        name, found = self._found(call)
        return self._described(name, found)

    async def list_aliases(self, call: Call) -> Mapping[str, Any]:
        """ListAliases, of one version if one is named."""
        name, version = self._function(call), call.params.get("FunctionVersion")
        aliases = [
            self._described(name, alias)
            for _, alias in sorted(self._registry.attached.get(name).aliases.items())
            if version in (None, alias["FunctionVersion"])
        ]
        page, marker = paged(aliases, call.params)
        return {"Aliases": page, "NextMarker": marker}

    async def delete_alias(self, call: Call) -> Mapping[str, Any]:
        """DeleteAlias; one that is not there is deleted."""
        name = self._function(call)
        aliases = dict(self._registry.attached.get(name).aliases)
        if aliases.pop(call.params["Name"], None) is not None:
            self._registry.attached.put(name, aliases=aliases)
        return {}

    def _function(self, call: Call) -> str:
        return find_latest(self._registry, call.params["FunctionName"]).name

    def _found(self, call: Call) -> tuple[str, Mapping[str, Any]]:
        name, alias = self._function(call), call.params["Name"]
        found = self._registry.attached.get(name).aliases.get(alias)
        if found is None:
            raise not_there(f"Cannot find alias arn: {self._registry.arn(f'{name}:{alias}')}")
        return name, found

    def _put(self, name: str, former: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        given = {
            member: params[member]
            for member in ("FunctionVersion", "Description", "RoutingConfig")
            if member in params
        }
        alias = {**former, **given, "RevisionId": str(uuid.uuid4())}
        self._check(name, alias)
        aliases = {**self._registry.attached.get(name).aliases, alias["Name"]: alias}
        self._registry.attached.put(name, aliases=aliases)
        return self._described(name, alias)

    def _check(self, name: str, alias: Mapping[str, Any]) -> None:
        weights = weights_of(alias)
        for version in (alias["FunctionVersion"], *weights):
            if version != LATEST and self._registry.get(f"{name}:{version}") is None:
                raise not_there(f"Function not found: {self._registry.arn(f'{name}:{version}')}")
        if weights and LATEST in (alias["FunctionVersion"], *weights):
            raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
        if len(weights) > _ROUTED_VERSIONS_MAX:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")

    def _described(self, name: str, alias: Mapping[str, Any]) -> dict[str, Any]:
        routing = {"AdditionalVersionWeights": weights} if (weights := weights_of(alias)) else None
        return {
            "AliasArn": self._registry.arn(f"{name}:{alias['Name']}"),
            **{member: alias[member] for member in ("Name", "FunctionVersion", "Description", "RevisionId")},
            "RoutingConfig": routing,
        }
