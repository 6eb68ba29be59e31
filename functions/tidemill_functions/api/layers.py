"""Serves the Lambda operations on layers, and finds the layers that a function names.

A layer is kept here or nowhere: those of other accounts, AWS's own among them, cannot be fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tidemill_awsapi import Call
from tidemill_functions.api.description import check_revision, invalid, not_there, paged
from tidemill_functions.api.packages import zip_of
from tidemill_functions.api.policies import as_text, check_new, policy, statement, without
from tidemill_functions.code.layers import LayerPolicy, LayerStore, LayerVersion
from tidemill_functions.errors import InvalidFunction

_LAYERS_MAX: Final = 5  # Lambda's quota for a function
_ECHOED: Final = ("Description", "LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures")


class LayersApi:
    """The operations, each a handler for tidemill_awsapi."""

    def __init__(self, layers: LayerStore) -> None:
        self._layers = layers

    async def publish_layer_version(self, call: Call) -> Mapping[str, Any]:
        """PublishLayerVersion."""
        zipped = await zip_of(call.params["Content"])
        echoed: dict[str, Any] = {member: call.params[member] for member in _ECHOED if member in call.params}
        name = self._name(call)
        try:
            version = await asyncio.to_thread(self._layers.publish, name, zipped, echoed)
        except InvalidFunction as error:
            raise invalid(str(error)) from None
        return self._described(version, call)

    async def get_layer_version(self, call: Call) -> Mapping[str, Any]:
        """GetLayerVersion."""
        return self._described(self._found(self._name(call), call.params["VersionNumber"]), call)

    async def get_layer_version_by_arn(self, call: Call) -> Mapping[str, Any]:
        """GetLayerVersionByArn."""
        parsed = self._layers.parsed(call.params["Arn"])
        if parsed is None:
            raise not_there()
        return self._described(self._found(*parsed), call)

    async def list_layer_versions(self, call: Call) -> Mapping[str, Any]:
        """ListLayerVersions, newest first."""
        versions = [self._summary(version) for version in self._layers.versions(self._name(call))]
        page, marker = paged(versions, call.params)
        return {"LayerVersions": page, "NextMarker": marker}

    async def list_layers(self, call: Call) -> Mapping[str, Any]:
        """ListLayers, each with its newest version."""
        layers = [
            {
                "LayerName": name,
                "LayerArn": self._layers.arn(name),
                "LatestMatchingVersion": self._summary(self._layers.versions(name)[0]),
            }
            for name in self._layers.names()
        ]
        page, marker = paged(layers, call.params)
        return {"Layers": page, "NextMarker": marker}

    async def delete_layer_version(self, call: Call) -> Mapping[str, Any]:
        """DeleteLayerVersion; one that is not there is deleted."""
        self._layers.delete(self._name(call), call.params["VersionNumber"])
        return {}

    # The policy of a version: kept and answered, as there is one account

    async def add_layer_version_permission(self, call: Call) -> Mapping[str, Any]:
        """AddLayerVersionPermission."""
        version, found = self._policy(call)
        check_revision(found.revision_id, call.params)
        check_new(found.statements, call.params["StatementId"])
        added = statement(call.params, self._layers.arn(version.name, version.number))
        kept = self._layers.put_policy(version, [*found.statements, added])
        return {"Statement": as_text(added), "RevisionId": kept.revision_id}

    async def get_layer_version_policy(self, call: Call) -> Mapping[str, Any]:
        """GetLayerVersionPolicy."""
        _, found = self._policy(call)
        if not found.statements:
            raise not_there("No policy is associated with the given resource.")
        return {"Policy": policy(found.statements), "RevisionId": found.revision_id}

    async def remove_layer_version_permission(self, call: Call) -> Mapping[str, Any]:
        """RemoveLayerVersionPermission."""
        version, found = self._policy(call)
        check_revision(found.revision_id, call.params)
        self._layers.put_policy(version, without(found.statements, call.params["StatementId"]))
        return {}

    def _policy(self, call: Call) -> tuple[LayerVersion, LayerPolicy]:
        version = self._found(self._name(call), call.params["VersionNumber"])
        return version, self._layers.policy(version)

    def _name(self, call: Call) -> str:
        """Return the bare name: a layer may be named by its ARN."""
        name: str = call.params["LayerName"]
        return name.removeprefix(self._layers.arn(""))

    def _found(self, name: str, number: int) -> LayerVersion:
        version = self._layers.get(name, number)
        if version is None:
            raise not_there()
        return version

    def _described(self, version: LayerVersion, call: Call) -> dict[str, Any]:
        location = f"http://{call.headers['Host']}/_tidemill/layers/{version.name}/{version.number}/code"
        return {
            "LayerArn": self._layers.arn(version.name),
            "Content": {
                "Location": location,
                "CodeSha256": version.sha256,
                "CodeSize": version.size_bytes,
            },
            **self._summary(version),
        }

    def _summary(self, version: LayerVersion) -> dict[str, Any]:
        created = datetime.fromtimestamp(version.created_s, UTC)
        return {
            "LayerVersionArn": self._layers.arn(version.name, version.number),
            "Version": version.number,
            "CreatedDate": created.isoformat(timespec="milliseconds").replace("+00:00", "+0000"),
            "Description": version.echoed.get("Description", ""),
            **{member: version.echoed[member] for member in _ECHOED[1:] if member in version.echoed},
        }


async def layers_of(layers: LayerStore, arns: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """Return the Layers of a FunctionConfiguration, ready to run. Raises ApiError as Lambda does."""
    if len(arns) > _LAYERS_MAX:
        raise invalid(f"Cannot reference more than {_LAYERS_MAX} layers.")
    versions = []
    for arn in arns:
        parsed = layers.parsed(arn)
        if parsed is None:
            raise invalid(
                f"Layer version {arn} is of another account or region and cannot be fetched: publish it here "
                "with PublishLayerVersion, and name that."
            )
        version = layers.get(*parsed)
        if version is None:
            raise invalid(f"Layer version {arn} does not exist.")
        if names := await asyncio.to_thread(layers.extensions, version):
            raise invalid(
                f"Layer version {arn} brings extensions, which are not built in Tidemill "
                f"({', '.join(names)}): leave the layer out, or publish it without its folder extensions."
            )
        versions.append(version)
    await asyncio.to_thread(layers.prepare, versions)
    return [{"Arn": arn, "CodeSize": one.size_bytes} for arn, one in zip(arns, versions, strict=True)]
