"""Owns `AWS::Lambda::Version` and `AWS::Lambda::Alias`. Authority: AWS's template reference."""

from typing import Any, Final

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.clients import Clients
from tidemill_local.stacks.functions import ignoring_absence
from tidemill_local.stacks.resource import Change, Creation, Made, Properties, ResourceType


def _publish(creation: Creation) -> Made:
    client, properties = creation.clients.awslambda, creation.properties
    _check_provisioned(properties)
    name = properties["FunctionName"]
    before = {version["Version"] for version in _versions(client, name)}
    request = {key: properties[key] for key in ("Description", "CodeSha256") if key in properties}
    published = client.publish_version(FunctionName=name, **request)
    if published["Version"] in before:
        # Lambda answers the version that is there; it belongs to whoever published it.
        raise ResourceFailed(
            f"A version for this Lambda function exists ( {published['Version']} ). "
            "Modify the function to create a new version."
        )
    arn = published["FunctionArn"]
    return Made(physical_id=arn, attributes={"FunctionArn": arn, "Version": published["Version"]})


def _versions(client: Any, name: str) -> list[dict[str, Any]]:
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
    return [version for page in pages for version in page["Versions"]]


def _check_provisioned(properties: Properties) -> None:
    for name in ("ProvisionedConcurrencyConfig", "FunctionScalingConfig", "RuntimePolicy"):
        if properties.get(name):
            raise ResourceFailed(f"Tidemill does not support {name}: leave it out.")


def _delete_version(clients: Clients, physical_id: str, _properties: Properties) -> None:
    ignoring_absence(clients.awslambda.delete_function, FunctionName=physical_id)


def _create_alias(creation: Creation) -> Made:
    _check_provisioned(creation.properties)
    made = creation.clients.awslambda.create_alias(**_alias(creation.properties))
    return _made_alias(made["AliasArn"])


def _update_alias(change: Change) -> Made:
    _check_provisioned(change.new)
    empty = {"Description": "", "RoutingConfig": {"AdditionalVersionWeights": {}}}
    made = change.clients.awslambda.update_alias(**empty | _alias(change.new))
    return _made_alias(made["AliasArn"])


def _delete_alias(clients: Clients, physical_id: str, properties: Properties) -> None:
    function, _, name = physical_id.rpartition(":")
    ignoring_absence(
        clients.awslambda.delete_alias, FunctionName=function, Name=str(properties.get("Name") or name)
    )


def _alias(properties: Properties) -> dict[str, Any]:
    request = {
        key: str(properties[key])
        for key in ("FunctionName", "Name", "FunctionVersion", "Description")
        if key in properties
    }
    routing = properties.get("RoutingConfig")
    if routing:
        weights = routing.get("AdditionalVersionWeights") or []
        found = {str(one["FunctionVersion"]): float(one["FunctionWeight"]) for one in weights}
        return request | {"RoutingConfig": {"AdditionalVersionWeights": found}}
    return request


def _made_alias(arn: str) -> Made:
    return Made(physical_id=arn, attributes={"AliasArn": arn})


VERSION: Final = ResourceType(
    name="AWS::Lambda::Version",
    required=frozenset({"FunctionName"}),
    optional=frozenset(
        {
            "CodeSha256",
            "Description",
            "FunctionScalingConfig",
            "ProvisionedConcurrencyConfig",
            "RuntimePolicy",
        }
    ),
    create=_publish,
    delete=_delete_version,
    replaced_by=frozenset({"FunctionName", "CodeSha256", "Description"}),
)
ALIAS: Final = ResourceType(
    name="AWS::Lambda::Alias",
    required=frozenset({"FunctionName", "FunctionVersion", "Name"}),
    optional=frozenset({"Description", "ProvisionedConcurrencyConfig", "RoutingConfig"}),
    create=_create_alias,
    update=_update_alias,
    delete=_delete_alias,
    replaced_by=frozenset({"FunctionName", "Name"}),
)
