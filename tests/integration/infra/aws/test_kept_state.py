"""What the embedded AWS answered is there after kill -9: each kind of resource, and any order of calls."""

from __future__ import annotations

import contextlib
import json
import random
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.harness.embedded_aws import ACCOUNT, REGION, EmbeddedAws, start_embedded_aws
from tests.harness.processes import wait_until

pytestmark = pytest.mark.slow


class Restarting:
    """An embedded AWS on one folder, killed and started again."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._arguments = arguments
        self.aws = self._start()

    @property
    def journal(self) -> Path:
        return self.folder / "state" / "state.log"

    def client(self, service: str) -> Any:
        return self.aws.client(service)

    def again(self) -> None:
        self.aws.kill()
        self.aws = self._start()

    def _start(self) -> EmbeddedAws:
        return start_embedded_aws(self.folder, "--state-dir", str(self.folder / "state"), *self._arguments)


@pytest.fixture
def restarting(tmp_path: Path) -> Iterator[Restarting]:
    made = Restarting(tmp_path)
    yield made
    made.aws.kill()


def make_table(dynamodb: Any, name: str) -> None:
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "n", "AttributeType": "N"},
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def item(key: str, number: int, **more: Any) -> dict[str, Any]:
    return {"id": {"S": key}, "n": {"N": str(number)}, **more}


def test_queues_keep_messages_and_show_those_in_flight_again(restarting: Restarting) -> None:
    sqs = restarting.client("sqs")
    url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "43200"})["QueueUrl"]
    for body in ("in flight", "deleted", "waiting"):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    received = {}
    for _ in range(2):
        [message] = sqs.receive_message(QueueUrl=url)["Messages"]
        received[message["Body"]] = message["ReceiptHandle"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=received["deleted"])
    restarting.again()
    sqs = restarting.client("sqs")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    assert url.startswith(restarting.aws.url)
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in found] == ["in flight", "waiting"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"] == {
        "VisibilityTimeout": "43200"
    }


def test_a_fifo_queue_still_knows_duplicates(restarting: Restarting) -> None:
    sqs = restarting.client("sqs")
    url = sqs.create_queue(QueueName="q.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    message = {"MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    sent = sqs.send_message(QueueUrl=url, **message)
    restarting.again()
    sqs = restarting.client("sqs")
    url = sqs.get_queue_url(QueueName="q.fifo")["QueueUrl"]
    assert sqs.send_message(QueueUrl=url, **message)["MessageId"] == sent["MessageId"]
    assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 1


def test_topics_keep_subscriptions_and_what_they_gave_is_in_the_queue(restarting: Restarting) -> None:
    sqs, sns = restarting.client("sqs"), restarting.client("sns")
    sqs.create_queue(QueueName="q")
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q")
    sns.publish(TopicArn=topic, Message="before")
    restarting.again()
    sqs, sns = restarting.client("sqs"), restarting.client("sns")
    sns.publish(TopicArn=topic, Message="after")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [json.loads(message["Body"])["Message"] for message in found] == ["before", "after"]


def test_buckets_keep_objects_their_metadata_tags_and_versions(restarting: Restarting) -> None:
    s3 = restarting.client("s3")
    s3.create_bucket(Bucket="bucket")
    for key, body in (("a", b"1"), ("gone", b"2"), ("b", bytes(range(256)))):
        s3.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"k": key}, Tagging="t=1")
    s3.delete_object(Bucket="bucket", Key="gone")
    s3.create_bucket(Bucket="versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="versioned", Key="k", Body=b"one")["VersionId"]
    s3.put_object(Bucket="versioned", Key="k", Body=b"two")
    restarting.again()
    s3 = restarting.client("s3")
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["a", "b"]
    found = s3.get_object(Bucket="bucket", Key="b")
    assert (found["Body"].read(), found["Metadata"]) == (bytes(range(256)), {"k": "b"})
    assert s3.get_object_tagging(Bucket="bucket", Key="b")["TagSet"] == [{"Key": "t", "Value": "1"}]
    assert s3.get_object(Bucket="versioned", Key="k", VersionId=first)["Body"].read() == b"one"


def test_tables_keep_items_indexes_and_whole_transactions(restarting: Restarting) -> None:
    dynamodb = restarting.client("dynamodb")
    make_table(dynamodb, "table")
    for number in range(30):
        dynamodb.put_item(TableName="table", Item=item("a", number))
    dynamodb.delete_item(TableName="table", Key=item("a", 7))
    dynamodb.update_item(
        TableName="table",
        Key=item("a", 8),
        UpdateExpression="ADD hits :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    dynamodb.transact_write_items(
        TransactItems=[{"Put": {"TableName": "table", "Item": item("b", n)}} for n in range(25)]
    )
    dynamodb.batch_write_item(
        RequestItems={"table": [{"PutRequest": {"Item": item("c", n)}} for n in range(25)]}
    )
    before = dynamodb.scan(TableName="table")["Items"]
    restarting.again()
    dynamodb = restarting.client("dynamodb")
    assert dynamodb.scan(TableName="table")["Items"] == before
    assert dynamodb.describe_table(TableName="table")["Table"]["ItemCount"] == 29 + 25 + 25
    assert dynamodb.get_item(TableName="table", Key=item("a", 8))["Item"]["hits"] == {"N": "1"}


def test_secrets_keys_roles_users_and_sessions_stay_good(restarting: Restarting) -> None:
    secrets, kms, iam, sts = (restarting.client(name) for name in ("secretsmanager", "kms", "iam", "sts"))
    secrets.create_secret(Name="s", SecretString="one")
    secrets.put_secret_value(SecretId="s", SecretString="two")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    pair = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/k", TargetKeyId=key)
    sealed = kms.encrypt(KeyId=key, Plaintext=b"plain")["CiphertextBlob"]
    signing = {"KeyId": pair, "Message": b"m", "SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}
    signature = kms.sign(**signing)["Signature"]
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    statement = {"Effect": "Allow", "Action": "kafka-cluster:Connect", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy)
    iam.create_user(UserName="u")
    access_key = iam.create_access_key(UserName="u")["AccessKey"]["AccessKeyId"]
    sts.assume_role(RoleArn=role, RoleSessionName="me")
    restarting.again()
    secrets, kms, iam = (restarting.client(name) for name in ("secretsmanager", "kms", "iam"))
    assert secrets.get_secret_value(SecretId="s")["SecretString"] == "two"
    assert secrets.get_secret_value(SecretId="s", VersionStage="AWSPREVIOUS")["SecretString"] == "one"
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"plain"
    assert kms.verify(**signing, Signature=signature)["SignatureValid"]
    assert kms.describe_key(KeyId="alias/k")["KeyMetadata"]["KeyId"] == key
    assert iam.list_role_policies(RoleName="r")["PolicyNames"] == ["p"]
    keys = iam.list_access_keys(UserName="u")["AccessKeyMetadata"]
    assert [each["AccessKeyId"] for each in keys] == [access_key]


def test_stacks_keep_their_resources_and_can_be_deleted(restarting: Restarting) -> None:
    cloudformation = restarting.client("cloudformation")
    resources = {
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-stack"}},
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-stack"}},
    }
    outputs = {"Url": {"Value": {"Ref": "Queue"}}}
    template = json.dumps({"Resources": resources, "Outputs": outputs})
    cloudformation.create_stack(StackName="stack", TemplateBody=template)
    quick = {"Delay": 1, "MaxAttempts": 40}
    cloudformation.get_waiter("stack_create_complete").wait(StackName="stack", WaiterConfig=quick)
    restarting.again()
    cloudformation, sqs = restarting.client("cloudformation"), restarting.client("sqs")
    [stack] = cloudformation.describe_stacks(StackName="stack")["Stacks"]
    assert (stack["StackStatus"], stack["Outputs"][0]["OutputKey"]) == ("CREATE_COMPLETE", "Url")
    assert len(cloudformation.list_stack_resources(StackName="stack")["StackResourceSummaries"]) == 2
    sqs.get_queue_url(QueueName="of-stack")
    cloudformation.delete_stack(StackName="stack")
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="stack", WaiterConfig=quick)
    with pytest.raises(ClientError, match=r"QueueDoesNotExist|NonExistentQueue"):
        sqs.get_queue_url(QueueName="of-stack")


def test_log_groups_keep_their_events_in_order(restarting: Restarting) -> None:
    logs = restarting.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    for number in (1, 3, 2):
        events = [{"timestamp": number * 1000, "message": str(number)}]
        logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)
    before = events_of(logs)
    restarting.again()
    assert events_of(restarting.client("logs")) == before == ["1", "2", "3"]
    logs, later = restarting.client("logs"), [{"timestamp": 4000, "message": "4"}]
    logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=later)
    restarting.again()
    assert events_of(restarting.client("logs")) == ["1", "2", "3", "4"]


def test_a_log_stream_keeps_its_last_events(restarting: Restarting) -> None:
    logs = restarting.client("logs")
    logs.create_log_group(logGroupName="g")
    logs.create_log_stream(logGroupName="g", logStreamName="s")
    for start in range(0, 2600, 650):
        events = [{"timestamp": number, "message": str(number)} for number in range(start, start + 650)]
        logs.put_log_events(logGroupName="g", logStreamName="s", logEvents=events)
    restarting.again()
    found = restarting.client("logs").get_log_events(
        logGroupName="g", logStreamName="s", startFromHead=True, startTime=0, endTime=10**13, limit=10_000
    )["events"]
    assert [event["message"] for event in found] == [str(number) for number in range(600, 2600)]


def events_of(logs: Any) -> list[str]:
    found = logs.get_log_events(logGroupName="g", logStreamName="s", startFromHead=True)["events"]
    return [event["message"] for event in found]


def test_what_is_deleted_stays_deleted(restarting: Restarting) -> None:
    sqs, s3 = restarting.client("sqs"), restarting.client("s3")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")
    sqs.delete_queue(QueueUrl=url)
    s3.create_bucket(Bucket="bucket")
    s3.delete_bucket(Bucket="bucket")
    restarting.again()
    assert restarting.client("sqs").list_queues().get("QueueUrls", []) == []
    assert restarting.client("s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize("fault", ["cut", "overwritten"])
def test_a_damaged_end_is_told_and_what_is_before_it_is_served(restarting: Restarting, fault: str) -> None:
    sqs = restarting.client("sqs")
    sqs.create_queue(QueueName="before")
    size = restarting.journal.stat().st_size
    sqs.create_queue(QueueName="after")
    restarting.aws.kill()
    data = restarting.journal.read_bytes()
    spoilt = data[:-3] if fault == "cut" else data[: size + 20] + b"?" + data[size + 21 :]
    restarting.journal.write_bytes(spoilt)
    restarting.again()
    urls = restarting.client("sqs").list_queues()["QueueUrls"]
    assert [url.rpartition("/")[2] for url in urls] == ["before"]
    told = f"state is damaged or cut short file={restarting.journal} at_byte={size}"
    assert told in restarting.aws.log
    assert restarting.journal.with_name("state.log.damaged").read_bytes() == spoilt[size:]
    restarting.client("sqs").create_queue(QueueName="later")
    restarting.again()
    assert len(restarting.client("sqs").list_queues()["QueueUrls"]) == 2


def test_the_journal_is_private(restarting: Restarting) -> None:
    restarting.client("sqs").create_queue(QueueName="q")
    assert stat.S_IMODE(restarting.journal.stat().st_mode) == 0o600


def test_the_journal_is_rewritten_when_most_of_it_is_of_the_past(tmp_path: Path) -> None:
    restarting = Restarting(tmp_path, "--rewrite-from-bytes", "100000")
    sqs = restarting.client("sqs")
    url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "43200"})["QueueUrl"]
    for number in range(150):
        sqs.send_message(QueueUrl=url, MessageBody=f"{number}" + "x" * 2000)
        [message] = sqs.receive_message(QueueUrl=url)["Messages"]
        if number != 100:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    wait_until(
        lambda: restarting.journal.stat().st_size < 100_000, timeout_s=40, what="the journal to be rewritten"
    )
    restarting.again()
    sqs = restarting.client("sqs")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"].rstrip("x") for message in found] == ["100"]
    restarting.aws.kill()


@pytest.mark.parametrize(
    "rewrite_from_bytes", ["32000000", "20000"], ids=["growing", "rewritten all the time"]
)
def test_a_kill_at_any_moment_loses_nothing_that_was_answered(
    tmp_path: Path, rewrite_from_bytes: str
) -> None:
    """Four clients write until the process is killed under them; three times on one folder."""
    restarting = Restarting(tmp_path, "--rewrite-from-bytes", rewrite_from_bytes)
    sqs = restarting.client("sqs")
    make_table(restarting.client("dynamodb"), "table")
    restarting.client("s3").create_bucket(Bucket="bucket")
    sqs.create_queue(QueueName="q")
    answered: dict[str, set[str]] = {"sqs": set(), "dynamodb": set(), "s3": set(), "sns": set()}
    seed = random.randrange(2**32)
    for turn in range(3):
        kill_while_writing(restarting, answered, f"{turn}-", random.Random(seed + turn))
        restarting.again()
        found = everything(restarting)
        for kind, names in answered.items():
            assert names <= found[kind], (seed, kind, names - found[kind])
    restarting.aws.kill()


def kill_while_writing(
    restarting: Restarting, answered: dict[str, set[str]], prefix: str, choices: random.Random
) -> None:
    url = restarting.client("sqs").get_queue_url(QueueName="q")["QueueUrl"]
    writers = {
        "sqs": lambda client, name: client.send_message(QueueUrl=url, MessageBody=name),
        "dynamodb": lambda client, name: client.put_item(TableName="table", Item=item(name, 1)),
        "s3": lambda client, name: client.put_object(Bucket="bucket", Key=name, Body=b"x" * 2000),
        "sns": lambda client, name: client.create_topic(Name=name),
    }
    enough = 40 + choices.randrange(200)
    before = sum(map(len, answered.values()))

    def write(kind: str, client: Any) -> None:
        number = 0
        with contextlib.suppress(BotoCoreError):
            while True:
                name = f"{prefix}{kind}-{number}"
                writers[kind](client, name)
                answered[kind].add(name)
                number += 1

    threads = [
        threading.Thread(target=write, args=(kind, restarting.client(kind)), daemon=True) for kind in writers
    ]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: sum(map(len, answered.values())) - before >= enough, timeout_s=40, what="enough replies"
    )
    restarting.aws.kill()
    for thread in threads:
        thread.join(40)


def everything(restarting: Restarting) -> dict[str, set[str]]:
    sqs = restarting.client("sqs")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    bodies: set[str] = set()
    while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get(
        "Messages"
    ):
        bodies |= {message["Body"] for message in found}
    items = restarting.client("dynamodb").get_paginator("scan").paginate(TableName="table")
    objects = restarting.client("s3").get_paginator("list_objects_v2").paginate(Bucket="bucket")
    topics = restarting.client("sns").get_paginator("list_topics").paginate()
    return {
        "sqs": bodies,
        "dynamodb": {each["id"]["S"] for page in items for each in page["Items"]},
        "s3": {each["Key"] for page in objects for each in page.get("Contents", ())},
        "sns": {each["TopicArn"].rpartition(":")[2] for page in topics for each in page["Topics"]},
    }
