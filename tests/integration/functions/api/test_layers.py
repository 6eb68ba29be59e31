"""Layers, by AWS's own client, and what the functions of each runtime see of them."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.harness.functions_server import ROLE, FunctionsServer, running, zip_of

Name = Callable[[], str]
ARN = "arn:aws:lambda:us-east-1:123456789012:layer:"
OWN = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SEES = (
    "import lib, os, sys\n"
    "def handler(event, context):\n"
    "    return [lib.NAME, [entry.partition('/opt/')[2].partition('/')[2] for entry in sys.path[:4]]]\n"
)


def publish(server: FunctionsServer, name: str, files: dict[str, str], **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.client.publish_layer_version(
        LayerName=name, Content={"ZipFile": zip_of(files)}, **members
    )
    return found


def refusal(call: Callable[..., Any], **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as raised:
        call(**members)
    return raised.value.response["Error"]["Code"], raised.value.response["Error"]["Message"]


def executable_zip(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def test_a_layer_is_published_read_and_deleted(server: FunctionsServer, name: Name) -> None:
    layer, files = name(), {"python/lib.py": "NAME = 1\n"}
    first = publish(server, layer, files, Description="d", CompatibleRuntimes=[OWN], LicenseInfo="MIT")
    assert (first["LayerArn"], first["LayerVersionArn"]) == (ARN + layer, f"{ARN}{layer}:1")
    assert (first["Version"], first["Description"], first["LicenseInfo"]) == (1, "d", "MIT")
    second = publish(server, layer, files)
    assert second["Version"] == 2
    read = server.client.get_layer_version(LayerName=layer, VersionNumber=1)
    by_arn = server.client.get_layer_version_by_arn(Arn=f"{ARN}{layer}:1")
    for found in (read, by_arn):
        assert found["CompatibleRuntimes"] == [OWN]
        assert found["CreatedDate"] == first["CreatedDate"]
    with urllib.request.urlopen(read["Content"]["Location"], timeout=30) as reply:
        digest = hashlib.sha256(reply.read()).digest()
    assert base64.b64encode(digest).decode() == read["Content"]["CodeSha256"]
    listed = server.client.list_layer_versions(LayerName=layer)["LayerVersions"]
    assert [version["Version"] for version in listed] == [2, 1]
    pages = server.client.get_paginator("list_layers").paginate()
    newest = {one["LayerName"]: one["LatestMatchingVersion"]["Version"] for p in pages for one in p["Layers"]}
    assert newest[layer] == 2
    server.client.delete_layer_version(LayerName=layer, VersionNumber=2)
    server.client.delete_layer_version(LayerName=layer, VersionNumber=2)
    missing = refusal(server.client.get_layer_version, LayerName=layer, VersionNumber=2)
    assert missing == ("ResourceNotFoundException", "The resource you requested does not exist.")
    assert publish(server, layer, files)["Version"] == 3
    assert refusal(server.client.publish_layer_version, LayerName=layer, Content={"ZipFile": b"PK"})[0] == (
        "InvalidParameterValueException"
    )


def test_later_layers_lie_over_earlier_ones_below_the_task_root(server: FunctionsServer, name: Name) -> None:
    one = publish(server, name(), {"python/lib.py": "NAME = 'one'\n", "python/only.py": ""})
    site = f"python/lib/{OWN}/site-packages"
    two = publish(server, name(), {"python/lib.py": "NAME = 'two'\n", f"{site}/deep.py": ""})
    arns = [layer["LayerVersionArn"] for layer in (one, two)]
    made = server.create(function := name(), SEES, Runtime=OWN, Layers=arns)
    assert [layer["Arn"] for layer in made["Layers"]] == arns
    assert made["Layers"][0]["CodeSize"] == one["Content"]["CodeSize"]
    result, (root, first, second, _) = server.invoke(function)[0]
    assert (result, root, first, second) == ("two", "", site, "python")
    server.client.update_function_configuration(FunctionName=function, Layers=arns[:1])
    assert server.invoke(function)[0][0] == "one"
    server.client.update_function_configuration(FunctionName=function, Layers=[])
    assert server.invoke(function)[0]["errorType"] == "Runtime.ImportModuleError"


def test_a_function_keeps_a_layer_that_is_deleted(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        layer = publish(server, "shared", {"python/lib.py": "NAME = 'kept'\n"})["LayerVersionArn"]
        server.create("orders", SEES, Runtime=OWN, Layers=[layer])
        server.client.delete_layer_version(LayerName="shared", VersionNumber=1)
        assert server.invoke("orders")[0][0] == "kept"
        server.kill()
    with running(tmp_path) as server:
        assert server.invoke("orders")[0][0] == "kept"
        server.client.delete_function(FunctionName="orders")
        server.kill()
    with running(tmp_path):
        assert not list((tmp_path / "opt").iterdir())


def test_programs_and_libraries_of_layers_are_found(server: FunctionsServer, name: Name) -> None:
    content = {"ZipFile": executable_zip({"bin/greet": "#!/bin/sh\necho hello\n"})}
    layer = server.client.publish_layer_version(LayerName=name(), Content=content)["LayerVersionArn"]
    source = (
        "import os, subprocess\n"
        "def handler(event, context):\n"
        "    said = subprocess.check_output(['greet'], text=True)\n"
        "    return [said, os.environ['LD_LIBRARY_PATH'].split(':')]\n"
    )
    server.create(function := name(), source, Runtime=OWN, Layers=[layer])
    said, libraries = server.invoke(function)[0]
    assert said == "hello\n"
    assert libraries[1] == f"{libraries[0]}/lib"
    assert libraries[2].endswith("/lib")


def test_a_bootstrap_may_lie_in_a_layer(server: FunctionsServer, name: Name) -> None:
    program = (
        f"#!{sys.executable} -IS"
        """
