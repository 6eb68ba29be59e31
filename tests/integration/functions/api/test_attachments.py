"""Tags, concurrency, policy and event configuration, by AWS's own client."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import FunctionsServer, running
from tests.harness.processes import wait_until

Name = Callable[[], str]
ECHO = "def handler(event, context):\n    return event\n"
PID = "import os\ndef handler(event, context):\n    return os.getpid()\n"


def refusal(call: Callable[..., Any], **members: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as raised:
        call(**members)
    response = raised.value.response
    status: int = response["ResponseMetadata"]["HTTPStatusCode"]
    return response["Error"]["Code"], response["Error"]["Message"], status


def test_tags_change_without_a_cold_start(server: FunctionsServer, name: Name) -> None:
    made = server.create(function := name(), PID, Tags={"team": "a", "cost": "1"})
    pid = server.invoke(function)[0]
    arn = made["FunctionArn"]
    server.client.tag_resource(Resource=arn, Tags={"team": "b", "new": "é"})
    server.client.untag_resource(Resource=arn, TagKeys=["cost"])
    expected = {"team": "b", "new": "é"}
    assert server.client.list_tags(Resource=arn)["Tags"] == expected
    assert server.client.get_function(FunctionName=function)["Tags"] == expected
    assert server.invoke(function)[0] == pid
    many = {str(number): "" for number in range(50)}
    assert "tag limit of 50" in refusal(server.client.tag_resource, Resource=arn, Tags=many)[1]
    assert refusal(server.client.list_tags, Resource=f"{arn}-not")[0] == "ResourceNotFoundException"


def test_tags_outlive_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        arn = server.create("orders", ECHO)["FunctionArn"]
        server.client.tag_resource(Resource=arn, Tags={"team": "b"})
        server.kill()
    with running(tmp_path) as server:
        assert server.client.list_tags(Resource=arn)["Tags"] == {"team": "b"}
        server.client.delete_function(FunctionName="orders")
        server.create("orders", ECHO)
        assert server.client.list_tags(Resource=arn)["Tags"] == {}


def test_reserved_concurrency_throttles_this_function_alone(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    waits = (
        "import pathlib, time\n"
        "def handler(event, context):\n"
        f"    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
    )
    server.create(function := name(), waits, Timeout=30)
    server.create(other := name(), ECHO)
    reserved = {"ReservedConcurrentExecutions": 1}
    assert (
        server.client.put_function_concurrency(FunctionName=function, **reserved).items() >= reserved.items()
    )
    assert server.client.get_function(FunctionName=function)["Concurrency"] == reserved
    before = server.health()["in_flight"]
    with ThreadPoolExecutor() as threads:
        running_call = threads.submit(server.invoke, function)
        wait_until(lambda: server.health()["in_flight"] > before)
        with pytest.raises(ClientError) as raised:
            server.invoke(function)
        go.touch()
        running_call.result()
    response = raised.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (
        "TooManyRequestsException",
        429,
    )
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert server.invoke(other, 1)[0] == 1
    assert "FunctionError" not in server.invoke(function)[1]
    server.client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    assert refusal(server.client.invoke, FunctionName=function)[0] == "TooManyRequestsException"
    server.client.delete_function_concurrency(FunctionName=function)
    assert "ReservedConcurrentExecutions" not in server.client.get_function_concurrency(FunctionName=function)
    assert "FunctionError" not in server.invoke(function)[1]


def test_the_account_has_this_machines_limits(tmp_path: Path) -> None:
    with running(tmp_path, {"TIDEMILL_FUNCTIONS_MAX_ENVIRONMENTS": "20"}) as server:
        server.create("orders", ECHO)
        server.client.put_function_concurrency(FunctionName="orders", ReservedConcurrentExecutions=5)
        found = server.client.get_account_settings()
    assert found["AccountLimit"]["ConcurrentExecutions"] == 20
    assert found["AccountLimit"]["UnreservedConcurrentExecutions"] == 15
    assert found["AccountUsage"]["FunctionCount"] == 1


def test_permissions_are_kept_and_answered(server: FunctionsServer, name: Name) -> None:
    arn = server.create(function := name(), ECHO, Publish=True)["FunctionArn"].removesuffix(":1")
    of = {"FunctionName": function}
    assert refusal(server.client.get_policy, **of)[::2] == ("ResourceNotFoundException", 404)
    sns = {
        "Action": "lambda:InvokeFunction",
        "Principal": "sns.amazonaws.com",
        "SourceArn": "arn:aws:sns:us-east-1:123456789012:t",
        "SourceAccount": "123456789012",
    }
    added = server.client.add_permission(**of, StatementId="sns", **sns)
    server.client.add_permission(**of, StatementId="two", Action="lambda:*", Principal="210987654321")
    server.client.add_permission(**of, StatementId="one", Action="lambda:*", Principal="*", Qualifier="1")
    policy = json.loads(server.client.get_policy(**of)["Policy"])
    assert json.loads(added["Statement"]) == policy["Statement"][0]
    assert policy == {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [
            {
                "Sid": "sns",
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "lambda:InvokeFunction",
                "Resource": arn,
                "Condition": {
                    "StringEquals": {"AWS:SourceAccount": "123456789012"},
                    "ArnLike": {"AWS:SourceArn": "arn:aws:sns:us-east-1:123456789012:t"},
                },
            },
            {
                "Sid": "two",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
                "Action": "lambda:*",
                "Resource": arn,
            },
        ],
    }
    qualified = json.loads(server.client.get_policy(**of, Qualifier="1")["Policy"])
    assert qualified["Statement"][0]["Resource"] == f"{arn}:1"
    assert (
        refusal(server.client.add_permission, **of, StatementId="sns", **sns)[0]
        == "ResourceConflictException"
    )
    server.client.remove_permission(**of, StatementId="sns")
    assert "sns is not found" in refusal(server.client.remove_permission, **of, StatementId="sns")[1]
    server.client.remove_permission(**of, StatementId="two")
    assert refusal(server.client.get_policy, **of)[0] == "ResourceNotFoundException"


def test_event_invocations_obey_their_configuration(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    note = tmp_path / "attempts"
    source = f"def handler(event, context):\n    open({str(note)!r}, 'a').write('x')\n    raise ValueError\n"
    arn = server.create(function := name(), source)["FunctionArn"]
    of = {"FunctionName": function}
    missing = refusal(server.client.get_function_event_invoke_config, **of)
    assert missing[:2] == (
        "ResourceNotFoundException",
        f"The function {arn}:$LATEST doesn't have an EventInvokeConfig",
    )
    put = server.client.put_function_event_invoke_config(**of, MaximumRetryAttempts=1)
    assert (put["MaximumRetryAttempts"], put["FunctionArn"]) == (1, f"{arn}:$LATEST")
    server.invoke(function, InvocationType="Event")
    wait_until(lambda: server.health()["events"] == 0)
    assert note.read_text() == "xx"
    changed = server.client.update_function_event_invoke_config(**of, MaximumEventAgeInSeconds=60)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (1, 60)
    listed = server.client.list_function_event_invoke_configs(**of)["FunctionEventInvokeConfigs"]
    assert [config["MaximumEventAgeInSeconds"] for config in listed] == [60]
    server.client.delete_function_event_invoke_config(**of)
    assert refusal(server.client.get_function_event_invoke_config, **of)[2] == 404


def test_what_a_function_has_not_is_answered_as_none(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    of, client = {"FunctionName": function}, server.client
    assert client.get_function_code_signing_config(**of)["CodeSigningConfigArn"] == ""
    assert refusal(client.get_function_url_config, **of)[0] == "ResourceNotFoundException"
    assert client.list_function_url_configs(**of)["FunctionUrlConfigs"] == []
    none = refusal(client.get_provisioned_concurrency_config, **of, Qualifier="1")
    assert none[::2] == ("ProvisionedConcurrencyConfigNotFoundException", 404)
    assert client.list_provisioned_concurrency_configs(**of)["ProvisionedConcurrencyConfigs"] == []
    assert client.get_runtime_management_config(**of)["UpdateRuntimeOn"] == "Auto"
    assert client.get_function_recursion_config(**of)["RecursiveLoop"] == "Terminate"
    missing = {"FunctionName": "nothing"}
    assert refusal(client.get_function_code_signing_config, **missing)[0] == "ResourceNotFoundException"
