"""Published versions and aliases, by AWS's own client."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import FunctionsServer, running, zip_of
from tests.harness.processes import wait_until

Name = Callable[[], str]
ARN = "arn:aws:lambda:us-east-1:123456789012:function:"


def source(result: object) -> str:
    return f"def handler(event, context):\n    return {result!r}\n"


def update(server: FunctionsServer, name: str, result: object, **members: Any) -> dict[str, Any]:
    zipped = zip_of({"app.py": source(result)})
    found: dict[str, Any] = server.client.update_function_code(FunctionName=name, ZipFile=zipped, **members)
    return found


def refusal(call: Callable[..., Any], **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**members)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def test_a_version_stays_as_it_was_published(server: FunctionsServer, name: Name) -> None:
    made = server.create(function := name(), source("first"), Environment={"Variables": {"KEY": "1"}})
    first = server.client.publish_version(FunctionName=function, Description="one")
    assert (first["Version"], first["FunctionArn"]) == ("1", f"{ARN}{function}:1")
    assert (first["Description"], first["CodeSha256"]) == ("one", made["CodeSha256"])
    update(server, function, "second")
    server.client.update_function_configuration(FunctionName=function, Timeout=9)
    assert server.invoke(function)[0] == "second"
    result, reply = server.invoke(function, Qualifier="1")
    assert (result, reply["ExecutedVersion"]) == ("first", "1")
    assert server.invoke(f"{ARN}{function}:1")[0] == "first"
    kept = server.client.get_function(FunctionName=function, Qualifier="1")["Configuration"]
    assert (kept["Timeout"], kept["Version"], kept["Environment"]) == (3, "1", {"Variables": {"KEY": "1"}})
    server.client.get_waiter("published_version_active").wait(FunctionName=function, Qualifier="1")


def test_what_has_not_changed_is_published_once(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), source(1))
    numbers = [server.client.publish_version(FunctionName=function)["Version"] for _ in range(2)]
    numbers.append(update(server, function, 2, Publish=True)["Version"])
    server.client.delete_function(FunctionName=function, Qualifier="2")
    numbers.append(update(server, function, 3, Publish=True)["Version"])
    assert numbers == ["1", "1", "2", "3"]
    listed = server.client.list_versions_by_function(FunctionName=function)["Versions"]
    assert [version["Version"] for version in listed] == ["$LATEST", "1", "3"]


def test_a_function_can_be_created_with_its_first_version(server: FunctionsServer, name: Name) -> None:
    made = server.create(function := name(), source(1), Publish=True)
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN}{function}:1")
    every = server.client.get_paginator("list_functions").paginate(FunctionVersion="ALL", MaxItems=2)
    found = [one["FunctionArn"] for page in every for one in page["Functions"]]
    assert {f"{ARN}{function}", f"{ARN}{function}:1"} <= set(found)


def test_publishing_checks_what_it_publishes(server: FunctionsServer, name: Name, tmp_path: Path) -> None:
    server.create(function := name(), source(1))
    publish = server.client.publish_version
    assert refusal(publish, FunctionName=function, RevisionId="old")[0] == "PreconditionFailedException"
    assert (
        "is different from current CodeSHA256" in refusal(publish, FunctionName=function, CodeSha256="x")[1]
    )
    (tmp_path / "app.py").write_text(source(1))
    server.register(in_place := name(), tmp_path / "app.py")
    assert "runs in place" in refusal(publish, FunctionName=in_place)[1]


def test_an_alias_names_a_version_and_moves(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), source("first"), Publish=True)
    update(server, function, "second", Publish=True)
    alias = {"FunctionName": function, "Name": "live"}
    made = server.client.create_alias(**alias, FunctionVersion="1", Description="d")
    assert made["AliasArn"] == f"{ARN}{function}:live"
    assert server.invoke(function, Qualifier="live")[0] == "first"
    moved = server.client.update_alias(**alias, FunctionVersion="2")
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "d")
    result, reply = server.invoke(f"{function}:live")
    assert (result, reply["ExecutedVersion"]) == ("second", "2")
    assert server.client.get_alias(**alias)["RevisionId"] == moved["RevisionId"] != made["RevisionId"]
    code, message = refusal(server.client.delete_function, FunctionName=function, Qualifier="2")
    assert code == "ResourceConflictException"
    assert message.endswith("because the following aliases reference it: [live]")
    assert [a["Name"] for a in server.client.list_aliases(FunctionName=function)["Aliases"]] == ["live"]
    assert server.client.list_aliases(FunctionName=function, FunctionVersion="1")["Aliases"] == []
    server.client.delete_alias(**alias)
    assert refusal(server.client.get_alias, **alias)[0] == "ResourceNotFoundException"
    assert refusal(server.client.invoke, FunctionName=function, Qualifier="live") == (
        "ResourceNotFoundException",
        f"Function not found: {ARN}{function}:live",
    )


def test_an_alias_shares_its_calls_by_weight(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), source("first"), Publish=True)
    update(server, function, "second", Publish=True)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    alias = {"FunctionName": function, "Name": "canary", "FunctionVersion": "1"}
    made = server.client.create_alias(**alias, RoutingConfig=weights)
    assert made["RoutingConfig"] == weights
    counts = Counter(server.invoke(f"{function}:canary")[0] for _ in range(60))
    assert min(counts["first"], counts["second"]) > 5


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"FunctionVersion": "7"}, "ResourceNotFoundException"),
        (
            {"FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}},
            "InvalidParameterValueException",
        ),
    ],
)
def test_an_alias_names_what_there_is(
    server: FunctionsServer, name: Name, members: dict[str, Any], code: str
) -> None:
    server.create(function := name(), source(1), Publish=True)
    assert refusal(server.client.create_alias, FunctionName=function, Name="a", **members)[0] == code
    server.client.create_alias(FunctionName=function, Name="a", FunctionVersion="1")
    again = {"FunctionName": function, "Name": "a", "FunctionVersion": "1"}
    assert refusal(server.client.create_alias, **again)[0] == "ResourceConflictException"


def test_a_deleted_function_takes_its_versions_and_code_with_it(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), source(1), Publish=True)
    update(server, function, 2, Publish=True)
    server.invoke(function, Qualifier="1")
    server.client.delete_function(FunctionName=function)
    assert (
        refusal(server.client.invoke, FunctionName=function, Qualifier="1")[0] == "ResourceNotFoundException"
    )
    wait_until(lambda: not list((server.data_dir / "code" / function).iterdir()))
    assert not list((server.data_dir / "functions").glob(f"{function}*"))
    assert not (server.data_dir / "attached" / f"{function}.json").exists()


def test_versions_and_aliases_outlive_kill_9(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.create("orders", source("first"), Publish=True)
        server.client.create_alias(FunctionName="orders", Name="live", FunctionVersion="1")
        update(server, "orders", "second")
        server.kill()
    with running(tmp_path) as server:
        assert server.invoke("orders", Qualifier="live")[0] == "first"
        assert server.invoke("orders")[0] == "second"
        assert "Version: 1\n" in server.log("orders")
        assert json.loads((tmp_path / "attached" / "orders.json").read_text())["versions"] == 1


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
def test_a_call_runs_the_version_that_it_names_and_is_told_its_arn(
    server: FunctionsServer, name: Name, tmp_path: Path, kind: str
) -> None:
    note = tmp_path / "note"
    tells = (
        "def handler(event, context):\n"
        f"    with open({str(note)!r}, 'a') as file:\n"
        "        print('VERSION', context.invoked_function_arn, file=file)\n"
    )
    server.create(function := name(), tells.replace("VERSION", "first"), Publish=True)
    server.client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    latest = zip_of({"app.py": tells.replace("VERSION", "latest")})
    server.client.update_function_code(FunctionName=function, ZipFile=latest)
    for reference, qualifier in ((function, "live"), (f"{function}:1", None), (function, None)):
        members = {"Qualifier": qualifier} if qualifier else {}
        server.invoke(reference, InvocationType=kind, **members)
        wait_until(lambda: server.health()["events"] == 0)
    arn = f"{ARN}{function}"
    assert note.read_text().splitlines() == [f"first {arn}:live", f"first {arn}:1", f"latest {arn}"]
