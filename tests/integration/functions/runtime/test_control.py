"""Creating, reading, changing and deleting functions with AWS's own clients."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from tests.harness.functions_server import ROLE, FunctionsServer, running, zip_of

Name = Callable[[], str]

ECHO = "def handler(event, context):\n    return event\n"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:"


def refusal(call: Callable[..., Any], **members: Any) -> tuple[str, str, int]:
    """The code, message and status that a call is refused with."""
    with pytest.raises(ClientError) as raised:
        call(**members)
    response = raised.value.response
    return (
        response["Error"]["Code"],
        response["Error"]["Message"],
        response["ResponseMetadata"]["HTTPStatusCode"],
    )


def test_a_new_function_has_lambdas_defaults(server: FunctionsServer, name: Name) -> None:
    zipped = zip_of({"app.py": ECHO})
    made = server.client.create_function(
        FunctionName=(function := name()),
        Runtime="python3.12",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": zipped},
    )
    assert made.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert made.pop("RevisionId")
    assert made.pop("LastModified").endswith("+0000")
    assert made.pop("Architectures") in (["x86_64"], ["arm64"])
    assert made == {
        "FunctionName": function,
        "FunctionArn": ARN + function,
        "Runtime": "python3.12",
        "Role": ROLE,
        "Handler": "app.handler",
        "CodeSize": len(zipped),
        "CodeSha256": base64.b64encode(hashlib.sha256(zipped).digest()).decode(),
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function}"},
    }
    server.client.get_waiter("function_active_v2").wait(FunctionName=function)


def test_a_function_is_read_back_with_its_code_and_tags(server: FunctionsServer, name: Name) -> None:
    function = name()
    made = server.create(function, ECHO, Tags={"team": "flights"}, Description="echoes")
    read = server.client.get_function(FunctionName=function)
    assert read["Configuration"]["CodeSha256"] == made["CodeSha256"]
    assert read["Configuration"]["Description"] == "echoes"
    assert read["Tags"] == {"team": "flights"}
    assert read["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(read["Code"]["Location"], timeout=30) as reply:
        assert zipfile.ZipFile(BytesIO(reply.read())).read("app.py").decode() == ECHO


@pytest.mark.parametrize("form", ["{name}", "{name}:$LATEST", "123456789012:function:{name}", ARN + "{name}"])
def test_a_function_is_found_by_name_and_arn(server: FunctionsServer, name: Name, form: str) -> None:
    server.create(function := name(), ECHO)
    reference = form.format(name=function)
    found = server.client.get_function_configuration(FunctionName=reference)
    assert found["FunctionArn"] == ARN + function
    assert server.invoke(reference, 1)[0] == 1


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("nope", ARN + "nope"),
        ("{name}:7", ARN + "{name}:7"),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:{name}",
            "arn:aws:lambda:eu-west-1:123456789012:function:{name}",
        ),
        ("999999999999:function:{name}", "arn:aws:lambda:us-east-1:999999999999:function:{name}"),
    ],
)
def test_what_is_not_there_is_named_by_its_arn(
    server: FunctionsServer, name: Name, reference: str, told: str
) -> None:
    server.create(function := name(), ECHO)
    client = server.client
    expected = ("ResourceNotFoundException", f"Function not found: {told.format(name=function)}", 404)
    for call in (client.get_function, client.get_function_configuration, client.invoke):
        assert refusal(call, FunctionName=reference.format(name=function)) == expected
    if ":" not in reference:
        assert refusal(client.delete_function, FunctionName=reference) == expected
        update = {"FunctionName": reference, "ZipFile": zip_of({"a": ""})}
        assert refusal(client.update_function_code, **update) == expected


def test_a_qualifier_must_be_one_and_the_same(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    code, message, _ = refusal(server.client.invoke, FunctionName=f"{function}:1", Qualifier="2")
    assert code == "InvalidParameterValueException"
    assert message.startswith("The derived qualifier from the function name does not match")


def test_a_name_can_be_taken_once(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    with pytest.raises(ClientError) as raised:
        server.create(function, ECHO)
    assert raised.value.response["Error"]["Code"] == "ResourceConflictException"
    assert raised.value.response["Error"]["Message"] == f"Function already exist: {function}"
    assert len(list((server.data_dir / "code" / function).glob("*.zip"))) == 1


@pytest.mark.parametrize(
    ("members", "code", "part"),
    [
        ({"Timeout": 0}, "ValidationException", "Value '0' at 'timeout' failed to satisfy constraint"),
        ({"Timeout": 901}, "ValidationException", "Member must have value less than or equal to 900"),
        ({"MemorySize": 127}, "ValidationException", "'memorySize' failed to satisfy constraint"),
        ({"MemorySize": 10241}, "ValidationException", "Member must have value less than or equal to 10240"),
        ({"Handler": "app handler"}, "ValidationException", "regular expression pattern"),
        ({"Handler": "a." + "h" * 127}, "ValidationException", "length less than or equal to 128"),
        ({"Runtime": "cobol"}, "ValidationException", "enum value set"),
        (
            {"Runtime": "ruby3.3"},
            "InvalidParameterValueException",
            "The runtime ruby3.3 cannot be run here: package it with a bootstrap for provided.al2023.",
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x"}}},
            "InvalidParameterValueException",
            "Reserved keys used in this request: AWS_REGION",
        ),
        (
            {"Environment": {"Variables": {"LONG": "x" * 4093}}},
            "InvalidParameterValueException",
            "exceeded the 4KB limit",
        ),
        (
            {"Environment": {"Variables": {"NULL": "a\0b"}}},
            "InvalidParameterValueException",
            "NUL character",
        ),
        (
            {"Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:l:1"]},
            "InvalidParameterValueException",
            "Layer version arn:aws:lambda:us-east-1:123456789012:layer:l:1 does not exist.",
        ),
        (
            {"Layers": ["arn:aws:lambda:us-east-1:017000801446:layer:AWSLambdaPowertoolsPythonV3:1"]},
            "InvalidParameterValueException",
            "is of another account or region and cannot be fetched: publish it here",
        ),
        (
            {"LoggingConfig": {"SystemLogLevel": "WARN"}},
            "InvalidParameterValueException",
            "SystemLogLevel applies to the log format JSON only",
        ),
        ({"Code": {"ImageUri": "repo/image:1"}}, "InvalidParameterValueException", "Container images"),
        ({"Code": {}}, "InvalidParameterValueException", "Please provide a source for function code."),
        (
            {"Code": {"ZipFile": b"no zip"}},
            "InvalidParameterValueException",
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (
            {"Code": {"ZipFile": zip_of({"../../out.py": ""})}},
            "InvalidParameterValueException",
            "would be written outside",
        ),
    ],
)
def test_what_can_not_be_created_is_rejected_by_name_and_leaves_nothing(
    server: FunctionsServer, name: Name, members: dict[str, Any], code: str, part: str
) -> None:
    function = name()
    given = {
        "FunctionName": function,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of({"app.py": ECHO})},
        **members,
    }
    told, message, status = refusal(server.client.create_function, **given)
    assert (told, status) == (code, 400)
    assert part in message
    assert refusal(server.client.get_function, FunctionName=function)[2] == 404
    left = server.data_dir / "code" / function
    assert not left.exists() or not list(left.iterdir())


def test_runtime_and_handler_are_mandatory(server: FunctionsServer, name: Name) -> None:
    code, message, _ = refusal(
        server.client.create_function,
        FunctionName=name(),
        Role=ROLE,
        Code={"ZipFile": zip_of({"app.py": ECHO})},
    )
    assert code == "InvalidParameterValueException"
    assert message.startswith("Runtime and Handler are mandatory parameters")


def test_a_name_has_64_characters_at_most(server: FunctionsServer) -> None:
    with pytest.raises(ClientError, match="'functionName' failed to satisfy constraint"):
        server.create("n" * 65, ECHO)


def test_an_operation_that_is_not_built_is_named(server: FunctionsServer, name: Name) -> None:
    code, message, status = refusal(
        server.client.put_function_recursion_config, FunctionName=name(), RecursiveLoop="Allow"
    )
    assert (code, status) == ("NotImplementedException", 501)
    assert "PutFunctionRecursionConfig" in message


def test_new_code_runs_from_the_next_call_on(server: FunctionsServer, name: Name) -> None:
    before = server.create(function := name(), "def handler(event, context):\n    return 1\n")
    assert server.invoke(function)[0] == 1
    changed = zip_of({"app.py": "def handler(event, context):\n    return 2\n"})
    dry = server.client.update_function_code(FunctionName=function, ZipFile=changed, DryRun=True)
    assert dry["RevisionId"] == before["RevisionId"]
    assert server.invoke(function)[0] == 1
    after = server.client.update_function_code(FunctionName=function, ZipFile=changed)
    assert after["CodeSha256"] != before["CodeSha256"]
    assert server.invoke(function)[0] == 2
    # The former code goes with the last process that ran it.
    code = server.data_dir / "code" / function
    while len(list(code.glob("*.zip"))) > 1:
        server.invoke(function)


def test_bad_new_code_leaves_the_old(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    assert refusal(server.client.update_function_code, FunctionName=function, ZipFile=b"PK")[2] == 400
    assert server.invoke(function, "still here")[0] == "still here"


def test_a_new_configuration_holds_from_the_next_call_on(server: FunctionsServer, name: Name) -> None:
    source = "import os\ndef handler(e, c):\n    return [os.environ.get('KEY'), c.memory_limit_in_mb]\n"
    made = server.create(function := name(), source, Description="kept")
    assert server.invoke(function)[0] == [None, "128"]
    changed = server.client.update_function_configuration(
        FunctionName=function, Timeout=20, MemorySize=512, Environment={"Variables": {"KEY": "value"}}
    )
    assert (changed["Timeout"], changed["MemorySize"], changed["Description"]) == (20, 512, "kept")
    assert changed["RevisionId"] != made["RevisionId"]
    assert server.invoke(function)[0] == ["value", "512"]
    code, _, status = refusal(
        server.client.update_function_configuration, FunctionName=function, RevisionId=made["RevisionId"]
    )
    assert (code, status) == ("PreconditionFailedException", 412)


def test_a_deleted_function_is_gone(server: FunctionsServer, name: Name) -> None:
    server.create(function := name(), ECHO)
    server.invoke(function)
    deleted = server.client.delete_function(FunctionName=function)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(server.client.invoke, FunctionName=function)[0] == "ResourceNotFoundException"
    assert function not in [item["FunctionName"] for item in server.client.list_functions()["Functions"]]
    server.create(function, "def handler(event, context):\n    return 'new'\n")
    assert server.invoke(function)[0] == "new"


def test_the_list_comes_in_pages(server: FunctionsServer, name: Name) -> None:
    made = {name() for _ in range(3)}
    for function in made:
        server.register(function, Path(__file__), "refusal")
    pages = list(server.client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    assert len(pages) > 1
    listed = [item["FunctionName"] for page in pages for item in page["Functions"]]
    assert made <= set(listed)
    assert listed == sorted(set(listed))


def test_code_comes_from_s3(tmp_path: Path) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="app.zip", Body=zip_of({"app.py": ECHO}))
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        with running(tmp_path, environment) as server:
            server.create("stored", ECHO, Code={"S3Bucket": "code", "S3Key": "app.zip"})
            assert server.invoke("stored", [1])[0] == [1]
            code, message, _ = refusal(
                server.client.update_function_code, FunctionName="stored", S3Bucket="code", S3Key="nope"
            )
            assert code == "InvalidParameterValueException"
            assert message.startswith("Error occurred while GetObject. S3 Error Code: NoSuchKey.")
    finally:
        moto.stop()


def test_the_aws_cli_creates_and_invokes(server: FunctionsServer, name: Name, tmp_path: Path) -> None:
    function, package, result = name(), tmp_path / "app.zip", tmp_path / "result.json"
    package.write_bytes(zip_of({"app.py": ECHO}))
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
    }

    def aws(*arguments: str) -> dict[str, Any]:
        command = [str(Path(sys.executable).with_name("aws")), "lambda", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    code = ["--zip-file", f"fileb://{package}", "--handler", "app.handler", "--runtime", "python3.13"]
    made = aws("create-function", "--function-name", function, "--role", ROLE, *code)
    assert made["State"] == "Active"
    told = aws("invoke", "--function-name", function, "--payload", '{"a": 1}', str(result))
    assert told == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert json.loads(result.read_text()) == {"a": 1}


def test_code_in_place_is_registered_changed_and_kept_apart_from_zips(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    function, path = name(), tmp_path / "orders.py"
    path.write_text(
        "import os\ndef handler(e, c):\n    return 1\ndef other(e, c):\n    return os.environ['KEY']\n"
    )
    made = server.register(function, path)
    assert (made["Handler"], made["Timeout"], made["CodeSize"]) == ("orders.handler", 3, 0)
    assert server.invoke(function)[0] == 1
    server.register(function, path, "other", environment={"KEY": "value"}, timeout_s=9)
    assert server.invoke(function)[0] == "value"
    assert server.client.get_function(FunctionName=function)["Code"]["Location"] == tmp_path.as_uri()
    server.register(function, tmp_path, "orders.handler")
    assert server.invoke(function)[0] == 1
    server.create(zipped := name(), ECHO)
    with pytest.raises(urllib.error.HTTPError) as raised:
        server.register(zipped, path)
    assert raised.value.code == 409


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"path": "relative.py"}, "is a relative path"),
        ({"path": "/nowhere/app.py"}, "does not exist"),
        ({"path": __file__, "timeout_s": 901}, "less than or equal to 900"),
        ({"path": __file__, "memory_mb": 1}, "greater than or equal to 128"),
        ({"path": __file__, "timeout_s": "3"}, "timeout_s"),
        ({"path": __file__, "surprise": 1}, "surprise"),
        ({"path": __file__, "environment": {"_HANDLER": "x"}}, "Reserved keys"),
        ({"path": str(Path(__file__).parent), "handler": "handler"}, "names no module"),
        ({"path": sys.executable}, "is no Python module"),
        (
            {"path": __file__, "handler": "refusals"},
            "defines no handler 'refusals'; its functions are refusal, ",
        ),
    ],
)
def test_a_registration_that_can_not_work_says_why(
    server: FunctionsServer, name: Name, fields: dict[str, Any], part: str
) -> None:
    body = {"name": name(), "handler": "handler", **fields}
    with pytest.raises(urllib.error.HTTPError) as raised:
        server.post("/_tidemill/functions", json.dumps(body).encode())
    assert raised.value.code == 400
    assert part in json.loads(raised.value.read())["error"]


NAMESPACED = {
    "functions/orders.py": "from functions import totals\ndef handler(e, c):\n    return totals.SUM\n",
    "functions/totals.py": "SUM = 3\n",
}


def test_a_handler_in_a_namespace_folder_called_functions_runs(server: FunctionsServer, name: Name) -> None:
    """No name that we install may win over the folders of a user."""
    server.client.create_function(
        FunctionName=(function := name()),
        Runtime="python3.11",
        Role=ROLE,
        Handler="functions/orders.handler",
        Code={"ZipFile": zip_of(NAMESPACED)},
    )
    assert server.invoke(function)[0] == 3


def tidemill(server: FunctionsServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidemill_cli.main", "function", *arguments]
    return subprocess.run(
        [*command, "--endpoint-url", server.url],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_same_handler_is_registered_by_the_command_line(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "orders.py").write_text("def handler(event, context):\n    return 3\n")
    done = tidemill(server, tmp_path, "register", function := name(), "functions/orders.py:handler")
    assert done.returncode == 0, done.stderr
    assert server.invoke(function)[0] == 3
    server.register(function, tmp_path, "functions/orders.handler")
    assert server.invoke(function)[0] == 3


def test_a_handler_that_is_not_in_its_file_is_rejected_by_the_command_line(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    (tmp_path / "orders.py").write_text("print('run')\ndef handle(event, context): ...\n")
    done = tidemill(server, tmp_path, "register", function := name(), "orders.py:handler")
    assert done.returncode != 0
    assert "orders.py defines no handler 'handler'; its functions are handle" in done.stderr
    assert refusal(server.client.get_function, FunctionName=function)[2] == 404
