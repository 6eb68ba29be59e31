"""Serves the Lambda operations on what hangs on a function: tags, concurrency, policy, event config."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tidemill_awsapi import Call
from tidemill_functions.api.description import check_revision, check_target, invalid, not_there
from tidemill_functions.api.lookup import find_function, find_latest, qualifier_of
from tidemill_functions.api.policies import as_text, check_new, policy, statement, without
from tidemill_functions.code.registry import LATEST, Function, Registry
from tidemill_functions.destinations.sender import FAILURE_SERVICES, SUCCESS_SERVICES
from tidemill_functions.settings import Settings

_TAGS_MAX: Final = 50  # Lambda's quota
_EVENT_MEMBERS: Final = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
# Lambda's quotas for code, answered by GetAccountSettings.
_CODE_BYTES_MAX: Final = 80_530_636_800
_UNZIPPED_BYTES_MAX: Final = 262_144_000
_ZIPPED_BYTES_MAX: Final = 52_428_800


class AttachmentsApi:
    """The operations, each a handler for tidemill_awsapi."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings

    # Tags

    async def tag_resource(self, call: Call) -> Mapping[str, Any]:
        """TagResource."""
        name = self._name(call, "Resource")
        tags = {**self._registry.attached.get(name).tags, **call.params["Tags"]}
        if len(tags) > _TAGS_MAX:
            raise invalid(f"Number of tags exceeds resource tag limit of {_TAGS_MAX}.")
        self._registry.attached.put(name, tags=tags)
        return {}

    async def untag_resource(self, call: Call) -> Mapping[str, Any]:
        """UntagResource."""
        name, gone = self._name(call, "Resource"), set(call.params["TagKeys"])
        tags = self._registry.attached.get(name).tags
        self._registry.attached.put(name, tags={key: tags[key] for key in tags if key not in gone})
        return {}

    async def list_tags(self, call: Call) -> Mapping[str, Any]:
        """ListTags."""
        return {"Tags": self._registry.attached.get(self._name(call, "Resource")).tags}

    # Concurrency

    async def put_function_concurrency(self, call: Call) -> Mapping[str, Any]:
        """PutFunctionConcurrency; 0 throttles every invocation."""
        reserved = call.params["ReservedConcurrentExecutions"]
        self._registry.attached.put(self._name(call), reserved_concurrency=reserved)
        return {"ReservedConcurrentExecutions": reserved}

    async def get_function_concurrency(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionConcurrency."""
        reserved = self._registry.attached.get(self._name(call)).reserved_concurrency
        return {"ReservedConcurrentExecutions": reserved}

    async def delete_function_concurrency(self, call: Call) -> Mapping[str, Any]:
        """DeleteFunctionConcurrency."""
        self._registry.attached.put(self._name(call), reserved_concurrency=None)
        return {}

    async def get_account_settings(self, _call: Call) -> Mapping[str, Any]:
        """GetAccountSettings: the concurrency is this machine's."""
        functions, limit = self._registry.all(), self._settings.max_environments
        reserved = sum(self._registry.attached.get(f.name).reserved_concurrency or 0 for f in functions)
        return {
            "AccountLimit": {
                "TotalCodeSize": _CODE_BYTES_MAX,
                "CodeSizeUnzipped": _UNZIPPED_BYTES_MAX,
                "CodeSizeZipped": _ZIPPED_BYTES_MAX,
                "ConcurrentExecutions": limit,
                "UnreservedConcurrentExecutions": max(0, limit - reserved),
            },
            "AccountUsage": {
                "TotalCodeSize": sum(getattr(f.code, "size_bytes", 0) for f in functions),
                "FunctionCount": len(functions),
            },
        }

    # The resource policy: kept and answered, for nobody is denied on one machine

    async def add_permission(self, call: Call) -> Mapping[str, Any]:
        """AddPermission."""
        function, qualifier = self._qualified(call)
        check_revision(function.revision_id, call.params)
        found = self._registry.attached.get(function.name).statements
        statements = list(found.get(qualifier, ()))
        check_new(statements, call.params["StatementId"])
        key = f"{function.name}:{qualifier}" if qualifier else function.name
        added = statement(call.params, self._registry.arn(key))
        self._registry.attached.put(function.name, statements={**found, qualifier: [*statements, added]})
        return {"Statement": as_text(added)}

    async def get_policy(self, call: Call) -> Mapping[str, Any]:
        """GetPolicy."""
        function, qualifier = self._qualified(call)
        statements = self._registry.attached.get(function.name).statements.get(qualifier)
        if not statements:
            raise not_there()
        return {"Policy": policy(statements), "RevisionId": function.revision_id}

    async def remove_permission(self, call: Call) -> Mapping[str, Any]:
        """RemovePermission."""
        function, qualifier = self._qualified(call)
        check_revision(function.revision_id, call.params)
        found = self._registry.attached.get(function.name).statements
        left = without(found.get(qualifier, ()), call.params["StatementId"])
        self._registry.attached.put(function.name, statements={**found, qualifier: left})
        return {}

    # Event invocations

    async def put_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        """PutFunctionEventInvokeConfig: what is not given is Lambda's default."""
        return self._put_event(call, {})

    async def update_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        """UpdateFunctionEventInvokeConfig: what is not given stays."""
        return self._put_event(call, self._event(call))

    async def get_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        """GetFunctionEventInvokeConfig."""
        found, (function, qualifier) = self._event(call), self._qualified(call)
        return self._described_event(function.name, qualifier, found)

    async def list_function_event_invoke_configs(self, call: Call) -> Mapping[str, Any]:
        """ListFunctionEventInvokeConfigs."""
        name = self._name(call)
        found = self._registry.attached.get(name).event_invoke
        configs = [self._described_event(name, key, config) for key, config in sorted(found.items())]
        return {"FunctionEventInvokeConfigs": configs}

    async def delete_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        """DeleteFunctionEventInvokeConfig."""
        self._event(call)
        function, qualifier = self._qualified(call)
        found = self._registry.attached.get(function.name).event_invoke
        left = {key: config for key, config in found.items() if key != qualifier}
        self._registry.attached.put(function.name, event_invoke=left)
        return {}

    def _name(self, call: Call, member: str = "FunctionName") -> str:
        return find_latest(self._registry, call.params[member]).name

    def _qualified(self, call: Call) -> tuple[Function, str]:
        """Return the function and the qualifier that it was asked by, "" for none and $LATEST."""
        reference, qualifier = call.params["FunctionName"], call.params.get("Qualifier")
        function = find_function(self._registry, reference, qualifier)
        asked = qualifier_of(reference, qualifier)
        return function, "" if asked in (None, LATEST) else str(asked)

    def _event(self, call: Call) -> Mapping[str, Any]:
        function, qualifier = self._qualified(call)
        found = self._registry.attached.get(function.name).event_invoke.get(qualifier)
        if found is None:
            arn = self._registry.arn(f"{function.name}:{qualifier or LATEST}")
            raise not_there(f"The function {arn} doesn't have an EventInvokeConfig")
        return found

    def _put_event(self, call: Call, former: Mapping[str, Any]) -> Mapping[str, Any]:
        function, qualifier = self._qualified(call)
        given: dict[str, Any] = {
            member: call.params[member] for member in _EVENT_MEMBERS if member in call.params
        }
        for side, one in (given.get("DestinationConfig") or {}).items():
            allowed = SUCCESS_SERVICES if side == "OnSuccess" else FAILURE_SERVICES
            check_target(one.get("Destination"), allowed, f"DestinationConfig.{side}.Destination")
        config: dict[str, Any] = {**former, **given, "LastModified": time.time()}
        found = self._registry.attached.get(function.name).event_invoke
        self._registry.attached.put(function.name, event_invoke={**found, qualifier: config})
        return self._described_event(function.name, qualifier, config)

    def _described_event(self, name: str, qualifier: str, config: Mapping[str, Any]) -> dict[str, Any]:
        kept = config.get("DestinationConfig") or {}
        return {
            "FunctionArn": self._registry.arn(f"{name}:{qualifier or LATEST}"),
            "DestinationConfig": {
                side: {"Destination": to} if (to := (kept.get(side) or {}).get("Destination")) else {}
                for side in ("OnSuccess", "OnFailure")
            },
            **{member: config[member] for member in _EVENT_MEMBERS[:2] if member in config},
            "LastModified": datetime.fromtimestamp(config["LastModified"], UTC),
        }
