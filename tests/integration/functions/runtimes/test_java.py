"""What is Java's own: layouts of a zip, forms of handlers, class paths of layers, and their errors."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.harness.contract.cases import Files, java_classes, java_libraries, require, zipped
from tests.harness.functions_server import ROLE, FunctionsServer
from tidemill_functions.runtimes.java.client import ARTIFACTS, ClientStore

pytestmark = pytest.mark.timeout(600)  # the first run fetches and compiles what it needs

Name = Callable[[], str]

FORMS = """
package forms;
import com.amazonaws.services.lambda.runtime.*;
import java.io.*;
import java.util.*;
public class Forms implements RequestStreamHandler {
    public static class Order { public String id; public int count; public List<String> tags; }
    public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
        in.transferTo(out);
    }
    public Order pojo(Order order, Context context) { order.count += 1; return order; }
    public String plain(String text) { return text + "!"; }
    public int number(int value) { return value + 1; }
    public void nothing(Map<String, Object> event) { }
    public String property(String name) { return System.getProperty(name); }
    public static String fixed(Object event) { return "fixed"; }
    public String logs(Object event, Context context) {
        context.getLogger().log("logged é\\n");
        return "done";
    }
}
"""
OWN = 'package own; public class Own {{ public static String name() {{ return "{}"; }} }}'
CALLS = "package calls; public class Calls { public String handle(Object event) { return own.Own.name(); } }"


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Files:
    source = tmp_path_factory.mktemp("forms") / "Forms.java"
    source.write_text(FORMS)
    return java_classes(source)


def create(server: FunctionsServer, name: str, files: Files, handler: str, **members: Any) -> str:
    require("java")
    java_libraries()  # so that the client lies in Maven's local repository
    given = {"Timeout": 40, "MemorySize": 512, "Runtime": "java17", "Code": {"ZipFile": zipped(files)}}
    server.client.create_function(FunctionName=name, Role=ROLE, Handler=handler, **(given | members))
    return name


def jar_of(files: Files) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def compiled(folder: Path, sources: Mapping[str, str]) -> Files:
    """The classes of some sources that know one another."""
    require("javac")
    folder.mkdir()
    for name, text in sources.items():
        (folder / name).write_text(text)
    subprocess.run(
        ["javac", "--release", "17", "-d", "out", *sources], cwd=folder, check=True, capture_output=True
    )
    out = folder / "out"
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*.class")}


@pytest.mark.parametrize(
    ("handler", "event", "result"),
    [
        ("forms.Forms", {"a": None}, {"a": None}),
        ("forms.Forms::handleRequest", [1, "é"], [1, "é"]),
        (
            "forms.Forms::pojo",
            {"id": "é", "count": 1, "tags": ["t"]},
            {"id": "é", "count": 2, "tags": ["t"]},
        ),
        ("forms.Forms::plain", "é", "é!"),
        ("forms.Forms::number", 1, 2),
        ("forms.Forms::nothing", {}, None),
        ("forms.Forms::fixed", 1, "fixed"),
    ],
)
def test_every_form_of_a_java_handler_runs(
    server: FunctionsServer, name: Name, forms: Files, handler: str, event: Any, result: Any
) -> None:
    function = create(server, name(), forms, handler)
    assert server.invoke(function, event)[0] == result
    assert server.invoke(function, event)[0] == result


def test_the_contexts_logger_writes_to_the_log(server: FunctionsServer, name: Name, forms: Files) -> None:
    function = create(server, name(), forms, "forms.Forms::logs")
    assert server.invoke(function)[0] == "done"
    assert "logged é\n" in server.log(function)


def test_the_contexts_logger_writes_json_where_that_is_asked_for(
    server: FunctionsServer, name: Name, forms: Files
) -> None:
    function = create(server, name(), forms, "forms.Forms::logs", LoggingConfig={"LogFormat": "JSON"})
    _, reply = server.invoke(function)
    lines = [json.loads(line) for line in server.log(function).splitlines() if "logged" in line]
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert [(line["message"].strip(), line["AWSRequestId"]) for line in lines] == [("logged é", request_id)]


def test_java_tool_options_reach_the_jvm(server: FunctionsServer, name: Name, forms: Files) -> None:
    options = {"JAVA_TOOL_OPTIONS": "-Dorders.table=t"}
    function = create(server, name(), forms, "forms.Forms::property", Environment={"Variables": options})
    assert server.invoke(function, "orders.table")[0] == "t"


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("forms.Missing::handle", "Class not found: forms.Missing"),
        (
            "forms.Forms::missing",
            "No public method named missing with appropriate method signature found on class forms.Forms",
        ),
        ("forms.Forms::", "Invalid handler: `forms.Forms::'"),
    ],
)
def test_a_java_handler_that_cannot_be_loaded_says_so(
    server: FunctionsServer, name: Name, forms: Files, handler: str, message: str
) -> None:
    function = create(server, name(), forms, handler)
    for _ in range(2):
        result, reply = server.invoke(function)
        assert (result["errorMessage"], reply["FunctionError"]) == (message, "Unhandled")
    assert message in server.log(function)


def test_own_classes_go_before_lib_and_lib_before_layers(
    server: FunctionsServer, name: Name, tmp_path: Path
) -> None:
    calls = compiled(tmp_path / "calls", {"Calls.java": CALLS, "Own.java": OWN.format("classes")})
    own = {"own/Own.class": calls["own/Own.class"]}
    handler = {"calls/Calls.class": calls["calls/Calls.class"]}
    lib = jar_of(compiled(tmp_path / "lib", {"Own.java": OWN.format("lib")}))
    layered = jar_of(compiled(tmp_path / "layer", {"Own.java": OWN.format("layer")}))
    layer = server.client.publish_layer_version(
        LayerName=name(), Content={"ZipFile": zipped({"java/lib/own.jar": layered})}
    )
    arns = [layer["LayerVersionArn"]]
    for files, expected in (
        ({**handler, **own, "lib/a.jar": lib}, "classes"),
        ({**handler, "lib/a.jar": lib}, "lib"),
        (handler, "layer"),
    ):
        function = create(server, name(), files, "calls.Calls::handle", Layers=arns)
        assert server.invoke(function)[0] == expected


def test_maven_brings_the_client_where_its_repository_is_not_found(tmp_path: Path) -> None:
    """By the real Maven, and its jars are those that are expected; the library is one for this machine."""
    java_libraries()
    environ = {"HOME": str(tmp_path / "no-repository"), "PATH": os.environ["PATH"]}
    client = ClientStore(tmp_path / "java", None, environ).get()
    assert len(client.jars) == len(ARTIFACTS)
    ctypes.CDLL(client.library)


def test_a_handler_in_a_jar_of_lib_runs(server: FunctionsServer, name: Name, forms: Files) -> None:
    """As `gradle buildZip` and Maven's assembly pack it; a jar as the package itself is a zip of classes."""
    function = create(server, name(), {"lib/app.jar": jar_of(forms)}, "forms.Forms::plain")
    assert server.invoke(function, "in a jar")[0] == "in a jar!"


def test_another_java_than_the_one_asked_for_is_named(
    server: FunctionsServer, name: Name, forms: Files
) -> None:
    """Where this machine has the version itself, nothing is said."""
    function = create(server, name(), forms, "forms.Forms::plain", Runtime="java17")
    assert server.invoke(function, "x")[0] == "x!"
    [ran] = re.findall(r"INIT_START Runtime Version: java:(\d+)", server.log(function))
    found = server.client.get_function_configuration(FunctionName=function)
    note = found.get("RuntimeVersionConfig", {}).get("Error", {}).get("Message", "java17")
    assert note == "java17" if ran == "17" else f"run by Java {ran}" in note
