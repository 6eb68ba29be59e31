"""Owns `AWS::Lambda::Function`: made, changed and deleted by the Lambda API.

Authority: AWS's template reference of the type, and Lambda's defaults for what a template leaves out.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError
from botocore.waiter import Waiter

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.clients import NOT_FOUND, Clients, code_of, operation
from tidemill_local.stacks.properties import parameters, tags_of
from tidemill_local.stacks.resource import Change, Creation, Made, Properties, ResourceType

# What Lambda assumes when a property is not given: an update that removes one says so.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "Description": "",
    "Timeout": 3,
    "MemorySize": 128,
    "Environment": {"Variables": {}},
    "Layers": [],
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "DeadLetterConfig": {"TargetArn": ""},
    "KMSKeyArn": "",
    "TracingConfig": {"Mode": "PassThrough"},
    "FileSystemConfigs": [],
    "EphemeralStorage": {"Size": 512},
    "SnapStart": {"ApplyOn": "None"},
    "ImageConfig": {},
}
# A template spells it in its own way.
_RENAMED: Final = {"KmsKeyArn": "KMSKeyArn"}
# CloudFormation puts inline code into a file of this name; the language tells its ending.
_INLINE_FILE: Final = "index"
_INLINE_ENDINGS: Final = {"python": "py", "nodejs": "js"}
# Same code, same package: a zip without times.
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_FILE_MODE: Final = 0o644 << 16
_WAIT: Final = {"Delay": 1, "MaxAttempts": 300}
# Accepted where it says what Lambda does anyway.
_AUTOMATIC: Final[Mapping[str, Any]] = {
    "RuntimeManagementConfig": {"UpdateRuntimeOn": "Auto"},
    "RecursiveLoop": "Terminate",
}


def _create(creation: Creation) -> Made:
    client, properties = creation.clients.awslambda, _checked(creation.properties)
    name = str(properties.get("FunctionName") or creation.name)
    request = parameters(operation(client, "CreateFunction"), _renamed(properties))
    request |= {"FunctionName": name, "Code": _code(properties)}
    if tags := tags_of(properties):
        request["Tags"] = tags
    else:
        request.pop("Tags", None)
    client.create_function(**request)
    try:
        _wait(client, "function_active_v2", name)
        _reserve(client, name, properties)
    except BaseException:
        # What fails is not the stack's: nothing would ever delete it.
        _delete(creation.clients, name, properties)
        raise
    return _made(client, name)


def _update(change: Change) -> Made:
    client, name, new = change.clients.awslambda, change.physical_id, _checked(change.new)
    if change.changed("Code", "Architectures"):
        code = _code(new) | {"Architectures": new.get("Architectures") or ["x86_64"]}
        client.update_function_code(FunctionName=name, **code)
        _wait(client, "function_updated_v2", name)
    model = operation(client, "UpdateFunctionConfiguration")
    before, after = (parameters(model, _renamed(properties)) for properties in (change.old, new))
    removed = {key: _DEFAULTS[key] for key in before.keys() - after.keys() if key in _DEFAULTS}
    wanted = {key: value for key, value in after.items() if before.get(key) != value} | removed
    wanted.pop("FunctionName", None)
    if wanted:
        client.update_function_configuration(FunctionName=name, **wanted)
        _wait(client, "function_updated_v2", name)
    if change.changed("ReservedConcurrentExecutions"):
        _reserve(client, name, new, was_reserved="ReservedConcurrentExecutions" in change.old)
    made = _made(client, name)
    retag(client, made.attributes["Arn"], change)
    return made


def _delete(clients: Clients, physical_id: str, _properties: Properties) -> None:
    ignoring_absence(clients.awslambda.delete_function, FunctionName=physical_id)


def _made(client: Any, name: str) -> Made:
    found = client.get_function_configuration(FunctionName=name)
    snap_start = found.get("SnapStart") or {}
    return Made(
        physical_id=name,
        attributes={
            "Arn": found["FunctionArn"],
            "SnapStartResponse.ApplyOn": snap_start.get("ApplyOn", "None"),
            "SnapStartResponse.OptimizationStatus": snap_start.get("OptimizationStatus", "Off"),
        },
    )


def _checked(properties: Properties) -> dict[str, Any]:
    """Leave out what Lambda does anyway. Raises ResourceFailed for what this runtime does not do."""
    for name, only in _AUTOMATIC.items():
        if properties.get(name) not in (None, only):
            raise ResourceFailed(f"Tidemill does not support {name} {properties[name]!r}: leave it out.")
    return {name: value for name, value in properties.items() if name not in _AUTOMATIC}


def _renamed(properties: Properties) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in properties.items()}


def _code(properties: Properties) -> dict[str, Any]:
    """`Code` as the API takes it: inline code as a package, a place in S3 as it is."""
    code = dict(properties["Code"])
    source = code.pop("ZipFile", None)
    if source is None:
        return code
    runtime = str(properties.get("Runtime", ""))
    ending = next((end for language, end in _INLINE_ENDINGS.items() if runtime.startswith(language)), None)
    if ending is None:
        raise ResourceFailed(
            f"ZipFile takes the code of a Python or Node.js function, not for {runtime or 'no runtime'}: "
            "put a package into S3 and name it by S3Bucket and S3Key."
        )
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(f"{_INLINE_FILE}.{ending}", _ZIP_DATE)
        entry.external_attr = _FILE_MODE
        archive.writestr(entry, str(source))
    return code | {"ZipFile": package.getvalue()}


def _reserve(client: Any, name: str, properties: Properties, *, was_reserved: bool = False) -> None:
    reserved = properties.get("ReservedConcurrentExecutions")
    if reserved is not None:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=int(reserved))
    elif was_reserved:
        client.delete_function_concurrency(FunctionName=name)


def _wait(client: Any, condition: str, name: str) -> None:
    waiter: Waiter = client.get_waiter(condition)
    waiter.wait(FunctionName=name, WaiterConfig=_WAIT)


def retag(client: Any, arn: str, change: Change) -> None:
    """Make the tags of a resource those of its template; tags that others gave it stay."""
    before, after = tags_of(change.old), tags_of(change.new)
    if removed := sorted(before.keys() - after.keys()):
        client.untag_resource(Resource=arn, TagKeys=removed)
    if added := {key: value for key, value in after.items() if before.get(key) != value}:
        client.tag_resource(Resource=arn, Tags=added)


def ignoring_absence(call: Callable[..., Any], **request: Any) -> None:
    """Delete; what is gone already is as wanted."""
    try:
        call(**request)
    except ClientError as error:
        if code_of(error) not in NOT_FOUND:
            raise


FUNCTION: Final = ResourceType(
    name="AWS::Lambda::Function",
    required=frozenset({"Code", "Role"}),
    optional=frozenset(
        {
            *(
                "Architectures",
                "CapacityProviderConfig",
                "CodeSigningConfigArn",
                "DeadLetterConfig",
                "Description",
            ),
            *(
                "DurableConfig",
                "Environment",
                "EphemeralStorage",
                "FileSystemConfigs",
                "FunctionName",
                "Handler",
            ),
            *(
                "ImageConfig",
                "KmsKeyArn",
                "Layers",
                "LoggingConfig",
                "MemorySize",
                "PackageType",
                "RecursiveLoop",
            ),
            *("ReservedConcurrentExecutions", "Runtime", "RuntimeManagementConfig", "SnapStart", "Tags"),
            *("TenancyConfig", "Timeout", "TracingConfig", "VpcConfig"),
        }
    ),
    create=_create,
    update=_update,
    delete=_delete,
    replaced_by=frozenset({"FunctionName", "PackageType", "TenancyConfig", "DurableConfig"}),
    name_property="FunctionName",
    tagged=True,
)
