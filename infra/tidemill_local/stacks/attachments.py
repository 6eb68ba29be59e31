"""Owns what is attached to functions and layers: permissions, Event invocations' settings, layer versions.

Authority: AWS's template reference of `AWS::Lambda::Permission`, `EventInvokeConfig`, `LayerVersion` and
`LayerVersionPermission`.
"""

from typing import Any, Final

from tidemill_local.stacks.clients import Clients, operation
from tidemill_local.stacks.functions import ignoring_absence
from tidemill_local.stacks.properties import parameters
from tidemill_local.stacks.resource import Change, Creation, Made, Properties, ResourceType

_DESTINATIONS: Final = ("OnFailure", "OnSuccess")


def _permit(creation: Creation) -> Made:
    client = creation.clients.awslambda
    request = parameters(operation(client, "AddPermission"), creation.properties)
    client.add_permission(**request | {"StatementId": creation.name})
    return Made(physical_id=creation.name, attributes={"Id": creation.name})


def _forbid(clients: Clients, physical_id: str, properties: Properties) -> None:
    ignoring_absence(
        clients.awslambda.remove_permission, FunctionName=properties["FunctionName"], StatementId=physical_id
    )


def _put_event_settings(creation: Creation) -> Made:
    client = creation.clients.awslambda
    client.put_function_event_invoke_config(**_event_settings(client, creation.properties))
    return Made(physical_id=creation.name)


def _change_event_settings(change: Change) -> Made:
    client = change.clients.awslambda
    client.put_function_event_invoke_config(**_event_settings(client, change.new))
    return Made(physical_id=change.physical_id)


def _event_settings(client: Any, properties: Properties) -> dict[str, Any]:
    request = parameters(operation(client, "PutFunctionEventInvokeConfig"), properties)
    destinations = request.get("DestinationConfig")
    if destinations:
        request["DestinationConfig"] = {
            name: destinations[name] for name in _DESTINATIONS if destinations.get(name)
        }
    return request


def _delete_event_settings(clients: Clients, _physical_id: str, properties: Properties) -> None:
    ignoring_absence(
        clients.awslambda.delete_function_event_invoke_config,
        FunctionName=properties["FunctionName"],
        Qualifier=properties["Qualifier"],
    )


def _publish_layer(creation: Creation) -> Made:
    client = creation.clients.awslambda
    properties = {"LayerName": creation.name, **creation.properties}
    made = client.publish_layer_version(**parameters(operation(client, "PublishLayerVersion"), properties))
    arn = made["LayerVersionArn"]
    return Made(physical_id=arn, attributes={"LayerVersionArn": arn})


def _delete_layer(clients: Clients, physical_id: str, _properties: Properties) -> None:
    layer, _, number = physical_id.rpartition(":")
    ignoring_absence(clients.awslambda.delete_layer_version, LayerName=layer, VersionNumber=int(number))


def _permit_layer(creation: Creation) -> Made:
    client, properties = creation.clients.awslambda, creation.properties
    request = parameters(operation(client, "AddLayerVersionPermission"), properties)
    client.add_layer_version_permission(**request | _layer(properties) | {"StatementId": creation.name})
    identity = f"{properties['LayerVersionArn']}#{creation.name}"
    return Made(physical_id=identity, attributes={"Id": identity})


def _forbid_layer(clients: Clients, physical_id: str, properties: Properties) -> None:
    statement = physical_id.rpartition("#")[2]
    ignoring_absence(
        clients.awslambda.remove_layer_version_permission, StatementId=statement, **_layer(properties)
    )


def _layer(properties: Properties) -> dict[str, Any]:
    layer, _, number = str(properties["LayerVersionArn"]).rpartition(":")
    return {"LayerName": layer, "VersionNumber": int(number)}


_PERMISSION_OPTIONS = frozenset(
    {
        "EventSourceToken",
        "FunctionUrlAuthType",
        "InvokedViaFunctionUrl",
        "PrincipalOrgID",
        "SourceAccount",
        "SourceArn",
    }
)
_LAYER_OPTIONS = frozenset(
    {"CompatibleArchitectures", "CompatibleRuntimes", "Description", "LayerName", "LicenseInfo"}
)
PERMISSION: Final = ResourceType(
    name="AWS::Lambda::Permission",
    required=frozenset({"Action", "FunctionName", "Principal"}),
    optional=_PERMISSION_OPTIONS,
    create=_permit,
    delete=_forbid,
    replaced_by=frozenset({"Action", "FunctionName", "Principal"}) | _PERMISSION_OPTIONS,
)
EVENT_INVOKE_CONFIG: Final = ResourceType(
    name="AWS::Lambda::EventInvokeConfig",
    required=frozenset({"FunctionName", "Qualifier"}),
    optional=frozenset({"DestinationConfig", "MaximumEventAgeInSeconds", "MaximumRetryAttempts"}),
    create=_put_event_settings,
    update=_change_event_settings,
    delete=_delete_event_settings,
    replaced_by=frozenset({"FunctionName", "Qualifier"}),
)
LAYER_VERSION: Final = ResourceType(
    name="AWS::Lambda::LayerVersion",
    required=frozenset({"Content"}),
    optional=_LAYER_OPTIONS,
    create=_publish_layer,
    delete=_delete_layer,
    replaced_by=frozenset({"Content"}) | _LAYER_OPTIONS,
    name_property="LayerName",
)
LAYER_VERSION_PERMISSION: Final = ResourceType(
    name="AWS::Lambda::LayerVersionPermission",
    required=frozenset({"Action", "LayerVersionArn", "Principal"}),
    optional=frozenset({"OrganizationId"}),
    create=_permit_layer,
    delete=_forbid_layer,
    replaced_by=frozenset({"Action", "LayerVersionArn", "Principal", "OrganizationId"}),
)
