"""Serves the Lambda operations that create, read, change and delete functions.

Owns Lambda's checks, defaults and reply shapes. It writes the registry and tells the pool what has changed;
it runs nothing itself. What Lambda offers and this runtime does not do is refused by name, never ignored.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemill_awsapi import ApiError, Call
from tidemill_functions.api.lookup import find_function, name_of
from tidemill_functions.code import s3
from tidemill_functions.code.registry import LATEST, Function, LocalCode, Registry, ZipCode
from tidemill_functions.errors import FunctionExists, InvalidFunction
from tidemill_functions.runtime.pool import Pool
from tidemill_functions.runtimes.table import Runtimes

logger = logging.getLogger(__name__)

# Lambda's limits; its model allows more for kinds of function that are not built here.
NAME_LENGTH_MAX = 64
TIMEOUT_S_MAX = 900
MEMORY_MB_MAX = 10_240
ENVIRONMENT_BYTES_MAX = 4096
_PAGE = 50
_RESERVED = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
# Answered as given: on one machine there is no role, no network and no second architecture to choose.
_ECHOED = ("Description", "Role", "VpcConfig", "TracingConfig", "Architectures", "EphemeralStorage")
# The values of the members that are not built which ask for nothing: they are accepted.
_UNBUILT: Mapping[str, tuple[Any, ...]] = {
    "Publish": (False,),
    "PublishTo": (),
    "Layers": ([],),
    "DeadLetterConfig": ({}, {"TargetArn": ""}),
    "FileSystemConfigs": ([],),
    "ImageConfig": ({},),
    "KMSKeyArn": ("",),
    "CodeSigningConfigArn": ("",),
    "SnapStart": ({"ApplyOn": "None"},),
    "TenancyConfig": ({},),
    "CapacityProviderConfig": ({},),
    "DurableConfig": ({},),
    "RuntimeConfig": ({},),
    "AcceleratorConfig": ({},),
}


class ControlApi:
    """The control operations, each a handler for tidemill_awsapi."""

    def __init__(self, registry: Registry, pool: Pool, runtimes: Runtimes) -> None:
        self._registry = registry
        self._pool = pool
        self._runtimes = runtimes

    async def create_function(self, call: Call) -> Mapping[str, Any]:
        """CreateFunction, from a zip."""
        params = call.params
        name = name_of(params["FunctionName"])
        if len(name) > NAME_LENGTH_MAX:
            raise _violation("functionName", name, f"have length less than or equal to {NAME_LENGTH_MAX}")
        if params.get("PackageType", "Zip") != "Zip" or "ImageUri" in params["Code"]:
            raise _invalid("Container images can not be run here: create the function from a zip.")
        if "Runtime" not in params or not params.get("Handler"):
            raise _invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        configuration = await self._configuration(params)
        if self._registry.get(name) is not None:
            raise _conflict(name)
        code = await self._store(name, params["Code"])
        try:
            function = self._registry.create(name, code=code, tags=params.get("Tags", {}), **configuration)
        except FunctionExists:
            self._registry.release(name, code)
            raise _conflict(name) from None
        return describe(function)

    async def get_function(self, call: Call) -> Mapping[str, Any]:
        """GetFunction."""
        function = self._find(call)
        return {
            "Configuration": describe(function),
            "Code": {"RepositoryType": "S3", "Location": _code_url(function, call)},
            "Tags": function.tags or None,
        }

    async def get_function_configuration(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionConfiguration; an edit of code that runs in place is a new revision."""
        return describe(self._pool.refresh(self._find(call)))

    async def list_functions(self, call: Call) -> Mapping[str, Any]:
        """ListFunctions; the marker is the name that the last page ended with."""
        marker, size = call.params.get("Marker", ""), call.params.get("MaxItems", _PAGE)
        following = [function for function in self._registry.all() if function.name > marker]
        page = following[: min(size, _PAGE)]
        return {
            "Functions": [describe(function) for function in page],
            "NextMarker": page[-1].name if len(following) > len(page) else None,
        }

    async def update_function_code(self, call: Call) -> Mapping[str, Any]:
        """UpdateFunctionCode, by a zip; code that ran in place is unpacked code from here on."""
        params = call.params
        function = self._find(call)
        _check_revision(function, params)
        _refuse_unbuilt(params)
        if "ImageUri" in params:
            raise _invalid("Container images can not be run here: update the function with a zip.")
        code = await self._store(function.name, params)
        if params.get("DryRun"):
            self._registry.release(function.name, code)
            return describe(function)
        if self._registry.get(function.name) is None:  # deleted while it was unpacked
            self._registry.release(function.name, code)
            raise ApiError("ResourceNotFoundException", f"Function not found: {function.arn}")
        return self._replace(function, code=code)

    async def update_function_configuration(self, call: Call) -> Mapping[str, Any]:
        """UpdateFunctionConfiguration; environments of the former configuration end."""
        function = self._find(call)
        _check_revision(function, call.params)
        changes = await self._configuration(call.params)
        if "echoed" in changes:
            changes["echoed"] = {**function.echoed, **changes["echoed"]}
        return self._replace(function, **changes)

    async def delete_function(self, call: Call) -> Mapping[str, Any]:
        """DeleteFunction; running invocations may end."""
        function = self._find(call)
        if call.params.get("Qualifier") == LATEST:
            raise _invalid("$LATEST version cannot be deleted without deleting the function.")
        self._pool.retire(self._registry.delete(function.name))
        return {"StatusCode": 204}

    def _find(self, call: Call) -> Function:
        return find_function(self._registry, call.params["FunctionName"], call.params.get("Qualifier"))

    async def _configuration(self, params: Mapping[str, Any]) -> dict[str, Any]:
        fields = _configuration(params)
        if runtime := params.get("Runtime"):
            try:
                note = await asyncio.to_thread(self._runtimes.check, runtime)
            except InvalidFunction as error:
                raise _invalid(str(error)) from None
            if note:
                logger.warning("another runtime is used function=%s note=%s", params["FunctionName"], note)
            fields |= {"runtime": runtime, "runtime_note": note}
        return fields

    def _replace(self, former: Function, **changes: Any) -> Mapping[str, Any]:
        current = self._registry.get(former.name) or former
        function = self._registry.replace(former.name, **changes)
        self._pool.retire(current)
        return describe(function)

    async def _store(self, name: str, code: Mapping[str, Any]) -> ZipCode:
        zipped = code.get("ZipFile")
        if zipped is None:
            if "S3Bucket" not in code or "S3Key" not in code:
                raise _invalid("Please provide a source for function code.")
            zipped = await _from_s3(code)
        try:
            return await asyncio.to_thread(self._registry.store_zip, name, zipped)
        except InvalidFunction as error:
            raise _invalid(str(error)) from None


