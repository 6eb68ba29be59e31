"""Serves Lambda operations on what no function has here: "none" is the truth, and AWS's answer to it.

What a caller would be misled by is not among them: operations.py lists it, and it is answered 501.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tidemill_awsapi import ApiError, Call
from tidemill_functions.api.description import invalid, not_there
from tidemill_functions.api.lookup import find_function, find_latest
from tidemill_functions.code.registry import Registry

_NO_CODE_SIGNING: Final = (
    "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
    "{}."
)


class AbsentApi:
    """The operations, each a handler for tidemill_awsapi."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get_function_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionCodeSigningConfig: no code is signed."""
        return {"CodeSigningConfigArn": "", "FunctionName": self._name(call)}

    async def get_function_url_config(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionUrlConfig: there is none."""
        self._name(call)
        raise not_there()

    async def list_function_url_configs(self, call: Call) -> Mapping[str, Any]:
        """ListFunctionUrlConfigs: there is none."""
        self._name(call)
        return {"FunctionUrlConfigs": []}

    async def get_provisioned_concurrency_config(self, call: Call) -> Mapping[str, Any]:
        """GetProvisionedConcurrencyConfig: there is none."""
        self._name(call)
        raise ApiError(
            "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function",
        )

    async def list_provisioned_concurrency_configs(self, call: Call) -> Mapping[str, Any]:
        """ListProvisionedConcurrencyConfigs: there is none."""
        self._name(call)
        return {"ProvisionedConcurrencyConfigs": []}

    async def get_runtime_management_config(self, call: Call) -> Mapping[str, Any]:
        """GetRuntimeManagementConfig: Lambda's default."""
        function = find_function(self._registry, call.params["FunctionName"], call.params.get("Qualifier"))
        return {"UpdateRuntimeOn": "Auto", "FunctionArn": function.arn}

    async def get_function_recursion_config(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionRecursionConfig: Lambda's default."""
        self._name(call)
        return {"RecursiveLoop": "Terminate"}

    async def put_runtime_management_config(self, call: Call) -> Mapping[str, Any]:
        """PutRuntimeManagementConfig: a runtime is this machine's, so that no version can be chosen."""
        if call.params["UpdateRuntimeOn"] == "Manual":
            raise invalid("UpdateRuntimeOn Manual is not built in Tidemill: a runtime is this machine's own.")
        return {**await self.get_runtime_management_config(call), **_given(call, "UpdateRuntimeOn")}

    async def delete_function_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        """DeleteFunctionCodeSigningConfig: there is none."""
        self._name(call)
        return {}

    async def list_code_signing_configs(self, _call: Call) -> Mapping[str, Any]:
        """ListCodeSigningConfigs: there is none."""
        return {"CodeSigningConfigs": []}

    async def get_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        """GetCodeSigningConfig: there is none."""
        raise not_there(_NO_CODE_SIGNING.format(call.params["CodeSigningConfigArn"]))

    update_code_signing_config = get_code_signing_config
    delete_code_signing_config = get_code_signing_config
    list_functions_by_code_signing_config = get_code_signing_config

    async def delete_function_url_config(self, call: Call) -> Mapping[str, Any]:
        """DeleteFunctionUrlConfig: there is none."""
        return await self.get_function_url_config(call)

    async def update_function_url_config(self, call: Call) -> Mapping[str, Any]:
        """UpdateFunctionUrlConfig: there is none."""
        return await self.get_function_url_config(call)

    async def delete_provisioned_concurrency_config(self, call: Call) -> Mapping[str, Any]:
        """DeleteProvisionedConcurrencyConfig: there is none."""
        self._name(call)
        raise not_there("No Provisioned Concurrency Config found for this function")

    async def list_capacity_providers(self, _call: Call) -> Mapping[str, Any]:
        """ListCapacityProviders: there is none."""
        return {"CapacityProviders": []}

    async def get_capacity_provider(self, call: Call) -> Mapping[str, Any]:
        """GetCapacityProvider: there is none."""
        raise not_there(f"Capacity provider not found: {call.params['CapacityProviderName']}")

    update_capacity_provider = get_capacity_provider
    delete_capacity_provider = get_capacity_provider
    list_function_versions_by_capacity_provider = get_capacity_provider

    async def list_durable_executions_by_function(self, call: Call) -> Mapping[str, Any]:
        """ListDurableExecutionsByFunction: there is none."""
        self._name(call)
        return {"DurableExecutions": []}

    async def get_durable_execution(self, call: Call) -> Mapping[str, Any]:
        """GetDurableExecution: there is none."""
        raise not_there(f"Durable execution not found: {call.params['DurableExecutionArn']}")

    get_durable_execution_history = get_durable_execution
    delete_durable_execution = get_durable_execution
    pause_durable_execution = get_durable_execution
    resume_durable_execution = get_durable_execution
    stop_durable_execution = get_durable_execution

    def _name(self, call: Call) -> str:
        return find_latest(self._registry, call.params["FunctionName"]).name


def _given(call: Call, *members: str) -> dict[str, Any]:
    return {member: call.params[member] for member in members}
