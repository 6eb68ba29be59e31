"""Every malformed mapping gets its error, word for word, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from tests.integration.poller.control_api.conftest import client_of, serving_control_api
from tests.integration.poller.control_api.requests import MSK, QUEUE, SELF_MANAGED, VPC, msk, smk
from tidemill_poller.mapping import State
from tidemill_poller.settings import Settings
from tidemill_poller.store import MappingStore

INVALID = "InvalidParameterValueException"
VALIDATION = "ValidationException"
SERIALIZATION = "SerializationException"
PROVISIONED = {"MinimumPollers": 1, "MaximumPollers": 2}
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:AmazonMSK_a-AbCdEf"


def must(value: str, path: str, constraint: str) -> str:
    return f"1 validation error detected: {violation(value, path, constraint)}"


def violation(value: str, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


def unsupported(field: str) -> str:
    return f"Unsupported '{field}' parameter for given event source mapping type."


def not_built(what: str) -> str:
    return (
        f"Tidemill does not support {what} yet and rejects it rather than ignore it:"
        " leave it out, or see docs/parity.md for what is planned."
    )


def access(*types: str, uri: str = SECRET) -> list[dict[str, str]]:
    return [{"Type": kind, "URI": uri} for kind in types]


def filters(*patterns: str) -> dict[str, Any]:
    return {"Filters": [{"Pattern": pattern} for pattern in patterns]}


def on_failure(destination: str) -> dict[str, Any]:
    return {"OnFailure": {"Destination": destination}}


# What Create and Update check alike: field, value, code, text.
BOTH: list[tuple[str, Any, str, str]] = [
    ("BatchSize", 0, VALIDATION, must("0", "batchSize", "have value greater than or equal to 1")),
    ("BatchSize", 10001, VALIDATION, must("10001", "batchSize", "have value less than or equal to 10000")),
    ("BatchSize", "ten", SERIALIZATION, "STRING_VALUE can not be converted to an Integer"),
    (
        "MaximumBatchingWindowInSeconds",
        -1,
        VALIDATION,
        must("-1", "maximumBatchingWindowInSeconds", "have value greater than or equal to 0"),
    ),
    (
        "MaximumBatchingWindowInSeconds",
        301,
        VALIDATION,
        must("301", "maximumBatchingWindowInSeconds", "have value less than or equal to 300"),
    ),
    ("Enabled", "yes", SERIALIZATION, "STRING_VALUE can not be converted to a Boolean"),
    (
        "MaximumRetryAttempts",
        -2,
        VALIDATION,
        must("-2", "maximumRetryAttempts", "have value greater than or equal to -1"),
    ),
    (
        "MaximumRetryAttempts",
        10001,
        VALIDATION,
        must("10001", "maximumRetryAttempts", "have value less than or equal to 10000"),
    ),
    (
        "MaximumRecordAgeInSeconds",
        -2,
        VALIDATION,
        must("-2", "maximumRecordAgeInSeconds", "have value greater than or equal to -1"),
    ),
    (
        "MaximumRecordAgeInSeconds",
        604801,
        VALIDATION,
        must("604801", "maximumRecordAgeInSeconds", "have value less than or equal to 604800"),
    ),
    ("MaximumRecordAgeInSeconds", 59, INVALID, "MaximumRecordAgeInSeconds must be -1, or from 60 to 604800."),
    ("MaximumRecordAgeInSeconds", 0, INVALID, "MaximumRecordAgeInSeconds must be -1, or from 60 to 604800."),
    ("BisectBatchOnFunctionError", 1, SERIALIZATION, "NUMBER_VALUE can not be converted to a Boolean"),
    (
        "FunctionResponseTypes",
        ["Everything"],
        VALIDATION,
        must(
            "[Everything]",
            "functionResponseTypes",
            "satisfy constraint: [Member must satisfy enum value set: [ReportBatchItemFailures],"
            " Member must not be null]",
        ),
    ),
    (
        "ProvisionedPollerConfig",
        {"MinimumPollers": 0},
        VALIDATION,
        must("0", "provisionedPollerConfig.minimumPollers", "have value greater than or equal to 1"),
    ),
    (
        "ProvisionedPollerConfig",
        {"MinimumPollers": 201},
        VALIDATION,
        must("201", "provisionedPollerConfig.minimumPollers", "have value less than or equal to 200"),
    ),
    (
        "ProvisionedPollerConfig",
        {"MaximumPollers": 2001},
        INVALID,
        "MaximumPollers of a Kafka event source mapping must be at most 2000.",
    ),
    (
        "ProvisionedPollerConfig",
        {"MinimumPollers": 3, "MaximumPollers": 2},
        INVALID,
        "MaximumPollers (2) must not be less than MinimumPollers (3).",
    ),
    (
        "ProvisionedPollerConfig",
        {"PollerGroupName": "a b"},
        VALIDATION,
        must(
            "a b",
            "provisionedPollerConfig.pollerGroupName",
            "satisfy regular expression pattern: [a-zA-Z0-9-_]*",
        ),
    ),
    (
        "FilterCriteria",
        filters(*['{"value":["x"]}'] * 6),
        INVALID,
        "FilterCriteria has 6 filters; at most 5 are allowed.",
    ),
    ("FilterCriteria", {"Filters": [{}]}, INVALID, "Invalid filter pattern definition."),
    ("FilterCriteria", filters("{"), INVALID, "Invalid filter pattern definition."),
    ("FilterCriteria", filters('{"value": "x"}'), INVALID, "Invalid filter pattern definition."),
    ("FilterCriteria", filters('{"value": [{"like": "x"}]}'), INVALID, "Invalid filter pattern definition."),
    (
        "FilterCriteria",
        filters('{"value": [{"wildcard": "x*"}]}'),
        INVALID,
        "Invalid filter pattern definition.",
    ),
    *(
        ("FilterCriteria", filters(*patterns), INVALID, "Invalid filter pattern definition.")
        for patterns in (
            ['{"eventName": "INSERT"}'],
            ['{"eventName": {"a": "INSERT"}}'],
            ['{"eventName": ["INSERT"], "value": "x"}'],
            ['{"$or": [{"eventName": ["x"]}, {"key": "x"}]}'],
            ['{"eventName": ["INSERT"]}', '{"value": "x"}'],
        )
    ),
    (
        "FilterCriteria",
        filters('{"key": ["x"]}'),
        INVALID,
        "Kafka records are filtered by 'value' only: 'key' cannot be in a filter pattern.",
    ),
    (
        "DestinationConfig",
        {"OnSuccess": {"Destination": QUEUE}},
        INVALID,
        "Unsupported DestinationConfig parameter for given event source mapping type.",
    ),
    (
        "DestinationConfig",
        on_failure("arn:aws:lambda:us-east-1:123456789012:function:f"),
        INVALID,
        (
            "'arn:aws:lambda:us-east-1:123456789012:function:f' is no on-failure destination:"
            " give the ARN of an SQS queue, SNS topic or S3 bucket."
        ),
    ),
    (
        "DestinationConfig",
        on_failure(f"{QUEUE}.fifo"),
        INVALID,
        f"'{QUEUE}.fifo' is FIFO, and on-failure destinations must be standard.",
    ),
    ("DestinationConfig", on_failure("kafka://dead"), INVALID, not_built("a kafka:// destination")),
    ("ParallelizationFactor", 2, INVALID, unsupported("parallelizationFactor")),
    ("TumblingWindowInSeconds", 10, INVALID, unsupported("tumblingWindowInSeconds")),
    ("ScalingConfig", {"MaximumConcurrency": 2}, INVALID, unsupported("scalingConfig")),
    (
        "DocumentDBEventSourceConfig",
        {"DatabaseName": "d"},
        INVALID,
        unsupported("documentDBEventSourceConfig"),
    ),
    ("MaximumRetryAttempts", 2, INVALID, unsupported("maximumRetryAttempts")),
    ("MaximumRetryAttempts", -1, INVALID, unsupported("maximumRetryAttempts")),
    ("MaximumRecordAgeInSeconds", 60, INVALID, unsupported("maximumRecordAgeInSeconds")),
    ("BisectBatchOnFunctionError", True, INVALID, unsupported("bisectBatchOnFunctionError")),
    ("FunctionResponseTypes", ["ReportBatchItemFailures"], INVALID, unsupported("functionResponseTypes")),
    (
        "AmazonManagedKafkaEventSourceConfig",
        {"ConsumerGroupId": "x"},
        INVALID,
        unsupported("amazonManagedKafkaEventSourceConfig"),
    ),
    (
        "KMSKeyArn",
        "arn:aws:kms:us-east-1:123456789012:key/1",
        INVALID,
        not_built("KMSKeyArn"),
    ),
    ("LoggingConfig", {"SystemLogLevel": "INFO"}, INVALID, not_built("LoggingConfig")),
    ("MetricsConfig", {"Metrics": ["EventCount"]}, INVALID, not_built("MetricsConfig")),
    (
        "SelfManagedKafkaEventSourceConfig",
        {"SchemaRegistryConfig": {"SchemaRegistryURI": "https://registry.example"}},
        INVALID,
        not_built("SchemaRegistryConfig"),
    ),
    (
        "SelfManagedKafkaEventSourceConfig",
        {"ConsumptionMode": "Queue"},
        INVALID,
        not_built("ConsumptionMode Queue"),
    ),
    ("FunctionName", "absent", INVALID, "Function does not exist"),
    ("FunctionName", "f:absent", INVALID, "Function does not exist"),
    (
        "FunctionName",
        "slow",
        INVALID,
        (
            "The function's timeout of 900 s is above the 840 s that a Kafka event source mapping allows:"
            " lower it and try again."
        ),
    ),
    (
        "SourceAccessConfigurations",
        [],
        INVALID,
        "Required 'sourceAccessConfigurations' parameter is missing.",
    ),
    (
        "SourceAccessConfigurations",
        [{"URI": "subnet:subnet-1"}],
        INVALID,
        "Every entry of SourceAccessConfigurations needs a Type.",
    ),
    (
        "SourceAccessConfigurations",
        [{"Type": "VPC_SUBNET"}],
        INVALID,
        "SourceAccessConfigurations type VPC_SUBNET needs a URI.",
    ),
    (
        "SourceAccessConfigurations",
        VPC[:1],
        INVALID,
        "SourceAccessConfigurations type VPC_SUBNET needs VPC_SECURITY_GROUP beside it.",
    ),
    (
        "SourceAccessConfigurations",
        VPC[1:],
        INVALID,
        "SourceAccessConfigurations type VPC_SECURITY_GROUP needs VPC_SUBNET beside it.",
    ),
    (
        "SourceAccessConfigurations",
        [{"Type": "VPC_SUBNET", "URI": "net-1"}, VPC[1]],
        INVALID,
        "The URI of VPC_SUBNET must look like subnet:subnet-0123456789abcdef0, not 'net-1'.",
    ),
    (
        "SourceAccessConfigurations",
        [VPC[0], {"Type": "VPC_SECURITY_GROUP", "URI": "security_group:sg-"}],
        INVALID,
        (
            "The URI of VPC_SECURITY_GROUP must look like security_group:sg-0123456789abcdef0,"
            " not 'security_group:sg-'."
        ),
    ),
    (
        "SourceAccessConfigurations",
        access("BASIC_AUTH", "SASL_SCRAM_512_AUTH"),
        INVALID,
        (
            "SourceAccessConfigurations must have one authentication mechanism,"
            " not BASIC_AUTH, SASL_SCRAM_512_AUTH."
        ),
    ),
    (
        "SourceAccessConfigurations",
        access("VIRTUAL_HOST"),
        INVALID,
        "SourceAccessConfigurations type VIRTUAL_HOST is not for a self-managed Kafka event source.",
    ),
    (
        "SourceAccessConfigurations",
        access("IAM_AUTH"),
        INVALID,
        "SourceAccessConfigurations type IAM_AUTH takes no URI: leave it out.",
    ),
    (
        "SourceAccessConfigurations",
        access("OAUTHBEARER_SCOPE"),
        INVALID,
        "SourceAccessConfigurations type OAUTHBEARER_SCOPE needs OAUTHBEARER_AUTH beside it.",
    ),
    (
        "SourceAccessConfigurations",
        [
            {"Type": "IAM_OAUTHBEARER_AUTH"},
            *access("OAUTHBEARER_AUDIENCE", uri="me"),
            *access("OAUTHBEARER_IDENTITY_POOL", uri="pool"),
        ],
        INVALID,
        "SourceAccessConfigurations type OAUTHBEARER_IDENTITY_POOL needs OAUTHBEARER_AUTH beside it.",
    ),
    (
        "SourceAccessConfigurations",
        access("OAUTHBEARER_AUTH"),
        INVALID,
        not_built("SourceAccessConfigurations type OAUTHBEARER_AUTH"),
    ),
    (
        "SourceAccessConfigurations",
        [{"Type": "IAM_OAUTHBEARER_AUTH"}, *access("OAUTHBEARER_AUDIENCE", uri="me")],
        INVALID,
        not_built("SourceAccessConfigurations type IAM_OAUTHBEARER_AUTH"),
    ),
    (
        "SourceAccessConfigurations",
        access("BASIC_AUTH", "SERVER_ROOT_CA_CERTIFICATE", "SERVER_ROOT_CA_CERTIFICATE"),
        INVALID,
        "SourceAccessConfigurations must have one SERVER_ROOT_CA_CERTIFICATE at most.",
    ),
]

_FUTURE = datetime.now(tz=UTC) + timedelta(hours=1)
_PAST = datetime(2024, 1, 1, tzinfo=UTC)

# What only Create knows: the whole call, code, text.
CREATE: list[tuple[dict[str, Any], str, str]] = [
    ({"FunctionName": "f", "Topics": ["orders"]}, INVALID, "Unrecognized event source."),
    (smk(EventSourceArn=MSK), INVALID, "Give EventSourceArn or SelfManagedEventSource, not both."),
    (msk(EventSourceArn="arn:aws:s3:::bucket"), INVALID, "Unrecognized event source."),
    (
        msk(EventSourceArn="arn:aws:sqs:us-east-1:123456789012:q"),
        INVALID,
        (
            "Tidemill maps Kafka topics only, not sqs: give an MSK cluster's ARN as EventSourceArn,"
            " or SelfManagedEventSource."
        ),
    ),
    (
        msk(EventSourceArn="arn:aws:kafka:us-east-1:123456789012:vpc-connection/123456789012/c/u"),
        INVALID,
        not_built("EventSourceArn of an MSK VPC connection"),
    ),
    (msk(Topics=None), INVALID, "Required 'topics' parameter is missing."),
    (msk(Queues=["q"]), INVALID, unsupported("queues")),
    (
        msk(SelfManagedKafkaEventSourceConfig={"ConsumerGroupId": "x"}),
        INVALID,
        unsupported("selfManagedKafkaEventSourceConfig"),
    ),
    (
        msk(SourceAccessConfigurations=VPC),
        INVALID,
        "SourceAccessConfigurations type VPC_SUBNET is not for an Amazon MSK event source.",
    ),
    (
        msk(SourceAccessConfigurations=access("BASIC_AUTH")),
        INVALID,
        "SourceAccessConfigurations type BASIC_AUTH is not for an Amazon MSK event source.",
    ),
    (
        msk(ProvisionedPollerConfig=PROVISIONED, DestinationConfig=on_failure("kafka://orders")),
        INVALID,
        "The on-failure topic must not be the source topic 'orders': failures would come back for ever.",
    ),
    (
        msk(ProvisionedPollerConfig=PROVISIONED, DestinationConfig=on_failure("kafka://dead")),
        INVALID,
        not_built("a kafka:// destination"),
    ),
    (
        smk(SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b:65536"]}}),
        INVALID,
        "'b:65536' in SelfManagedEventSource has no valid port: 1 to 65535.",
    ),
    (
        msk(StartingPosition="EARLIEST"),
        VALIDATION,
        must(
            "EARLIEST",
            "startingPosition",
            "satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]",
        ),
    ),
    (
        msk(StartingPosition="AT_TIMESTAMP"),
        INVALID,
        "Need to specify a timestamp",
    ),
    (
        msk(StartingPositionTimestamp=_PAST),
        INVALID,
        "StartingPositionTimestamp is only for StartingPosition AT_TIMESTAMP.",
    ),
    *(
        (
            msk(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=timestamp),
            INVALID,
            "StartingPositionTimestamp must be between 1970 and now.",
        )
        for timestamp in (_FUTURE, -1, -2)
    ),
    (
        msk(Tags={"aws:mine": "x"}),
        INVALID,
        "The tag key 'aws:mine' is reserved: choose one that does not begin with aws:.",
    ),
    (
        msk(Tags={str(n): "" for n in range(51)}),
        INVALID,
        "A mapping can have 50 tags, and this would make 51.",
    ),
    (
        msk(Topics=["a", "b"]),
        VALIDATION,
        "2 validation errors detected: "
        + violation("[a, b]", "topics", "have length less than or equal to 1; ")
        + violation("[a, b]", "topics", "satisfy constraint: [")
        + "Member must have length less than or equal to 249, "
        "Member must have length greater than or equal to 1, "
        "Member must satisfy regular expression pattern: [^.]([a-zA-Z0-9\\-_.]+), Member must not be null]",
    ),
]


def rejected(call: Any, **params: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**{name: value for name, value in params.items() if value is not None})
    response: dict[str, Any] = caught.value.response
    return response


def code_and_text(response: dict[str, Any]) -> tuple[str, str]:
    return response["Error"]["Code"], response["Error"]["Message"]


def case_id(value: Any) -> str | None:
    return value if isinstance(value, str) and value.isalnum() else None


@pytest.mark.parametrize(("field", "value", "code", "text"), BOTH, ids=case_id)
def test_a_create_with_a_bad_field_is_rejected_and_stores_nothing(
    client: Any, store: MappingStore, field: str, value: Any, code: str, text: str
) -> None:
    revision = store.revision
    response = rejected(client.create_event_source_mapping, **smk(**{field: value}))
    assert code_and_text(response) == (code, text)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    if code == INVALID:  # the others are not of Lambda's model, so boto3 shows code and text alone
        assert response["Type"] == "User"
    assert (store.all(), store.revision) == ([], revision)


@pytest.mark.parametrize(("field", "value", "code", "text"), BOTH, ids=case_id)
def test_an_update_with_a_bad_field_is_rejected_and_changes_nothing(
    client: Any, store: MappingStore, field: str, value: Any, code: str, text: str
) -> None:
    uuid = client.create_event_source_mapping(**smk())["UUID"]
    store.set_status(uuid, state=State.ENABLED)
    before = (store.get(uuid), store.revision)
    response = rejected(client.update_event_source_mapping, UUID=uuid, **{"Enabled": False, field: value})
    assert code_and_text(response) == (code, text)
    assert (store.get(uuid), store.revision) == before


@pytest.mark.parametrize(("call", "code", "text"), CREATE)
def test_a_create_that_does_not_hold_together_is_rejected(
    client: Any, store: MappingStore, call: dict[str, Any], code: str, text: str
) -> None:
    revision = store.revision
    assert code_and_text(rejected(client.create_event_source_mapping, **call)) == (code, text)
    assert (store.all(), store.revision) == ([], revision)


def test_every_fault_of_a_call_is_named_at_once(client: Any) -> None:
    _, text = code_and_text(
        rejected(client.create_event_source_mapping, **msk(BatchSize=0, StartingPosition="x"))
    )
    assert text == (
        "2 validation errors detected: "
        + violation("0", "batchSize", "have value greater than or equal to 1; ")
        + violation("x", "startingPosition", "satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]")
    )


def test_a_bad_pattern_s_reason_stands_beside_aws_s_text(client: Any) -> None:
    pattern = '{"value": {"a": [{"lik\\u00e9\\n": "x"}]}}'
    response = rejected(client.create_event_source_mapping, **smk(FilterCriteria=filters(pattern)))
    assert response["Error"]["Message"] == "Invalid filter pattern definition."
    reason = response["ResponseMetadata"]["HTTPHeaders"]["x-tidemill-reason"]
    assert reason == r"\"lik\u00e9\n\" is not an operator of filter patterns"


def test_the_consumer_group_cannot_be_updated_even_to_itself(client: Any, store: MappingStore) -> None:
    for call, block in (
        (smk(), "selfManagedKafkaEventSourceConfig"),
        (msk(FunctionName="g"), "amazonManagedKafkaEventSourceConfig"),
    ):
        uuid = client.create_event_source_mapping(**call)["UUID"]
        store.set_status(uuid, state=State.ENABLED)
        field = block[0].upper() + block[1:]
        response = rejected(
            client.update_event_source_mapping, UUID=uuid, **{field: {"ConsumerGroupId": uuid}}
        )
        assert code_and_text(response) == (INVALID, f"Unsupported '{block}.consumerGroupId' parameter")


@pytest.mark.parametrize(
    "state", [State.CREATING, State.UPDATING, State.ENABLING, State.DISABLING, State.DELETING]
)
def test_a_mapping_in_transition_is_not_updated(client: Any, store: MappingStore, state: State) -> None:
    uuid = client.create_event_source_mapping(**msk())["UUID"]
    store.set_status(uuid, state=state)
    response = rejected(client.update_event_source_mapping, UUID=uuid, BatchSize=1)
    assert code_and_text(response) == (
        "ResourceInUseException",
        "Cannot update the event source mapping because it is in use.",
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    mapping = store.get(uuid)
    assert mapping is not None
    assert (mapping.batch_size, mapping.state) == (100, state)


@pytest.mark.parametrize("state", [one for one in State if one is not State.DELETING])
def test_a_mapping_can_be_deleted_in_any_state_but_only_once(
    client: Any, store: MappingStore, state: State
) -> None:
    uuid = client.create_event_source_mapping(**msk())["UUID"]
    store.set_status(uuid, state=state)
    assert client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    assert code_and_text(rejected(client.delete_event_source_mapping, UUID=uuid)) == (
        "ResourceInUseException",
        "Cannot delete the event source mapping because it is in use.",
    )


def test_provisioned_mode_is_not_left_while_its_fields_are_set(client: Any, store: MappingStore) -> None:
    uuid = client.create_event_source_mapping(
        **msk(ProvisionedPollerConfig=PROVISIONED, BisectBatchOnFunctionError=True)
    )["UUID"]
    store.set_status(uuid, state=State.ENABLED)
    response = rejected(client.update_event_source_mapping, UUID=uuid, ProvisionedPollerConfig={})
    assert code_and_text(response) == (INVALID, unsupported("bisectBatchOnFunctionError"))


def test_more_minimum_than_the_stored_maximum_pollers_is_rejected(client: Any, store: MappingStore) -> None:
    uuid = client.create_event_source_mapping(**msk(ProvisionedPollerConfig=PROVISIONED))["UUID"]
    store.set_status(uuid, state=State.ENABLED)
    response = rejected(
        client.update_event_source_mapping, UUID=uuid, ProvisionedPollerConfig={"MinimumPollers": 3}
    )
    assert code_and_text(response) == (
        INVALID,
        "MaximumPollers (2) must not be less than MinimumPollers (3).",
    )


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
def test_an_unknown_uuid_is_not_found(client: Any, operation: str) -> None:
    response = rejected(
        getattr(client, f"{operation}_event_source_mapping"), UUID="00000000-0000-0000-0000-000000000000"
    )
    assert code_and_text(response) == (
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 404


FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


def conflict_text(kind: str, source: str, what: str, uuid: str) -> str:
    return (
        f'An event source mapping with {kind} ("{source}"), {what} already exists.'
        f" Please update or delete the existing mapping with UUID {uuid}"
    )


def duplicate_text(source: str, uuid: str) -> str:
    return conflict_text("event source", source, f'function ("{FUNCTION_ARN}"), topics ("orders")', uuid)


def msk_duplicate_text(uuid: str) -> str:
    return conflict_text("event source arn", MSK, f'function ("{FUNCTION_ARN}") and topics ("orders")', uuid)


def test_one_shared_bootstrap_server_makes_a_duplicate_whatever_the_consumer_group(
    client: Any, store: MappingStore
) -> None:
    uuid = client.create_event_source_mapping(**smk())["UUID"]
    other = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b3.example:9092", "b2.example:9092"]}}
    response = rejected(
        client.create_event_source_mapping,
        **smk(SelfManagedEventSource=other, SelfManagedKafkaEventSourceConfig={"ConsumerGroupId": "x"}),
    )
    assert code_and_text(response) == (
        "ResourceConflictException",
        duplicate_text("b3.example:9092,b2.example:9092", uuid),
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert len(store.all()) == 1


def test_another_topic_function_version_or_cluster_is_no_duplicate(client: Any, store: MappingStore) -> None:
    other_servers = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["b9.example:9092"]}}
    for call in (
        smk(),
        smk(Topics=["payments"]),
        smk(FunctionName="g"),
        smk(FunctionName="f:1"),
        smk(SelfManagedEventSource=other_servers),
        msk(),
    ):
        client.create_event_source_mapping(**call)
    assert len(store.all()) == 6


def test_an_update_cannot_make_a_duplicate(client: Any, store: MappingStore) -> None:
    first = client.create_event_source_mapping(**msk())["UUID"]
    second = client.create_event_source_mapping(**msk(FunctionName="g"))["UUID"]
    store.set_status(second, state=State.ENABLED)
    response = rejected(client.update_event_source_mapping, UUID=second, FunctionName="f")
    assert code_and_text(response) == ("ResourceConflictException", msk_duplicate_text(first))


@pytest.mark.parametrize(
    ("call", "block", "kind", "source"),
    [
        (smk, "selfManagedKafkaEventSourceConfig", "event source", "b1.example:9092,b2.example:9092"),
        (msk, "amazonManagedKafkaEventSourceConfig", "event source arn", MSK),
    ],
)
def test_a_consumer_group_serves_one_mapping(
    client: Any, call: Callable[..., dict[str, Any]], block: str, kind: str, source: str
) -> None:
    config = {block[0].upper() + block[1:]: {"ConsumerGroupId": "mine"}}
    uuid = client.create_event_source_mapping(**call(**config))["UUID"]
    response = rejected(client.create_event_source_mapping, **call(FunctionName="g", **config))
    assert code_and_text(response) == (
        "ResourceConflictException",
        conflict_text(kind, source, f'{block}.consumerGroupId ("mine")', uuid),
    )
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 409


def test_a_consumer_group_of_one_cluster_is_taken_on_every_other(client: Any) -> None:
    block = "SelfManagedKafkaEventSourceConfig"
    uuid = client.create_event_source_mapping(**smk(**{block: {"ConsumerGroupId": "mine"}}))["UUID"]
    elsewhere = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["k1.invalid:9092"]}}
    response = rejected(
        client.create_event_source_mapping,
        **smk(SelfManagedEventSource=elsewhere, **{block: {"ConsumerGroupId": "mine"}}),
    )
    assert code_and_text(response) == (
        "ResourceConflictException",
        (
            'An event source mapping with event source ("k1.invalid:9092"),'
            ' selfManagedKafkaEventSourceConfig.consumerGroupId ("mine") already exists.'
            f" Please update or delete the existing mapping with UUID {uuid}"
        ),
    )


def test_a_poller_group_has_two_thousand_pollers_at_most(client: Any) -> None:
    config = {"ProvisionedPollerConfig": {"MaximumPollers": 1200, "PollerGroupName": "g"}}
    client.create_event_source_mapping(**msk(**config))
    response = rejected(client.create_event_source_mapping, **msk(FunctionName="g", **config))
    assert code_and_text(response) == (
        INVALID,
        "The poller group 'g' would have MaximumPollers of 2400 in all; 2000 at most.",
    )


def test_a_path_may_end_in_a_slash(endpoint: str) -> None:
    with urlopen(f"{endpoint}/2015-03-31/event-source-mappings/", timeout=5) as reply:
        assert reply.read() == b'{"EventSourceMappings":[]}'


def test_a_marker_of_nobody_is_rejected(client: Any) -> None:
    assert code_and_text(rejected(client.list_event_source_mappings, Marker="é")) == (
        INVALID,
        "Invalid Marker: give the NextMarker of the page before.",
    )


def test_a_list_filter_that_is_no_arn_is_rejected(client: Any) -> None:
    code, text = code_and_text(rejected(client.list_event_source_mappings, EventSourceArn="nope"))
    assert code == VALIDATION
    assert text.startswith("1 validation error detected: Value 'nope' at 'eventSourceArn' failed to satisfy")


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:lambda:us-east-1:123456789012:event-source-mapping:00000000-0000-0000-0000-000000000000",
        "arn:aws:lambda:us-east-1:123456789012:function:f",
    ],
)
def test_tags_of_anything_but_a_stored_mapping_are_not_found(client: Any, resource: str) -> None:
    for response in (
        rejected(client.list_tags, Resource=resource),
        rejected(client.tag_resource, Resource=resource, Tags={"a": "b"}),
        rejected(client.untag_resource, Resource=resource, TagKeys=["a"]),
    ):
        assert code_and_text(response) == (
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
        )


class TestLax:
    """With parity's strictness off, what AWS rejects and Tidemill can do is done."""

    def test_a_mapping_without_access_or_provisioned_mode_takes_every_field(self, tmp_path: Path) -> None:
        lax = Settings(
            parity_require_source_access=False,
            parity_require_provisioned=False,
            filter_operators="eventbridge",
            filters_max=10,
        )
        fields = {
            "MaximumRetryAttempts": 2,
            "MaximumRecordAgeInSeconds": 60,
            "BisectBatchOnFunctionError": True,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "FilterCriteria": filters(*['{"value": [{"wildcard": "x*"}]}'] * 10),
        }
        with serving_control_api(tmp_path, lax) as url:
            reply = client_of(url).create_event_source_mapping(
                FunctionName="f", SelfManagedEventSource=SELF_MANAGED, Topics=["orders"], **fields
            )
        assert {name: reply[name] for name in fields} == fields
        assert "SourceAccessConfigurations" not in reply
        assert "ProvisionedPollerConfig" not in reply
