"""One table of all operations of Lambda's API: what is built, what is answered as none, what is not built.

`__main__` serves what `handlers` returns; docs/functions.md lists the table. A method has its operation's
name in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from tidemill_awsapi import Handler
from tidemill_functions.api.absent import AbsentApi
from tidemill_functions.api.attachments import AttachmentsApi
from tidemill_functions.api.control import ControlApi
from tidemill_functions.api.invoke import InvokeApi
from tidemill_functions.api.layers import LayersApi
from tidemill_functions.api.versions import VersionsApi


@dataclass(frozen=True, slots=True, kw_only=True)
class Apis:
    """What serves the operations; the fields are the keys of `SERVED`."""

    invoke: InvokeApi
    control: ControlApi
    versions: VersionsApi
    layers: LayersApi
    attachments: AttachmentsApi
    absent: AbsentApi


SERVED: Final[Mapping[str, Sequence[str]]] = {
    "invoke": ("Invoke", "InvokeAsync"),
    "control": (
        "CreateFunction",
        "GetFunction",
        "GetFunctionConfiguration",
        "ListFunctions",
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
        "DeleteFunction",
    ),
    "versions": (
        "PublishVersion",
        "ListVersionsByFunction",
        "CreateAlias",
        "UpdateAlias",
        "GetAlias",
        "ListAliases",
        "DeleteAlias",
    ),
    "layers": (
        "PublishLayerVersion",
        "GetLayerVersion",
        "GetLayerVersionByArn",
        "ListLayerVersions",
        "ListLayers",
        "DeleteLayerVersion",
        "AddLayerVersionPermission",
        "GetLayerVersionPolicy",
        "RemoveLayerVersionPermission",
    ),
    "attachments": (
        "TagResource",
        "UntagResource",
        "ListTags",
        "PutFunctionConcurrency",
        "GetFunctionConcurrency",
        "DeleteFunctionConcurrency",
        "GetAccountSettings",
        "AddPermission",
        "GetPolicy",
        "RemovePermission",
        "PutFunctionEventInvokeConfig",
        "UpdateFunctionEventInvokeConfig",
        "GetFunctionEventInvokeConfig",
        "ListFunctionEventInvokeConfigs",
        "DeleteFunctionEventInvokeConfig",
    ),
    "absent": (
        "GetFunctionCodeSigningConfig",
        "DeleteFunctionCodeSigningConfig",
        "ListCodeSigningConfigs",
        "GetCodeSigningConfig",
        "UpdateCodeSigningConfig",
        "DeleteCodeSigningConfig",
        "ListFunctionsByCodeSigningConfig",
        "GetFunctionUrlConfig",
        "ListFunctionUrlConfigs",
        "UpdateFunctionUrlConfig",
        "DeleteFunctionUrlConfig",
        "GetProvisionedConcurrencyConfig",
        "ListProvisionedConcurrencyConfigs",
        "DeleteProvisionedConcurrencyConfig",
        "GetRuntimeManagementConfig",
        "PutRuntimeManagementConfig",
        "GetFunctionRecursionConfig",
        "ListCapacityProviders",
        "GetCapacityProvider",
        "UpdateCapacityProvider",
        "DeleteCapacityProvider",
        "ListFunctionVersionsByCapacityProvider",
        "ListDurableExecutionsByFunction",
        "GetDurableExecution",
        "GetDurableExecutionHistory",
        "DeleteDurableExecution",
        "PauseDurableExecution",
        "ResumeDurableExecution",
        "StopDurableExecution",
    ),
}
# Served by the poller.
MAPPINGS: Final = (
    "CreateEventSourceMapping",
    "GetEventSourceMapping",
    "ListEventSourceMappings",
    "UpdateEventSourceMapping",
    "DeleteEventSourceMapping",
)
# Answered 501 with their names: whoever calls them would take another answer for the thing done.
NOT_BUILT: Final = (
    "CreateFunctionUrlConfig",
    "CreateCodeSigningConfig",
    "PutFunctionCodeSigningConfig",
    "PutProvisionedConcurrencyConfig",
    "PutFunctionRecursionConfig",
    "InvokeWithResponseStream",
    "CreateCapacityProvider",
    "GetFunctionScalingConfig",
    "PutFunctionScalingConfig",
    "GetResourcePolicy",
    "PutResourcePolicy",
    "DeleteResourcePolicy",
    "GetDurableExecutionState",
    "CheckpointDurableExecution",
    "SendDurableExecutionCallbackSuccess",
    "SendDurableExecutionCallbackFailure",
    "SendDurableExecutionCallbackHeartbeat",
)


def handlers(apis: Apis) -> dict[str, Handler]:
    """Return the handler of every operation that is served here."""
    return {
        name: getattr(getattr(apis, field.name), _method(name))
        for field in fields(apis)
        for name in SERVED[field.name]
    }


def _method(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