def describe(function: Function) -> dict[str, Any]:
    """FunctionConfiguration as Lambda answers it; a function is Active as soon as it is registered."""
    code, echoed = function.code, function.echoed
    modified = datetime.fromtimestamp(function.last_modified_ms / 1000, UTC)
    vpc = echoed.get("VpcConfig")
    return {
        "FunctionName": function.name,
        "FunctionArn": function.arn,
        "Runtime": function.runtime,
        "RuntimeVersionConfig": _runtime_version(function),
        "Role": echoed.get("Role"),
        "Handler": function.handler,
        "CodeSize": 0 if isinstance(code, LocalCode) else code.size_bytes,
        "CodeSha256": "" if isinstance(code, LocalCode) else code.sha256,
        "Description": echoed.get("Description", ""),
        "Timeout": function.timeout_s,
        "MemorySize": function.memory_mb,
        "LastModified": modified.isoformat(timespec="milliseconds").replace("+00:00", "+0000"),
        "Version": LATEST,
        "VpcConfig": {**vpc, "VpcId": ""} if vpc else None,
        "Environment": {"Variables": function.environment} if function.environment else None,
        "TracingConfig": echoed.get("TracingConfig", {"Mode": "PassThrough"}),
        "RevisionId": function.revision_id,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": echoed.get("Architectures") or [_architecture()],
        "EphemeralStorage": echoed.get("EphemeralStorage", {"Size": 512}),
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": _log_group(function.name)},
    }


