"""A mapping derives from its fields what AWS derives, and changes only as a call asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tidemill_poller.errors import InvalidParameter, MappingConflict, MappingInUse
from tidemill_poller.mapping import (
    Mapping,
    MskSource,
    Provisioned,
    SelfManagedSource,
    StartingPosition,
    State,
)
from tidemill_poller.mapping.conflicts import check_conflicts
from tidemill_poller.mapping.validation import deleted_mapping, new_mapping, updated_mapping
from tidemill_poller.mapping.wire import configuration
from tidemill_poller.settings import Settings

NOW_MS = 1_700_000_000_123
UUID = "00000000-0000-0000-0000-000000000001"
ARN = "arn:aws-cn:lambda:cn-north-1:123456789012:function:f:live"
MSK = "arn:aws:kafka:us-east-1:123456789012:cluster/c/0a-1"
STRICT = Settings()


def made(**params: Any) -> Mapping:
    call = {"FunctionName": "f", "EventSourceArn": MSK, "Topics": ["orders"], **params}
    return new_mapping(call, uuid=UUID, now_ms=NOW_MS, settings=STRICT)


def enabled(**params: Any) -> Mapping:
    return replace(made(**params), state=State.ENABLED)


def updated(mapping: Mapping, **params: Any) -> Mapping:
    return updated_mapping(mapping, params, now_ms=NOW_MS + 1, settings=STRICT)


def test_a_minimal_mapping_has_awss_defaults() -> None:
    assert made() == Mapping(
        uuid=UUID,
        function_arn="f",
        source=MskSource(arn=MSK),
        topic="orders",
        consumer_group_id=UUID,
        batch_size=100,
        batching_window_s=None,
        starting_position=StartingPosition.TRIM_HORIZON,
        enabled=True,
        maximum_retry_attempts=-1,
        maximum_record_age_s=-1,
        state=State.CREATING,
        last_modified_ms=NOW_MS,
        version=1,
    )


@pytest.mark.parametrize(("window_s", "window_ms"), [(None, 500), (0, 0), (1, 1000), (300, 300_000)])
def test_the_window_is_half_a_second_until_it_is_set(window_s: int | None, window_ms: int) -> None:
    assert made(MaximumBatchingWindowInSeconds=window_s).window_ms == window_ms


@pytest.mark.parametrize(
    ("attempts", "destination", "expected"),
    [
        (-1, None, None),
        (-1, "arn:aws:sqs:us-east-1:123456789012:q", 10),
        (0, "arn:aws:sqs:us-east-1:123456789012:q", 0),
        (3, None, 3),
        (10_000, "arn:aws:sqs:us-east-1:123456789012:q", 10_000),
    ],
)
def test_infinite_retries_with_a_destination_are_ten(
    attempts: int, destination: str | None, expected: int | None
) -> None:
    mapping = replace(made(), maximum_retry_attempts=attempts, on_failure=destination)
    assert mapping.retry_attempts == expected


def test_a_mapping_has_an_arn_in_its_functions_account() -> None:
    assert (
        replace(made(), function_arn=ARN).arn
        == f"arn:aws-cn:lambda:cn-north-1:123456789012:event-source-mapping:{UUID}"
    )


def test_only_an_msk_mapping_has_a_source_arn() -> None:
    assert made().event_source_arn == MSK
    assert replace(made(), source=SelfManagedSource(bootstrap_servers=("a:1",))).event_source_arn is None


@pytest.mark.parametrize("arn_uuid", ["0a1b2c3d-1111-2222-3333-444455556666-1", "0a1b2c3d-1111-s1"])
@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_provisioned_and_serverless_clusters_of_every_partition_are_sources(
    partition: str, arn_uuid: str
) -> None:
    arn = f"arn:{partition}:kafka:us-east-1:123456789012:cluster/my-cluster/{arn_uuid}"
    assert made(EventSourceArn=arn).source == MskSource(arn=arn)


def test_a_starting_timestamp_is_kept_in_milliseconds() -> None:
    at = datetime(2023, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    mapping = made(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=at)
    assert mapping.starting_position_timestamp_ms == 1_672_531_200_500
    assert configuration(replace(mapping, function_arn=ARN))["StartingPositionTimestamp"] == at


@pytest.mark.parametrize("now", [True, False])
def test_a_starting_timestamp_may_be_now_but_not_later(now: bool) -> None:  # noqa: FBT001 - the case itself
    at = datetime.fromtimestamp((NOW_MS + (0 if now else 1)) / 1000, tz=UTC)
    if now:
        made(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=at)
    else:
        with pytest.raises(InvalidParameter):
            made(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=at)


def test_an_empty_update_changes_the_state_and_the_time_alone() -> None:
    before = enabled(ProvisionedPollerConfig={"MinimumPollers": 2}, MaximumRetryAttempts=1)
    assert updated(before) == replace(before, state=State.UPDATING, last_modified_ms=NOW_MS + 1)


def test_an_update_after_a_failure_is_the_users_again() -> None:
    before = replace(enabled(), state_transition_reason="EVENT_SOURCE_AUTHN_ERROR")
    assert updated(before, BatchSize=1).state_transition_reason == "USER_INITIATED"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, Provisioned(minimum_pollers=2, maximum_pollers=5, group_name="g")),
        ({}, None),
        ({"MaximumPollers": 3}, Provisioned(minimum_pollers=2, maximum_pollers=3, group_name="g")),
        ({"PollerGroupName": ""}, Provisioned(minimum_pollers=2, maximum_pollers=5)),
    ],
)
def test_provisioned_mode_is_changed_member_by_member_and_left_with_an_empty_block(
    config: dict[str, Any] | None, expected: Provisioned | None
) -> None:
    block = {"MinimumPollers": 2, "MaximumPollers": 5, "PollerGroupName": "g"}
    before = enabled(ProvisionedPollerConfig=block)
    assert updated(before, ProvisionedPollerConfig=config).provisioned == expected


def test_provisioned_mode_has_one_to_two_hundred_pollers_unless_set() -> None:
    assert made(ProvisionedPollerConfig={"MinimumPollers": 1}).provisioned == Provisioned(
        minimum_pollers=1, maximum_pollers=200
    )
    assert made(ProvisionedPollerConfig={}).provisioned is None


def test_an_update_into_provisioned_mode_may_set_its_fields_at_once() -> None:
    after = updated(
        enabled(),
        ProvisionedPollerConfig={"MaximumPollers": 1},
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    assert after.report_batch_item_failures


def test_a_destination_stays_when_the_block_names_none() -> None:
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    before = enabled(DestinationConfig={"OnFailure": {"Destination": queue}})
    unnamed: list[dict[str, Any]] = [{}, {"OnFailure": {}}, {"OnSuccess": {}}]
    for config in unnamed:
        assert updated(before, DestinationConfig=config).on_failure == queue


def test_forms_of_unbuilt_fields_that_ask_for_nothing_are_accepted() -> None:
    forms: dict[str, Any] = {
        "KMSKeyArn": "",
        "MetricsConfig": {"Metrics": []},
        "LoggingConfig": {},
        "AmazonManagedKafkaEventSourceConfig": {"SchemaRegistryConfig": {}},
    }
    assert made(**forms) == made()
    source = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:1"]}}
    vpc = [
        {"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"},
        {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-1"},
    ]
    stream = {"ConsumptionMode": "Stream"}
    assert made(
        EventSourceArn=None,
        SelfManagedEventSource=source,
        SourceAccessConfigurations=vpc,
        SelfManagedKafkaEventSourceConfig=stream,
    ).enabled


@pytest.mark.parametrize("state", [one for one in State if one.transitional])
def test_a_mapping_in_transition_cannot_be_updated(state: State) -> None:
    with pytest.raises(MappingInUse):
        updated(replace(made(), state=state))


def test_only_a_mapping_that_is_being_deleted_cannot_be_deleted() -> None:
    for state in State:
        mapping = replace(made(), state=state)
        if state is State.DELETING:
            with pytest.raises(MappingInUse):
                deleted_mapping(mapping, now_ms=NOW_MS)
        else:
            assert deleted_mapping(mapping, now_ms=NOW_MS).state is State.DELETING


def test_a_mapping_does_not_conflict_with_itself() -> None:
    check_conflicts(made(), [made()])
    with pytest.raises(MappingConflict):
        check_conflicts(made(), [replace(made(), uuid="other", consumer_group_id="other")])


def test_a_poller_group_has_a_hundred_mappings_at_most() -> None:
    mapping = made(ProvisionedPollerConfig={"MaximumPollers": 1, "PollerGroupName": "g"})
    others = [replace(mapping, uuid=str(n), topic=f"t{n}", consumer_group_id=str(n)) for n in range(100)]
    check_conflicts(mapping, others[:99])
    with pytest.raises(InvalidParameter, match="The poller group 'g' is full: 100 mappings at most"):
        check_conflicts(mapping, others)