import http.client, os
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    reply = connection.getresponse()
    event = reply.read()
    path = "/2018-06-01/runtime/invocation/" + reply.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    connection.request("POST", path, event)
    connection.getresponse().read()
"""
    )
    content = {"ZipFile": executable_zip({"bootstrap": program})}
    layer = server.client.publish_layer_version(LayerName=name(), Content=content)["LayerVersionArn"]
    server.create(function := name(), "", Runtime="provided.al2023", Layers=[layer])
    assert server.invoke(function, {"a": 1})[0] == {"a": 1}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is missing")
def test_modules_of_layers_are_required(server: FunctionsServer, name: Name) -> None:
    files = {"nodejs/node_modules/lib/index.js": "exports.NAME = 'of the layer';\n"}
    layer = publish(server, name(), files)["LayerVersionArn"]
    source = "const lib = require('lib'); exports.handler = async () => lib.NAME;"
    server.client.create_function(
        FunctionName=(function := name()),
        Runtime="nodejs20.x",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": zip_of({"app.js": source})},
        Layers=[layer],
    )
    assert server.invoke(function)[0] == "of the layer"


def test_a_version_keeps_its_layers(server: FunctionsServer, name: Name) -> None:
    layer = publish(server, name(), {"python/lib.py": "NAME = 'first'\n"})["LayerVersionArn"]
    server.create(function := name(), SEES, Runtime=OWN, Layers=[layer], Publish=True)
    server.client.update_function_configuration(FunctionName=function, Layers=[])
    assert server.client.publish_version(FunctionName=function)["Version"] == "2"
    assert server.invoke(f"{function}:1")[0][0] == "first"
    assert server.invoke(f"{function}:2")[0]["errorType"] == "Runtime.ImportModuleError"


def test_five_layers_are_the_most(server: FunctionsServer, name: Name) -> None:
    layer = publish(server, name(), {"python/lib.py": ""})["LayerVersionArn"]
    with pytest.raises(ClientError, match="Cannot reference more than 5 layers"):
        server.create(name(), SEES, Layers=[layer] * 6)


def test_a_layer_with_extensions_is_rejected_by_their_names(server: FunctionsServer, name: Name) -> None:
    layer = publish(server, name(), {"extensions/watcher": "#!/bin/sh\n", "python/lib.py": "NAME = 1\n"})
    code, message = refusal(server.create, name=name(), source=SEES, Layers=[layer["LayerVersionArn"]])
    assert code == "InvalidParameterValueException"
    assert "brings extensions, which are not built in Tidemill (watcher)" in message


@pytest.mark.parametrize(
    "path",
    [
        "/_tidemill/layers/x/" + "9" * 5000 + "/code",
        "/_tidemill/layers/x/" + "9" * 300 + "/code",
        "/_tidemill/layers/" + "x" * 300 + "/1/code",
        "/2018-10-31/layers/x/versions/" + "9" * 4200,
    ],
    ids=["a number beyond int's digits", "a long number", "a long name", "a long number of AWS's route"],
)
def test_names_and_numbers_that_no_file_can_have_are_not_found(server: FunctionsServer, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(server.url + path, timeout=20)
    assert raised.value.code == 404
