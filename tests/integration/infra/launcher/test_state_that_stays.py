"""An `up` whose every program was killed: each kind of resource is there again, and a mapping goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.up import Up, running_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

HANDLER = "def handler(event, context):\n    raise ValueError('poison')\n"
ACCOUNT = "123456789012"
QUEUE_ARN = f"arn:aws:sqs:us-east-1:{ACCOUNT}:failures"


def make_one_of_each_kind(up: Up) -> None:
    sqs, sns, s3, dynamodb = (up.client(name) for name in ("sqs", "sns", "s3", "dynamodb"))
    sqs.create_queue(QueueName="failures", Attributes={"VisibilityTimeout": "43200"})
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=QUEUE_ARN)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=b"body")
    dynamodb.create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="table", Item={"id": {"S": "item"}})
    up.client("secretsmanager").create_secret(Name="secret", SecretString="s")
    up.client("kms").create_key()
    up.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")
    up.client("iam").create_user(UserName="user")
    up.client("logs").create_log_group(logGroupName="group")
    cloudformation = up.client("cloudformation")
    template = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    cloudformation.create_stack(StackName="stack", TemplateBody=template)
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="stack", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def counts(up: Up) -> dict[str, int]:
    """How many there are of each kind; the functions' own log groups come and go with invocations."""
    found: dict[str, Any] = {
        "queues": up.client("sqs").list_queues()["QueueUrls"],
        "topics": up.client("sns").list_topics()["Topics"],
        "subscriptions": up.client("sns").list_subscriptions()["Subscriptions"],
        "objects": up.client("s3").list_objects_v2(Bucket="bucket")["Contents"],
        "items": up.client("dynamodb").scan(TableName="table")["Items"],
        "secrets": up.client("secretsmanager").list_secrets()["SecretList"],
        "keys": up.client("kms").list_keys()["Keys"],
        "roles": up.client("iam").list_roles()["Roles"],
        "users": up.client("iam").list_users()["Users"],
        "log groups": up.client("logs").describe_log_groups(logGroupNamePrefix="group")["logGroups"],
        "stacks": up.client("cloudformation").describe_stacks()["Stacks"],
        "functions": up.client("lambda").list_functions()["Functions"],
        "mappings": up.client("lambda").list_event_source_mappings()["EventSourceMappings"],
    }
    return {kind: len(there) for kind, there in found.items()}


def failure_record(up: Up) -> dict[str, Any]:
    """The next one in the queue; it stays in flight."""
    sqs = up.client("sqs")
    url = sqs.get_queue_url(QueueName="failures")["QueueUrl"]
    [message] = wait_until(
        lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"),
        timeout_s=60,
        what=f"a failure record\n{up.log}",
    )
    record: dict[str, Any] = json.loads(message["Body"])
    return record


def test_everything_is_there_after_kill_9_of_every_program(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANDLER)
    data_dir = tmp_path / "data"
    with running_up(data_dir) as up:
        make_one_of_each_kind(up)
        up.cli("function", "register", "fails", f"{tmp_path}/app.py:handler")
        up.cli("topic", "create", "orders", "--partitions", "1")
        up.client("lambda").create_event_source_mapping(
            FunctionName="fails",
            EventSourceArn=up.ready["cluster_arn"],
            Topics=["orders"],
            StartingPosition="TRIM_HORIZON",
            MaximumBatchingWindowInSeconds=0,
            ProvisionedPollerConfig={"MinimumPollers": 1, "MaximumPollers": 1},
            MaximumRetryAttempts=0,
            DestinationConfig={"OnFailure": {"Destination": QUEUE_ARN}},
        )
        up.cli("topic", "produce", "orders", "one")
        in_flight = failure_record(up)
        before = counts(up)
        for pid in [*up.pids.values(), up.process.pid]:
            os.kill(pid, signal.SIGKILL)
        up.process.wait(40)
    (data_dir / "ready.json").unlink()
    with running_up(data_dir) as again:
        assert counts(again) == before
        assert failure_record(again) == in_flight
        again.cli("topic", "produce", "orders", "two")
        # What was not committed at the kill is delivered again, so the first may come once more before it.
        wait_until(lambda: first_offset(failure_record(again)) == "1", what="the record produced since")


def first_offset(record: dict[str, Any]) -> str:
    [info] = record["KafkaBatchInfo"]["recordsInfo"].values()
    return str(info["firstRecordOffset"])
