"""Operations that are not built: answered as AWS answers "none", or 501 by name. And what was built last."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import FunctionsServer, zip_of
from tests.harness.processes import wait_until
from tidemill_functions.api.operations import MAPPINGS, NOT_BUILT, SERVED

Name = Callable[[], str]
ECHO = "def handler(event, context):\n    return event\n"
MODEL = botocore.session.get_session().get_service_model("lambda")
SIGNING = "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdef0"
EXECUTION = (
    "arn:aws:lambda:us-east-1:123456789012:function:f:1/durable-execution/00000000/"
    "00000000-0000-0000-0000-000000000000"
)
# What a caller must give, by member.
GIVEN = {
    "CodeSigningConfigArn": SIGNING,
    "DurableExecutionArn": EXECUTION,
    "CapacityProviderName": "provider",
    "Qualifier": "1",
    "UpdateRuntimeOn": "Auto",
}


@pytest.mark.parametrize("operation", [name for name in SERVED["absent"] if name in MODEL.operation_names])
def test_none_is_answered_as_none(server: FunctionsServer, name: Name, operation: str) -> None:
    server.create(function := name(), ECHO, Publish=True)
    required = MODEL.operation_model(operation).input_shape.required_members
    members = {member: GIVEN.get(member, function) for member in required}
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
    try:
        reply = getattr(server.client, method)(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"].endswith("NotFoundException")  # noqa: PT017 - one of two answers
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404  # noqa: PT017 - the same
    else:
        lists = [value for value in reply.values() if isinstance(value, list)]
        assert not any(lists)


@pytest.mark.parametrize(
    "operation", [name for name in (*NOT_BUILT, *MAPPINGS) if name in MODEL.operation_names]
)
def test_what_would_mislead_is_answered_501_by_name(server: FunctionsServer, operation: str) -> None:
    http = MODEL.operation_model(operation).http
    path = re.sub(r"\{\w+\+?\}", "x", http["requestUri"])
    body = b"{}" if http["method"] in ("POST", "PUT") else None
    request = urllib.request.Request(server.url + path, method=http["method"], data=body)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=30)
    assert raised.value.code == 501
    assert f"lambda:{operation} is not implemented by Tidemill." in json.loads(raised.value.read()).values()


def refusal(call: Callable[..., Any], **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**members)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def test_permissions_of_a_layer_version_are_kept_and_answered(server: FunctionsServer, name: Name) -> None:
    client, files = server.client, {"python/lib.py": "NAME = 1\n"}
    layer = client.publish_layer_version(LayerName=name(), Content={"ZipFile": zip_of(files)})
    of = {"LayerName": layer["LayerArn"].rpartition(":")[2], "VersionNumber": 1}
    none = ("ResourceNotFoundException", "No policy is associated with the given resource.")
    assert refusal(client.get_layer_version_policy, **of) == none
    given = {"Action": "lambda:GetLayerVersion", "Principal": "210987654321"}
    added = client.add_layer_version_permission(**of, StatementId="one", **given)
    client.add_layer_version_permission(
        **of, StatementId="all", Action=given["Action"], Principal="*", OrganizationId="o-0123456789"
    )
    found = client.get_layer_version_policy(**of)
    first, second = json.loads(found["Policy"])["Statement"]
    assert (
        json.loads(added["Statement"])
        == first
        == {
            "Sid": "one",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
            "Action": "lambda:GetLayerVersion",
            "Resource": layer["LayerVersionArn"],
        }
    )
    assert second["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-0123456789"}}
    again = refusal(client.add_layer_version_permission, **of, StatementId="one", **given)
    assert again[0] == "ResourceConflictException"
    old = refusal(
        client.remove_layer_version_permission, **of, StatementId="one", RevisionId=added["RevisionId"]
    )
    assert old[0] == "PreconditionFailedException"
    client.remove_layer_version_permission(**of, StatementId="one", RevisionId=found["RevisionId"])
    assert "one is not found" in refusal(client.remove_layer_version_permission, **of, StatementId="one")[1]
    client.remove_layer_version_permission(**of, StatementId="all")
    assert refusal(client.get_layer_version_policy, **of) == none
    missing = refusal(client.get_layer_version_policy, LayerName=of["LayerName"], VersionNumber=2)
    assert missing[0] == "ResourceNotFoundException"
    assert (
        client.publish_layer_version(LayerName=of["LayerName"], Content={"ZipFile": zip_of(files)})["Version"]
        == 2
    )


def test_invoke_async_is_an_event(server: FunctionsServer, name: Name, tmp_path: Any) -> None:
    note = tmp_path / "note"
    source = f"def handler(event, context):\n    open({str(note)!r}, 'w').write(event['x'])\n"
    server.create(function := name(), source)
    reply = server.client.invoke_async(FunctionName=function, InvokeArgs=b'{"x": "came"}')
    assert reply["Status"] == 202
    wait_until(lambda: note.exists() and note.read_text() == "came")


def test_functions_are_listed_from_where_the_last_page_ended_whatever_was_deleted_since(
    server: FunctionsServer,
) -> None:
    prefix = f"0-{uuid.uuid4().hex[:8]}"  # before the names of other tests
    for number in range(3):
        server.create(f"{prefix}-{number}", ECHO, Publish=number == 1)
    client = server.client
    before = client.list_functions(MaxItems=1)
    while not before["Functions"][0]["FunctionName"].startswith(prefix):
        before = client.list_functions(MaxItems=1, Marker=before["NextMarker"])
    client.delete_function(FunctionName=f"{prefix}-0")
    after = client.list_functions(MaxItems=2, Marker=before["NextMarker"], FunctionVersion="ALL")
    listed = [(one["FunctionName"], one["Version"]) for one in after["Functions"]]
    assert listed == [(f"{prefix}-1", "$LATEST"), (f"{prefix}-1", "1")]


def test_no_function_is_a_replica_of_another_region(server: FunctionsServer, name: Name) -> None:
    server.create(name(), ECHO)
    assert server.client.list_functions(FunctionVersion="ALL", MasterRegion="us-east-1")["Functions"] == []
    code, message = refusal(server.client.list_functions, MasterRegion="us-east-1")
    assert (code, "FunctionVersion must be set to ALL" in message) == ("InvalidParameterValueException", True)


def test_states_are_what_waiters_wait_for(server: FunctionsServer, name: Name) -> None:
    client, function = server.client, name()
    made = server.create(function, ECHO)
    assert (made["State"], made["LastUpdateStatus"]) == ("Active", "Successful")
    quick = {"Delay": 0, "MaxAttempts": 1}
    client.get_waiter("function_active_v2").wait(FunctionName=function, WaiterConfig=quick)
    of = {"FunctionName": function, "RevisionId": made["RevisionId"]}
    changed = client.update_function_configuration(**of, Timeout=9)
    assert (changed["Timeout"], changed["LastUpdateStatus"]) == (9, "Successful")
    assert changed["RevisionId"] != made["RevisionId"]
    client.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig=quick)
    code = {"ZipFile": zip_of({"app.py": "def handler(event, context):\n    return 2\n"})}
    stale = refusal(client.update_function_code, **of, **code)
    assert stale[0] == "PreconditionFailedException"
    of["RevisionId"] = changed["RevisionId"]
    dry = client.update_function_code(**of, **code, DryRun=True)
    assert (dry["CodeSha256"], dry["RevisionId"]) == (made["CodeSha256"], changed["RevisionId"])
    updated = client.update_function_code(**of, **code, Architectures=["arm64"])
    assert updated["CodeSha256"] != made["CodeSha256"]
    assert updated["Architectures"] == ["arm64"]
    assert server.invoke(function)[0] == 2
