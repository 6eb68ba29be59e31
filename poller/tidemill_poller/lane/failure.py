"""A sub-batch that was given up, as a failure record. Pure but for the clock it is given."""

from __future__ import annotations

from tidemill_poller.batch import Batch
from tidemill_poller.destinations import FailureRecord, ResponseContext
from tidemill_poller.lane.dependencies import LaneDependencies
from tidemill_poller.retry import Attempts, Condition, Delivered, FunctionError, Outcome


def failure_record(
    dependencies: LaneDependencies,
    batch: Batch,
    condition: Condition,
    *,
    attempts: Attempts,
    outcome: Outcome | None,
) -> FailureRecord:
    """Return what was given up, and why; `outcome` is the last one, None when nothing was invoked."""
    payload, undeliverable = batch.payload(), batch.undeliverable
    return FailureRecord(
        mapping_uuid=dependencies.mapping.uuid,
        function_arn=dependencies.mapping.function_arn,
        condition=condition,
        # On AWS it is 1 for what expired before its first delivery (recorded there for Kinesis).
        approximate_invoke_count=max(attempts.failed, 1),
        request_id=outcome.request_id if isinstance(outcome, Delivered | FunctionError) else "",
        response=_response(outcome) if condition == "RetryAttemptsExhausted" else None,
        batch_size=len(batch),
        event_source_arn=dependencies.event_source_arn,
        bootstrap_servers=",".join(dependencies.bootstrap_servers),
        payload_bytes=len(payload) if undeliverable is None else undeliverable.size_bytes,
        partition_key=batch.source.key,
        first_offset=batch.first_offset,
        last_offset=batch.last_offset,
        first_timestamp_ms=batch.records[0].timestamp,
        last_timestamp_ms=batch.records[-1].timestamp,
        payload=payload,
        timestamp_ms=dependencies.now_ms(),
    )


def _response(outcome: Outcome | None) -> ResponseContext | None:
    match outcome:
        case Delivered():  # partial failures: AWS writes null for functionError
            return ResponseContext(
                status_code=outcome.status_code,
                executed_version=outcome.executed_version,
                function_error=None,
            )
        case FunctionError():
            return ResponseContext(
                status_code=outcome.status_code,
                executed_version=outcome.executed_version,
                function_error=outcome.function_error,
            )
        case _:
            return None
