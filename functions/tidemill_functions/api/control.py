"""Serves the Lambda operations that create, read, change and delete functions.

Owns Lambda's checks, defaults and reply shapes. It writes the registry and tells the pool what has changed;
it runs nothing itself. What Lambda offers and this runtime does not do is refused by name, never ignored.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tidemill_awsapi import ApiError, Call
from tidemill_functions.api.description import check_revision, check_target, describe, invalid
from tidemill_functions.api.layers import layers_of
from tidemill_functions.api.lookup import find_function, find_latest, name_of, qualifier_of, weights_of
from tidemill_functions.api.packages import zip_of
from tidemill_functions.code import logging_config
from tidemill_functions.code.registry import LATEST, Function, LocalCode, Registry, ZipCode
from tidemill_functions.destinations.sender import DEAD_LETTER_SERVICES
from tidemill_functions.errors import FunctionExists, InvalidFunction
from tidemill_functions.runtime.pool import Pool
from tidemill_functions.runtimes.table import Runtimes

logger = logging.getLogger(__name__)

# Lambda's limits; its model allows more for kinds of function that are not built here.
NAME_LENGTH_MAX: Final = 64
TIMEOUT_S_MAX: Final = 900
MEMORY_MB_MAX: Final = 10_240
ENVIRONMENT_BYTES_MAX: Final = 4096
_PAGE: Final = 50
_RESERVED: Final = frozenset(
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
_ECHOED: Final = (
    "Description",
    "Role",
    "VpcConfig",
    "TracingConfig",
    "Architectures",
    "EphemeralStorage",
    "DeadLetterConfig",
)
# The values of members that are not built which request nothing: they are accepted.
_UNBUILT: Mapping[str, tuple[Any, ...]] = {
    "PublishTo": (),
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
            raise invalid("Container images cannot be run here: create the function from a zip.")
        if "Runtime" not in params or not params.get("Handler"):
            raise invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages."
            )
        configuration = await self._configuration(params, {})
        if self._registry.get(name) is not None:
            raise _conflict(name)
        code = await self._store(name, params["Code"])
        try:
            function = self._registry.create(name, code=code, **configuration)
        except FunctionExists:
            self._registry.release(name, code)
            raise _conflict(name) from None
        if tags := params.get("Tags"):
            self._registry.attached.put(name, tags=tags)
        return describe(self._registry.publish(name) if params.get("Publish") else function)

    async def get_function(self, call: Call) -> Mapping[str, Any]:
        """GetFunction."""
        function = self._find(call)
        attached = self._registry.attached.get(function.name)
        reserved = attached.reserved_concurrency
        return {
            "Configuration": describe(function),
            "Code": {"RepositoryType": "S3", "Location": _code_url(function, call)},
            "Tags": attached.tags or None,
            "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
        }

    async def get_function_configuration(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionConfiguration; an edit of code that runs in place is a new revision."""
        return describe(self._pool.refresh(self._find(call)))

    async def list_functions(self, call: Call) -> Mapping[str, Any]:
        """ListFunctions; the marker is the key that the last page ended with."""
        marker, size = call.params.get("Marker", ""), call.params.get("MaxItems", _PAGE)
        found = list(self._registry.all())
        every = call.params.get("FunctionVersion") == "ALL"
        if every:
            found = [one for function in found for one in (function, *self._registry.versions(function.name))]
        if "MasterRegion" in call.params:  # replicas of Lambda@Edge, which there are none of
            if not every:
                raise invalid("FunctionVersion must be set to ALL when MasterRegion is given.")
            found = []
        # What the last page ended with may be gone by now.
        begin = bisect.bisect_right(found, _place(marker), key=lambda one: _place(one.key)) if marker else 0
        page = found[begin : begin + min(size, _PAGE)]
        return {
            "Functions": [describe(function) for function in page],
            "NextMarker": page[-1].key if len(found) > begin + len(page) else None,
        }

    async def update_function_code(self, call: Call) -> Mapping[str, Any]:
        """UpdateFunctionCode, by a zip; code that ran in place is unpacked code from here on."""
        params = call.params
        function = self._latest(call)
        check_revision(function.revision_id, params)
        _refuse_unbuilt(params)
        if "ImageUri" in params:
            raise invalid("Container images cannot be run here: update the function with a zip.")
        code = await self._store(function.name, params)
        if params.get("DryRun"):
            self._registry.release(function.name, code)
            return describe(function)
        if self._registry.get(function.name) is None:  # deleted while it was unpacked
            self._registry.release(function.name, code)
            raise ApiError("ResourceNotFoundException", f"Function not found: {function.arn}")
        changes = {name: params[name] for name in ("Architectures",) if name in params}
        updated = self._replace(function, code=code, echoed={**function.echoed, **changes})
        return describe(self._registry.publish(function.name)) if params.get("Publish") else updated

    async def update_function_configuration(self, call: Call) -> Mapping[str, Any]:
        """UpdateFunctionConfiguration; environments of the former configuration end."""
        function = self._latest(call)
        check_revision(function.revision_id, call.params)
        changes = await self._configuration(call.params, function.echoed)
        if "echoed" in changes:
            changes["echoed"] = {**function.echoed, **changes["echoed"]}
        return self._replace(function, **changes)

    async def delete_function(self, call: Call) -> Mapping[str, Any]:
        """DeleteFunction, with all its versions, or one version; running invocations may end."""
        function = self._find(call)
        qualifier = qualifier_of(call.params["FunctionName"], call.params.get("Qualifier"))
        if qualifier == LATEST:
            raise invalid("$LATEST version cannot be deleted without deleting the function.")
        if qualifier is None:
            for version in self._registry.versions(function.name):
                self._pool.retire(self._registry.delete(version.key))
            self._pool.retire(self._registry.delete(function.name))
        else:
            self._delete_version(function, qualifier)
        return {"StatusCode": 204}

    def _delete_version(self, version: Function, qualifier: str) -> None:
        aliases = self._registry.attached.get(version.name).aliases
        if qualifier in aliases:
            raise invalid("Aliases are deleted by DeleteAlias.")
        using = [
            alias["Name"]
            for alias in aliases.values()
            if version.version in (alias["FunctionVersion"], *weights_of(alias))
        ]
        if using:
            raise ApiError(
                "ResourceConflictException",
                f"Unable to delete version because the following aliases reference it: [{', '.join(using)}]",
            )
        self._pool.retire(self._registry.delete(version.key))

    def _latest(self, call: Call) -> Function:
        """Return the function itself: versions do not change."""
        return find_latest(self._registry, call.params["FunctionName"])

    def _find(self, call: Call) -> Function:
        return find_function(self._registry, call.params["FunctionName"], call.params.get("Qualifier"))

    async def _configuration(self, params: Mapping[str, Any], echoed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of `Function` that a create or an update gives; `echoed` are those of before."""
        fields = _configuration(params)
        if "LoggingConfig" in params:
            former = echoed.get("LoggingConfig") or {}
            try:
                found = logging_config.changed(former, params["LoggingConfig"])
            except InvalidFunction as error:
                raise invalid(str(error)) from None
            fields["echoed"] = fields.get("echoed", {}) | {"LoggingConfig": found}
        if runtime := params.get("Runtime"):
            try:
                note = await asyncio.to_thread(self._runtimes.check, runtime)
            except InvalidFunction as error:
                raise invalid(str(error)) from None
            if note:
                logger.warning("another runtime is used function=%s note=%s", params["FunctionName"], note)
            fields |= {"runtime": runtime, "runtime_note": note}
        if "Layers" in params:
            fields["layers"] = await layers_of(self._registry.layers, params["Layers"])
        return fields

    def _replace(self, former: Function, **changes: Any) -> Mapping[str, Any]:
        current = self._registry.get(former.name) or former
        function = self._registry.replace(former.name, **changes)
        self._pool.retire(current)
        return describe(function)

    async def _store(self, name: str, code: Mapping[str, Any]) -> ZipCode:
        zipped = await zip_of(code)
        try:
            return await asyncio.to_thread(self._registry.store_zip, name, zipped)
        except InvalidFunction as error:
            raise invalid(str(error)) from None


def checked(
    *,
    timeout_s: int | None = None,
    memory_mb: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the fields of `Function` for these values, None left out. Raises ApiError as Lambda does."""
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
    """Return the fields of `Function` that a create or an update gives."""
    _refuse_unbuilt(params)
    fields = checked(
        timeout_s=params.get("Timeout"),
        memory_mb=params.get("MemorySize"),
        environment=params["Environment"].get("Variables", {}) if "Environment" in params else None,
    )
    dead_letter = (params.get("DeadLetterConfig") or {}).get("TargetArn")
    check_target(dead_letter, DEAD_LETTER_SERVICES, "DeadLetterConfig.TargetArn")
    if handler := params.get("Handler"):
        fields["handler"] = handler
    if echoed := {member: params[member] for member in _ECHOED if member in params}:
        fields["echoed"] = echoed
    return fields


def _refuse_unbuilt(params: Mapping[str, Any]) -> None:
    for member, harmless in _UNBUILT.items():
        if member in params and params[member] not in harmless:
            raise invalid(f"{member} is not built in Tidemill: leave it out.")


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
        raise invalid(
            f"{unable} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(sorted(reserved))}"
        )
    if any("\0" in text for item in variables.items() for text in item):
        raise invalid("An environment variable contains a NUL character: take it out.")
    if sum(len(text.encode()) for item in variables.items() for text in item) > ENVIRONMENT_BYTES_MAX:
        # Lambda repeats the variables here; they may be secrets, so they are left out.
        raise invalid(f"{unable} exceeded the 4KB limit.")


def _place(key: str) -> tuple[str, int]:
    """Return where a function or version stands in ListFunctions."""
    name, _, version = key.partition(":")
    return name, int(version) if version.isdigit() else 0


def _code_url(function: Function, call: Call) -> str:
    """Return where the zip can be fetched, at the caller's address for us; a folder for code in place."""
    if isinstance(function.code, LocalCode):
        return Path(function.code.folder).as_uri()
    return f"http://{call.headers['Host']}/_tidemill/functions/{function.name}/code"


def _conflict(name: str) -> ApiError:
    return ApiError("ResourceConflictException", f"Function already exist: {name}")


def _violation(member: str, value: object, rule: str) -> ApiError:
    """Return the refusal of a limit that the service's model lacks, in the words of those that it has."""
    return ApiError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: "
        f"Member must {rule}",
        status=400,
    )
