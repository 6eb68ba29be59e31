"""A mapping's life over HTTP: what each call replies and stores."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.poller.control_api.requests import MSK, QUEUE, SELF_MANAGED, VPC, msk, smk
from tidemill_poller.mapping import State
from tidemill_poller.store import FILE_NAME, MappingStore


def body(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key != "ResponseMetadata"}


def settle(store: MappingStore, uuid: str, state: State = State.ENABLED) -> None:
    """What the fleet does once it has acted."""
    assert store.set_status(uuid, state=state)


def test_a_minimal_self_managed_mapping_replies_what_aws_replied(client: Any) -> None:
    """Exactly the members that a recording of the real service has, and EventSourceMappingArn."""
    before = datetime.now(tz=UTC)
    reply = client.create_event_source_mapping(**smk())
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 202
    uuid = reply["UUID"]
    modified = reply["LastModified"]
    assert before - timedelta(seconds=1) < modified < before + timedelta(seconds=10)
    assert body(reply) == {
        "BatchSize": 100,
        "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:123456789012:event-source-mapping:{uuid}",
        "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        "LastModified": modified,
        "LastProcessingResult": "No records processed",
        "SelfManagedEventSource": SELF_MANAGED,
        "SelfManagedKafkaEventSourceConfig": {"ConsumerGroupId": uuid},
        "SourceAccessConfigurations": VPC,
        "StartingPosition": "TRIM_HORIZON",
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
        "Topics": ["orders"],
        "UUID": uuid,
    }


def test_every_field_that_is_set_comes_back_as_set(client: Any, store: MappingStore) -> None:
    fields = {
        "BatchSize": 10000,
        "MaximumBatchingWindowInSeconds": 0,
        "StartingPosition": "AT_TIMESTAMP",
        "StartingPositionTimestamp": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "mine"},
        "FilterCriteria": {"Filters": [{"Pattern": '{"value": {"a": ["b"]}}'}]},
        "DestinationConfig": {"OnFailure": {"Destination": QUEUE}},
        "MaximumRetryAttempts": 2,
        "MaximumRecordAgeInSeconds": 60,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ProvisionedPollerConfig": {"MinimumPollers": 2, "MaximumPollers": 4, "PollerGroupName": "g"},
    }
    reply = client.create_event_source_mapping(**msk(Enabled=False, Tags={"team": "tide"}, **fields))
    assert {key: reply[key] for key in fields} == fields
    assert reply["EventSourceArn"] == MSK
    assert "Tags" not in reply
    assert "Enabled" not in reply
    mapping = store.get(reply["UUID"])
    assert mapping is not None
    assert (mapping.enabled, mapping.report_batch_item_failures, mapping.window_ms) == (False, True, 0)
    assert client.list_tags(Resource=reply["EventSourceMappingArn"])["Tags"] == {"team": "tide"}


@pytest.mark.parametrize("qualifier", ["", ":1", ":live", ":$LATEST"])
@pytest.mark.parametrize(
    "prefix", ["", "123456789012:function:", "arn:aws:lambda:us-east-1:123456789012:function:"]
)
def test_every_form_of_a_function_name_replies_its_arn_with_the_qualifier_given(
    client: Any, prefix: str, qualifier: str
) -> None:
    reply = client.create_event_source_mapping(**smk(FunctionName=f"{prefix}f{qualifier}"))
    assert reply["FunctionArn"] == f"arn:aws:lambda:us-east-1:123456789012:function:f{qualifier}"


def test_get_shows_what_the_fleet_reported(client: Any, store: MappingStore) -> None:
    uuid = client.create_event_source_mapping(**msk())["UUID"]
    store.set_status(uuid, state=State.ENABLED, last_processing_result="OK")
    reply = client.get_event_source_mapping(UUID=uuid)
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (reply["State"], reply["LastProcessingResult"]) == ("Enabled", "OK")


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, "Updating"), ({"Enabled": True}, "Updating"), ({"Enabled": False}, "Disabling")],
)
def test_an_update_replies_its_transitional_state(
    client: Any, store: MappingStore, change: dict[str, Any], expected: str
) -> None:
    uuid = client.create_event_source_mapping(**msk())["UUID"]
    settle(store, uuid)
    reply = client.update_event_source_mapping(UUID=uuid, BatchSize=7, **change)
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (reply["State"], reply["BatchSize"]) == (expected, 7)


def test_a_disabled_mapping_is_enabled_again(client: Any, store: MappingStore) -> None:
    uuid = client.create_event_source_mapping(**msk(Enabled=False))["UUID"]
    settle(store, uuid, State.DISABLED)
    assert client.update_event_source_mapping(UUID=uuid, Enabled=True)["State"] == "Enabling"


def test_an_update_keeps_what_it_does_not_name(client: Any, store: MappingStore) -> None:
    created = client.create_event_source_mapping(
        **msk(
            MaximumBatchingWindowInSeconds=3,
            FilterCriteria={"Filters": [{"Pattern": '{"value": ["x"]}'}]},
            DestinationConfig={"OnFailure": {"Destination": QUEUE}},
            ProvisionedPollerConfig={"MaximumPollers": 3},
            MaximumRetryAttempts=5,
        )
    )
    settle(store, created["UUID"])
    reply = client.update_event_source_mapping(
        UUID=created["UUID"], FunctionName="g", ProvisionedPollerConfig={"MinimumPollers": 2}
    )
    changed = {"FunctionArn", "LastModified", "State", "ProvisionedPollerConfig", "ResponseMetadata"}
    assert {k: v for k, v in reply.items() if k not in changed} == {
        k: v for k, v in created.items() if k not in changed
    }
    assert reply["FunctionArn"].endswith(":function:g")
    assert reply["ProvisionedPollerConfig"] == {"MinimumPollers": 2, "MaximumPollers": 3}


def test_fields_are_cleared_as_on_aws(client: Any, store: MappingStore) -> None:
    uuid = client.create_event_source_mapping(
        **msk(
            FilterCriteria={"Filters": [{"Pattern": '{"value": ["x"]}'}]},
            DestinationConfig={"OnFailure": {"Destination": QUEUE}},
            ProvisionedPollerConfig={"MaximumPollers": 3},
            MaximumRetryAttempts=5,
        )
    )["UUID"]
    settle(store, uuid)
    reply = client.update_event_source_mapping(
        UUID=uuid,
        FilterCriteria={},
        DestinationConfig={"OnFailure": {"Destination": ""}},
        ProvisionedPollerConfig={},
        MaximumRetryAttempts=-1,
        KMSKeyArn="",
        MetricsConfig={"Metrics": []},
        AmazonManagedKafkaEventSourceConfig={"SchemaRegistryConfig": {}},
    )
    absent = {
        "FilterCriteria",
        "DestinationConfig",
        "ProvisionedPollerConfig",
        "MaximumRetryAttempts",
        "KMSKeyArn",
        "MetricsConfig",
    }
    assert absent.isdisjoint(reply)
    assert reply["AmazonManagedKafkaEventSourceConfig"] == {"ConsumerGroupId": uuid}


def test_a_delete_replies_the_mapping_as_deleting_and_the_fleet_ends_it(
    client: Any, store: MappingStore
) -> None:
    uuid = client.create_event_source_mapping(**msk())["UUID"]
    reply = client.delete_event_source_mapping(UUID=uuid)
    assert (reply["ResponseMetadata"]["HTTPStatusCode"], reply["State"]) == (202, "Deleting")
    assert client.get_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    store.delete(uuid)
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_event_source_mapping(UUID=uuid)
    error = caught.value.response
    assert (error["ResponseMetadata"]["HTTPStatusCode"], error["Type"]) == (404, "User")
    assert error["Error"]["Message"] == "The resource you requested does not exist."


def test_lists_filter_by_function_in_every_form_and_by_source(client: Any) -> None:
    smk_of_f = client.create_event_source_mapping(**smk())["UUID"]
    msk_of_live = client.create_event_source_mapping(**msk(FunctionName="f:live"))["UUID"]
    msk_of_g = client.create_event_source_mapping(**msk(FunctionName="g"))["UUID"]

    def listed(**filters: Any) -> set[str]:
        return {one["UUID"] for one in client.list_event_source_mappings(**filters)["EventSourceMappings"]}

    assert listed() == {smk_of_f, msk_of_live, msk_of_g}
    for prefix in ("", "123456789012:function:", "arn:aws:lambda:us-east-1:123456789012:function:"):
        assert listed(FunctionName=f"{prefix}f") == {smk_of_f}
        assert listed(FunctionName=f"{prefix}f:$LATEST") == {smk_of_f}
        assert listed(FunctionName=f"{prefix}f:live") == {msk_of_live}
    assert listed(FunctionName="arn:aws:lambda:eu-west-1:123456789012:function:f") == set()
    assert listed(FunctionName="absent") == set()
    assert listed(EventSourceArn=MSK) == {msk_of_live, msk_of_g}
    assert listed(EventSourceArn=MSK, FunctionName="g") == {msk_of_g}


def test_a_list_goes_page_by_page_through_all(client: Any) -> None:
    uuids = {client.create_event_source_mapping(**msk(Topics=[f"topic-{n}"]))["UUID"] for n in range(5)}
    pages = list(client.get_paginator("list_event_source_mappings").paginate(MaxItems=2))
    assert [len(page["EventSourceMappings"]) for page in pages] == [2, 2, 1]
    assert {one["UUID"] for page in pages for one in page["EventSourceMappings"]} == uuids


def test_a_page_has_a_hundred_at_most(client: Any) -> None:
    for n in range(101):
        client.create_event_source_mapping(**msk(Topics=[f"topic-{n}"]))
    first = client.list_event_source_mappings(MaxItems=10000)
    assert len(first["EventSourceMappings"]) == 100
    second = client.list_event_source_mappings(Marker=first["NextMarker"])
    assert len(second["EventSourceMappings"]) == 1
    assert "NextMarker" not in second


def test_tags_are_added_changed_and_removed_without_touching_what_runs(
    client: Any, store: MappingStore
) -> None:
    created = client.create_event_source_mapping(**msk(Tags={"a": "1", "b": "2"}))
    arn, revision = created["EventSourceMappingArn"], store.revision
    assert (
        client.tag_resource(Resource=arn, Tags={"b": "3", "c": ""})["ResponseMetadata"]["HTTPStatusCode"]
        == 204
    )
    client.untag_resource(Resource=arn, TagKeys=["a", "absent"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "3", "c": ""}
    mapping = store.get(created["UUID"])
    assert mapping is not None
    assert (mapping.version, store.revision) == (1, revision)


def test_a_damaged_mapping_is_listed_with_its_reason_and_can_be_deleted(
    client: Any, store: MappingStore, data_dir: Path
) -> None:
    damaged = client.create_event_source_mapping(**smk())["UUID"]
    sound = client.create_event_source_mapping(**msk())["UUID"]
    with sqlite3.connect(data_dir / FILE_NAME) as db:
        db.execute("UPDATE mappings SET configuration = '{' WHERE uuid = ?", (damaged,))
    db.close()

    listed = client.list_event_source_mappings()["EventSourceMappings"]
    assert [one["UUID"] for one in listed] == sorted([damaged, sound])
    shown = next(one for one in listed if one["UUID"] == damaged)
    assert (shown["State"], shown["StateTransitionReason"]) == ("Disabled", "ESM_CONFIG_NOT_VALID")
    assert shown["LastProcessingResult"].startswith(f"PROBLEM: {data_dir / FILE_NAME}: mapping {damaged}")
    assert body(client.get_event_source_mapping(UUID=damaged)) == shown
    assert [
        one["UUID"] for one in client.list_event_source_mappings(FunctionName="f")["EventSourceMappings"]
    ] == [sound]

    with pytest.raises(client.exceptions.ServiceException, match="delete the mapping and create it again"):
        client.update_event_source_mapping(UUID=damaged, BatchSize=5)
    assert client.delete_event_source_mapping(UUID=damaged)["State"] == "Deleting"
    assert [one["UUID"] for one in client.list_event_source_mappings()["EventSourceMappings"]] == [sound]


def test_a_page_ends_with_a_damaged_mapping_as_with_any(
    client: Any, store: MappingStore, data_dir: Path
) -> None:
    made = [client.create_event_source_mapping(**smk(Topics=[f"t{number}"]))["UUID"] for number in range(5)]
    with sqlite3.connect(data_dir / FILE_NAME) as db:
        db.execute("UPDATE mappings SET configuration = '{' WHERE uuid IN (?, ?)", (made[1], made[3]))
    db.close()
    pages = client.get_paginator("list_event_source_mappings").paginate(PaginationConfig={"PageSize": 2})
    assert [one["UUID"] for page in pages for one in page["EventSourceMappings"]] == sorted(made)
