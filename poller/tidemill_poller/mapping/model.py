"""The event source mapping (ESM): what one is, as an immutable value, with AWS's defaults.

Pure: no I/O, no clock. `validation` makes one from an API call, `wire` turns one into AWS's reply;
the store keeps them, the fleet runs them. Facts: AWS Lambda API reference, EventSourceMappingConfiguration.

    create ──> Creating ──> Enabled | Disabled          the control API writes the states on the left,
    update ──> Updating ──> Enabled | Disabled          the fleet those on the right
    update Enabled=true  ──> Enabling  ──> Enabled
    update Enabled=false ──> Disabling ──> Disabled
    delete ──> Deleting ──> (gone: Get answers 404)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tidemill_poller.arn import parse_arn

DEFAULT_WINDOW_MS: Final = 500
"""AWS's batching window when none was ever set; no whole number of seconds gives it back."""

RETRIES_WITH_DESTINATION: Final = 10
"""Infinite retries together with an on-failure destination mean ten (AWS: kafka-retry-configurations)."""

UNLIMITED: Final = -1
"""MaximumRetryAttempts and MaximumRecordAgeInSeconds: no limit."""

MSK_BLOCK: Final = "AmazonManagedKafkaEventSourceConfig"
SELF_MANAGED_BLOCK: Final = "SelfManagedKafkaEventSourceConfig"
"""The API's block for what is the source's own: the consumer group among it."""

NO_RECORDS_PROCESSED: Final = "No records processed"
USER_INITIATED: Final = "USER_INITIATED"


class StartingPosition(StrEnum):
    """Where a consumer group without committed offsets begins."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_TIMESTAMP = "AT_TIMESTAMP"


class State(StrEnum):
    """The life of a mapping; the drawing is at the top of this module."""

    CREATING = "Creating"
    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    DISABLED = "Disabled"
    UPDATING = "Updating"
    DELETING = "Deleting"

    @property
    def transitional(self) -> bool:
        """Whether the fleet still has to act on it."""
        return self not in (State.ENABLED, State.DISABLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class MskSource:
    """An Amazon MSK cluster by its ARN; the MSK API names its bootstrap servers."""

    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfManagedSource:
    """Any Kafka cluster by its bootstrap servers, each `host:port`."""

    bootstrap_servers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAccess:
    """One entry of SourceAccessConfigurations; `uri` is a secret's ARN or a VPC component, or empty."""

    type: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """ProvisionedPollerConfig: how many consumers the fleet runs for the mapping."""

    minimum_pollers: int = 1
    maximum_pollers: int = 200
    group_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """One event source mapping: configuration, then status. Durations are in the unit the name says."""

    uuid: str
    function_arn: str
    """As AWS replies it, the qualifier kept as given."""
    source: MskSource | SelfManagedSource
    topic: str
    consumer_group_id: str
    batch_size: int = 100
    batching_window_s: int | None = None
    """None: never set, which is AWS's 500 ms."""
    starting_position: StartingPosition = StartingPosition.TRIM_HORIZON
    starting_position_timestamp_ms: int | None = None
    enabled: bool = True
    maximum_retry_attempts: int = UNLIMITED
    maximum_record_age_s: int = UNLIMITED
    bisect_batch_on_function_error: bool = False
    report_batch_item_failures: bool = False
    on_failure: str | None = None
    """The destination's ARN."""
    filter_patterns: tuple[str, ...] = ()
    access: tuple[SourceAccess, ...] = ()
    provisioned: Provisioned | None = None
    """None: on demand."""

    state: State = State.CREATING
    state_transition_reason: str = USER_INITIATED
    last_processing_result: str = NO_RECORDS_PROCESSED
    last_modified_ms: int = 0
    version: int = 1
    """Counts configurations, not states: the store adds one at every replace."""

    @property
    def window_ms(self) -> int:
        """How long a batch may wait to fill; 0 sends what one poll returned."""
        return DEFAULT_WINDOW_MS if self.batching_window_s is None else self.batching_window_s * 1000

    @property
    def retry_attempts(self) -> int | None:
        """Retries after the first invocation; None retries for ever."""
        if self.maximum_retry_attempts != UNLIMITED:
            return self.maximum_retry_attempts
        return None if self.on_failure is None else RETRIES_WITH_DESTINATION

    @property
    def event_source_arn(self) -> str | None:
        """The MSK cluster's ARN; None for self-managed Kafka."""
        return self.source.arn if isinstance(self.source, MskSource) else None

    @property
    def arn(self) -> str:
        """The mapping's own ARN, in its function's partition, region and account."""
        function = parse_arn(self.function_arn)
        assert function is not None, "the control API stores resolved ARNs"
        return str(replace(function, resource=f"event-source-mapping:{self.uuid}"))
