"""Describes functions in Lambda's shapes, and words the refusals that several operations share.

Called by the modules that serve the Lambda API; it changes nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tidemill_awsapi import ApiError
from tidemill_functions.code.registry import Function, LocalCode
from tidemill_functions.destinations.sender import service_of

_PAGE_ITEMS: Final = 50


def describe(function: Function) -> dict[str, Any]:
    """Return the FunctionConfiguration; a function is Active as soon as it is registered."""
    code, echoed = function.code, function.echoed
    modified = datetime.fromtimestamp(function.last_modified_ms / 1000, UTC)
    vpc, dead_letter = echoed.get("VpcConfig"), echoed.get("DeadLetterConfig")
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
        "Version": function.version,
        "Layers": function.layers or None,
        "DeadLetterConfig": dead_letter if (dead_letter or {}).get("TargetArn") else None,
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
        "LoggingConfig": function.logging.described(),
    }


def _runtime_version(function: Function) -> dict[str, Any] | None:
    """Return Lambda's place for how a runtime's version differs; None if it does not."""
    if not function.runtime_note:
        return None
    return {"Error": {"ErrorCode": "Tidemill.OtherVersion", "Message": function.runtime_note}}


def _architecture() -> str:
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def check_revision(revision_id: str, params: Mapping[str, Any]) -> None:
    """Raise ApiError if the caller has seen another revision."""
    if params.get("RevisionId", revision_id) != revision_id:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )


def check_target(arn: str | None, services: Sequence[str], member: str) -> None:
    """Raise ApiError if this ARN names no service that results of Event invocations can go to."""
    if arn and service_of(arn) not in services:
        raise invalid(
            f"The value {arn} of {member} is not valid: give the ARN of one of these services: "
            f"{', '.join(services)}."
        )
    if arn and arn.endswith(".fifo"):
        raise invalid(f"{member} must be a standard queue or topic: {arn} is FIFO.")


def invalid(message: str) -> ApiError:
    """Return Lambda's refusal of a value."""
    return ApiError("InvalidParameterValueException", message)


def not_there(message: str = "The resource you requested does not exist.") -> ApiError:
    """Return Lambda's refusal of what does not exist."""
    return ApiError("ResourceNotFoundException", message)


def paged(
    items: Sequence[dict[str, Any]], params: Mapping[str, Any]
) -> tuple[Sequence[dict[str, Any]], str | None]:
    """Return one page and the next marker, which is the place of the next item."""
    marker = params.get("Marker", "")
    begin = int(marker) if marker.isdigit() else 0
    end = begin + min(params.get("MaxItems", _PAGE_ITEMS), _PAGE_ITEMS)
    return items[begin:end], str(end) if end < len(items) else None
