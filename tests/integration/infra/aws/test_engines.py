"""The engines of the embedded AWS, each as its own process: what it answers, and what it leaves to ours."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.harness.embedded_aws import ACCOUNT, REGION, EmbeddedAws, embedded_aws
from tests.harness.processes import wait_until


@pytest.fixture(scope="module", params=["ministack", "moto"])
def aws(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAws]:
    with embedded_aws(tmp_path_factory.mktemp("aws"), engine=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAws]:
    with embedded_aws(tmp_path_factory.mktemp("aws")) as running:
        yield running


def test_a_queue_takes_gives_and_deletes(aws: EmbeddedAws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="orders")["QueueUrl"]
    assert url == f"{aws.url}/{ACCOUNT}/orders"
    sqs.send_message(QueueUrl=url, MessageBody="one")
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "one"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_a_topic_gives_to_a_queue(aws: EmbeddedAws) -> None:
    sqs, sns = aws.client("sqs"), aws.client("sns")
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    topic = sns.create_topic(Name="news")["TopicArn"]
    assert topic == f"arn:aws:sns:{REGION}:{ACCOUNT}:news"
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:told"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    sns.publish(TopicArn=topic, Message="hello")
    [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert message["Body"] == "hello"


def test_a_bucket_keeps_objects_by_any_key(aws: EmbeddedAws) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="bucket")
    key = "a b/ü%2F+/x"
    s3.put_object(Bucket="bucket", Key=key, Body=b"body", Metadata={"my_key": "value"})
    found = s3.get_object(Bucket="bucket", Key=key)
    assert (found["Body"].read(), found["Metadata"]) == (b"body", {"my_key": "value"})
    assert [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]] == [key]


def test_a_table_keeps_items_and_transactions_are_whole(aws: EmbeddedAws) -> None:
    dynamodb = aws.client("dynamodb")
    dynamodb.create_table(
        TableName="table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    put = {"Put": {"TableName": "table", "Item": {"id": {"S": "a"}, "n": {"N": "1"}}}}
    dynamodb.transact_write_items(TransactItems=[put])
    fails = {
        "Put": {
            "TableName": "table",
            "Item": {"id": {"S": "a"}},
            "ConditionExpression": "attribute_not_exists(id)",
        }
    }
    other = {"Put": {"TableName": "table", "Item": {"id": {"S": "b"}}}}
    with pytest.raises(ClientError, match="TransactionCanceledException"):
        dynamodb.transact_write_items(TransactItems=[other, fails])
    assert [item["id"]["S"] for item in dynamodb.scan(TableName="table")["Items"]] == ["a"]


def test_secrets_keys_roles_and_sessions_are_made_in_the_account(aws: EmbeddedAws) -> None:
    secret = aws.client("secretsmanager").create_secret(Name="secret", SecretString="s")["ARN"]
    assert secret.startswith(f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:secret-")
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"plain")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=sealed)["Plaintext"] == b"plain"
    role = aws.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    assert role == f"arn:aws:iam::{ACCOUNT}:role/role"
    session = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="me")
    assert session["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/role/me"
    assert aws.client("sts").get_caller_identity()["Account"] == ACCOUNT


def test_a_stack_makes_its_resources(aws: EmbeddedAws) -> None:
    cloudformation = aws.client("cloudformation")
    resources = {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-stack"}}}
    cloudformation.create_stack(StackName="stack", TemplateBody=json.dumps({"Resources": resources}))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName="stack", WaiterConfig={"Delay": 1, "MaxAttempts": 40}
    )
    assert aws.client("sqs").get_queue_url(QueueName="of-stack")["QueueUrl"].endswith("/of-stack")


@pytest.mark.parametrize(
    ("service", "call"),
    [("lambda", "list_functions"), ("kafka", "list_clusters_v2"), ("transfer", "list_servers")],
)
def test_ministack_answers_501_for_what_is_ours_or_off(
    ministack: EmbeddedAws, service: str, call: str
) -> None:
    with pytest.raises(ClientError) as raised:
        getattr(ministack.client(service), call)()
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_ministack/config"])
def test_nobody_administers_ministack_by_http(ministack: EmbeddedAws, path: str) -> None:
    request = urllib.request.Request(ministack.url + path, data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=40)
    assert raised.value.code == 404


def test_a_web_page_from_elsewhere_is_refused(ministack: EmbeddedAws) -> None:
    request = urllib.request.Request(ministack.url, headers={"Origin": "https://elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=40)
    assert raised.value.code == 403


def test_ministack_listens_on_one_port_of_loopback(ministack: EmbeddedAws) -> None:
    assert listening_sockets(ministack.pid) == [f"0100007F:{ministack.port:04X}"]


def listening_sockets(pid: int) -> list[str]:
    """The local addresses of a process's listening sockets, as the kernel writes them."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows: list[Any] = []
    for table in ("tcp", "tcp6"):
        rows += [line.split() for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def test_twelve_digits_as_an_access_key_are_an_account(ministack: EmbeddedAws) -> None:
    client = boto3.client(
        "sts",
        endpoint_url=ministack.url,
        region_name=REGION,
        aws_access_key_id="999999999999",
        aws_secret_access_key="test",
    )
    assert client.get_caller_identity()["Account"] == "999999999999"


def test_a_request_that_holds_all_others_up_is_ended(tmp_path: Path) -> None:
    with embedded_aws(tmp_path, "--held-s", "3") as running:
        logs = running.client("logs")
        logs.create_log_group(logGroupName="group")
        logs.create_log_stream(logGroupName="group", logStreamName="stream")
        events = [{"timestamp": 1, "message": "a" * 60 + "!"}]
        logs.put_log_events(logGroupName="group", logStreamName="stream", logEvents=events)
        query = "fields @message | filter @message like /(a+)+$/"
        with pytest.raises(ClientError, match=r"InternalFailure|InternalError|500|make it smaller"):
            logs.get_query_results(
                queryId=logs.start_query(logGroupName="group", startTime=0, endTime=9, queryString=query)[
                    "queryId"
                ]
            )
        assert running.client("sts").get_caller_identity()["Account"] == ACCOUNT


def test_an_execution_that_never_ends_fails_where_that_of_aws_does(ministack: EmbeddedAws) -> None:
    machines = ministack.client("stepfunctions")
    grows = {"x.$": f"States.Format('{'{}' * 10}'{',$.x' * 10})"}
    for name, first, error in (
        ("loops", {"Type": "Pass", "Next": "Second"}, "States.Runtime"),
        ("grows", {"Type": "Pass", "Next": "Second", "Parameters": grows}, "States.DataLimitExceeded"),
    ):
        states = {"First": first, "Second": {"Type": "Pass", "Next": "First"}}
        definition = json.dumps({"StartAt": "First", "States": states})
        role = f"arn:aws:iam::{ACCOUNT}:role/machine"
        arn = machines.create_state_machine(name=name, roleArn=role, definition=definition)["stateMachineArn"]
        execution = machines.start_execution(stateMachineArn=arn, input='{"x": "0123456789"}')["executionArn"]

        def ended(execution: str = execution) -> bool:
            return bool(machines.describe_execution(executionArn=execution)["status"] == "FAILED")

        wait_until(ended, timeout_s=40, what="the execution's end")
        assert machines.describe_execution(executionArn=execution)["error"] == error


def test_the_embedded_aws_runs_no_code_of_a_client(ministack: EmbeddedAws, tmp_path: Path) -> None:
    s3, glue = ministack.client("s3"), ministack.client("glue")
    s3.create_bucket(Bucket="scripts")
    ran = tmp_path / "ran"
    s3.put_object(Bucket="scripts", Key="job.py", Body=f"open({str(ran)!r}, 'w').close()".encode())
    command = {"Name": "pythonshell", "ScriptLocation": "s3://scripts/job.py"}
    glue.create_job(Name="job", Role="role", Command=command)
    run = glue.start_job_run(JobName="job")["JobRunId"]

    def state() -> dict[str, Any]:
        found: dict[str, Any] = glue.get_job_run(JobName="job", RunId=run)["JobRun"]
        return found

    wait_until(lambda: state()["JobRunState"] in ("SUCCEEDED", "FAILED"), timeout_s=40, what="the job's end")
    assert (state()["JobRunState"], ran.exists()) == ("FAILED", False)
    assert "make a function of it" in state()["ErrorMessage"]
