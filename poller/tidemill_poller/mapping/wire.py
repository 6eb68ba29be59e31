"""A Mapping as AWS replies it: the members of EventSourceMappingConfiguration, and only those that AWS shows.

Pure. Which members are absent when unset was recorded from the service (docs/parity.md).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tidemill_poller.mapping.model import (
    MSK_BLOCK,
    SELF_MANAGED_BLOCK,
    Mapping,
    MskSource,
    Provisioned,
    State,
)
from tidemill_poller.mapping.validation import BOOTSTRAP_KEY


def configuration(mapping: Mapping) -> dict[str, Any]:
    """The reply of Create, Get, Update and Delete, and one entry of List's; timestamps are datetimes."""
    return {
        "UUID": mapping.uuid,
        "EventSourceMappingArn": mapping.arn,
        "FunctionArn": mapping.function_arn,
        "Topics": [mapping.topic],
        "BatchSize": mapping.batch_size,
        "StartingPosition": str(mapping.starting_position),
        "State": str(mapping.state),
        "StateTransitionReason": mapping.state_transition_reason,
        "LastModified": _datetime(mapping.last_modified_ms),
        "LastProcessingResult": mapping.last_processing_result,
        **_source(mapping),
        **_optional(mapping),
        **_failure_handling(mapping),
    }


def damaged_configuration(uuid: str, reason: str, *, state: State = State.DISABLED) -> dict[str, Any]:
    """Return what is known of a mapping whose row cannot be read; AWS has no state for it."""
    return {
        "UUID": uuid,
        "State": str(state),
        "StateTransitionReason": "ESM_CONFIG_NOT_VALID",
        "LastProcessingResult": f"PROBLEM: {reason}",
    }


def _source(mapping: Mapping) -> dict[str, Any]:
    group = {"ConsumerGroupId": mapping.consumer_group_id}
    if isinstance(mapping.source, MskSource):
        return {"EventSourceArn": mapping.source.arn, MSK_BLOCK: group}
    endpoints = {BOOTSTRAP_KEY: list(mapping.source.bootstrap_servers)}
    return {"SelfManagedEventSource": {"Endpoints": endpoints}, SELF_MANAGED_BLOCK: group}


def _optional(mapping: Mapping) -> dict[str, Any]:
    """What shows only once it was set."""
    members: dict[str, Any] = {}
    if mapping.batching_window_s is not None:
        members["MaximumBatchingWindowInSeconds"] = mapping.batching_window_s
    if mapping.starting_position_timestamp_ms is not None:
        members["StartingPositionTimestamp"] = _datetime(mapping.starting_position_timestamp_ms)
    if mapping.access:
        members["SourceAccessConfigurations"] = [_access(one.type, one.uri) for one in mapping.access]
    if mapping.filter_patterns:
        members["FilterCriteria"] = {"Filters": [{"Pattern": one} for one in mapping.filter_patterns]}
    if mapping.on_failure is not None:
        members["DestinationConfig"] = {"OnFailure": {"Destination": mapping.on_failure}}
    if mapping.provisioned is not None:
        members["ProvisionedPollerConfig"] = _provisioned(mapping.provisioned)
    return members


def _failure_handling(mapping: Mapping) -> dict[str, Any]:
    """Absent on demand, as AWS's replies were seen; with provisioned mode shown, defaults too (inferred)."""
    members: dict[str, Any] = {
        "MaximumRetryAttempts": mapping.maximum_retry_attempts,
        "MaximumRecordAgeInSeconds": mapping.maximum_record_age_s,
        "BisectBatchOnFunctionError": mapping.bisect_batch_on_function_error,
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if mapping.report_batch_item_failures else [],
    }
    if mapping.provisioned is not None:
        return members
    defaults = {
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "FunctionResponseTypes": [],
    }
    return {name: value for name, value in members.items() if value != defaults[name]}


def _access(kind: str, uri: str) -> dict[str, str]:
    return {"Type": kind, "URI": uri} if uri else {"Type": kind}


def _provisioned(config: Provisioned) -> dict[str, Any]:
    members: dict[str, Any] = {
        "MinimumPollers": config.minimum_pollers,
        "MaximumPollers": config.maximum_pollers,
    }
    if config.group_name:
        members["PollerGroupName"] = config.group_name
    return members


def _datetime(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, tz=UTC)