def _runtime_version(function: Function) -> dict[str, Any] | None:
    """Return Lambda's place for what is odd about a runtime's version; None if nothing is."""
    if not function.runtime_note:
        return None
    return {"Error": {"ErrorCode": "Tidemill.OtherVersion", "Message": function.runtime_note}}


def checked(
    *,
    timeout_s: int | None = None,
    memory_mb: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The fields of `Function` for these values, None left out. Raises ApiError as Lambda does."""
    fields: dict[str, Any] = {}
    if timeout_s is not None:
        _check_range("timeout", timeout_s, 1, TIMEOUT_S_MAX)
        fields["timeout_s"] = timeout_s
    if memory_mb is not None:
        _check_range("memorySize", memory_mb, 128, MEMORY_MB_MAX)
        fields["memory_mb"] = memory_mb
    if environment is not None:
        _check_environment(environment)
        fields["environment"] = dict(environment)
    return fields


def _configuration(params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Function` that a create or an update gives."""
    _refuse_unbuilt(params)
    fields = checked(
        timeout_s=params.get("Timeout"),
        memory_mb=params.get("MemorySize"),
        environment=params["Environment"].get("Variables", {}) if "Environment" in params else None,
    )
    if handler := params.get("Handler"):
        fields["handler"] = handler
    if echoed := {member: params[member] for member in _ECHOED if member in params}:
        fields["echoed"] = echoed
    return fields


def _refuse_unbuilt(params: Mapping[str, Any]) -> None:
    for member, harmless in _UNBUILT.items():
        if member in params and params[member] not in harmless:
            raise _invalid(f"{member} is not built in Tidemill: leave it out.")
    if params.get("LoggingConfig", {}) not in ({}, {"LogFormat": "Text"}):
        raise _invalid("LoggingConfig is not built in Tidemill but for the log format Text: leave it out.")


def _check_range(member: str, value: int, low: int, high: int) -> None:
    if value < low:
        raise _violation(member, value, f"have value greater than or equal to {low}")
    if value > high:
        raise _violation(member, value, f"have value less than or equal to {high}")


def _check_environment(variables: Mapping[str, str]) -> None:
    unable = (
        "Lambda was unable to configure your environment variables because the environment variables "
        "you have provided"
    )
    if reserved := _RESERVED & variables.keys():
        raise _invalid(
            f"{unable} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(sorted(reserved))}"
        )
    if any("\0" in text for item in variables.items() for text in item):
        raise _invalid("An environment variable contains a NUL character: take it out.")
    if sum(len(text.encode()) for item in variables.items() for text in item) > ENVIRONMENT_BYTES_MAX:
        # Lambda repeats the variables here; they may be secrets, so they are left out.
        raise _invalid(f"{unable} exceeded the 4KB limit.")


def _check_revision(function: Function, params: Mapping[str, Any]) -> None:
    if params.get("RevisionId", function.revision_id) != function.revision_id:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )


async def _from_s3(code: Mapping[str, Any]) -> bytes:
    try:
        return await asyncio.to_thread(
            s3.download, code["S3Bucket"], code["S3Key"], code.get("S3ObjectVersion")
        )
    except InvalidFunction as error:
        raise _invalid(str(error)) from None


def _code_url(function: Function, call: Call) -> str:
    """Where the zip can be fetched, at the address that the caller came by; a folder for code in place."""
    if isinstance(function.code, LocalCode):
        return Path(function.code.folder).as_uri()
    return f"http://{call.headers['Host']}/_tidemill/functions/{function.name}/code"


def _architecture() -> str:
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def _log_group(name: str) -> str:
    return f"/aws/lambda/{name}"


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)


def _conflict(name: str) -> ApiError:
    return ApiError("ResourceConflictException", f"Function already exist: {name}")


def _violation(member: str, value: object, rule: str) -> ApiError:
    """A limit of the service that its model does not carry, in the words of those that it does."""
    return ApiError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
        f"Member must {rule}",
        status=400,
    )
