"""What is Node.js's own: the forms of handlers, of modules, and of errors."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.contract.cases import require, zipped
from tests.harness.functions_server import ROLE, FunctionsServer, running

Name = Callable[[], str]


def create(server: FunctionsServer, name: str, files: Mapping[str, str], **members: Any) -> str:
    require("node")
    given = {
        "Timeout": 20,
        "Runtime": "nodejs20.x",
        "Handler": "app.handler",
        "Code": {"ZipFile": zipped(files)},
    } | members
    server.client.create_function(FunctionName=name, Role=ROLE, **given)
    return name


@pytest.mark.parametrize(
    ("files", "handler", "result"),
    [
        ({"app.mjs": "export const handler = async (event) => event + 1;"}, "app.handler", 2),
        (
            {"app.js": "export const handler = async () => 3;", "package.json": '{"type": "module"}'},
            "app.handler",
            3,
        ),
        ({"app.cjs": "exports.handler = (event, context, callback) => callback(null, 4);"}, "app.handler", 4),
        ({"app.js": "exports.handler = (event, context) => context.succeed(5);"}, "app.handler", 5),
        ({"src/a/app.js": "exports.deep = { handler: async () => 6 };"}, "src/a/app.deep.handler", 6),
        ({"app.js": "exports.handler = () => 'not a promise';"}, "app.handler", None),
        (
            {
                "app.js": "exports.handler = (e, c, done) => { setTimeout(() => done(null, 7), 20); };",
            },
            "app.handler",
            7,
        ),
        (
            {
                "app.js": "exports.handler = (e, c, done) => {"
                " c.callbackWaitsForEmptyEventLoop = false; setTimeout(() => {}, 60000); done(null, 8); };",
            },
            "app.handler",
            8,
        ),
        ({"node_modules/one/index.js": "exports.handler = async () => 9;"}, "one.handler", 9),
    ],
)
def test_every_form_of_a_node_handler_runs(
    server: FunctionsServer, name: Name, files: dict[str, str], handler: str, result: Any
) -> None:
    function = create(server, name(), files, Handler=handler)
    assert server.invoke(function, 1)[0] == result
    assert server.invoke(function, 1)[0] == result


@pytest.mark.parametrize(
    ("source", "handler", "error_type"),
    [
        ("exports.handler = async () => 1;", "none.handler", "Runtime.ImportModuleError"),
        ("require('nothing-of-this-name');", "app.handler", "Runtime.ImportModuleError"),
        ("exports.handler = (;", "app.handler", "Runtime.UserCodeSyntaxError"),
        ("exports.other = 1;", "app.handler", "Runtime.HandlerNotFound"),
        ("exports.handler = 1;", "app.handler", "Runtime.HandlerNotFound"),
        (
            "exports.Orders = class { static async handler() {} };",
            "app.Orders.handler",
            "Runtime.HandlerNotFound",
        ),
        ("throw new RangeError('at import');", "app.handler", "RangeError"),
        (
            "exports.handler = awslambda.streamifyResponse(async () => 1);",
            "app.handler",
            "Runtime.StreamingNotBuilt",
        ),
        ("exports.handler = async () => 1;", "app", "Runtime.MalformedHandlerName"),
    ],
)
def test_a_node_handler_that_cannot_be_loaded_says_so(
    server: FunctionsServer, name: Name, source: str, handler: str, error_type: str
) -> None:
    function = create(server, name(), {"app.js": source}, Handler=handler)
    for _ in range(2):
        result, reply = server.invoke(function)
        assert (result["errorType"], reply["FunctionError"]) == (error_type, "Unhandled")


def test_a_callback_is_rejected_since_nodejs24(server: FunctionsServer, name: Name) -> None:
    """By the Runtime that the function names, whichever `node` runs it here."""
    source = {"app.js": "exports.handler = (event, context, callback) => callback(null, 1);"}
    assert server.invoke(create(server, name(), source))[0] == 1
    result = server.invoke(create(server, name(), source, Runtime="nodejs24.x"))[0]
    assert result["errorType"] == "Runtime.CallbackHandlerDeprecated"
    assert "starting with Node.js 24" in result["errorMessage"]


NEVER = "await new Promise((end) => setTimeout(end, 60000));"


@pytest.mark.parametrize(
    ("source", "error_type"),
    [
        (
            f"async () => {{ setTimeout(() => {{ throw new RangeError('late'); }}, 5); {NEVER} }}",
            "RangeError",
        ),
        (
            f"async () => {{ Promise.reject(new Error('late')); {NEVER} }}",
            "Runtime.UnhandledPromiseRejection",
        ),
        ("async () => ({ n: 1n })", "Runtime.JSONStringifyError"),
        ("(e, c, done) => done(new RangeError('called back'))", "RangeError"),
        ("async () => { throw 'a string'; }", "string"),
    ],
)
def test_a_node_error_has_its_type(server: FunctionsServer, name: Name, source: str, error_type: str) -> None:
    function = create(server, name(), {"app.js": f"exports.handler = {source};"})
    result, reply = server.invoke(function)
    assert (result["errorType"], reply["FunctionError"]) == (error_type, "Unhandled")


IMPORTS = "import { name } from 'pkg'; export const handler = async () => name;"
REQUIRES = "const { name } = require('pkg'); exports.handler = async () => name;"


def package(name: str, *, module: bool) -> dict[str, str]:
    """A package with one entry for `import` and one for `require`, or the latter alone."""
    own = {"index.cjs": f"exports.name = '{name} required';", "index.mjs": f"export const name = '{name}';"}
    exports = {"import": "./index.mjs", "require": "./index.cjs"} if module else "./index.cjs"
    return {"package.json": json.dumps({"name": "pkg", "version": "1.0.0", "exports": exports}), **own}


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/pkg/{name}": text for name, text in files.items()}


def layer_of(server: FunctionsServer, name: str, files: Mapping[str, str]) -> list[str]:
    content = {"ZipFile": zipped(files)}
    return [server.client.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]]


@pytest.mark.parametrize(
    ("file", "source", "kind", "result"),
    [
        ("app.mjs", IMPORTS, "module", "layer"),
        ("app.mjs", IMPORTS, "commonjs", "layer required"),
        ("app.js", REQUIRES, "module", "layer required"),
        ("app.mjs", "export const handler = async () => (await import('pkg')).name;", "module", "layer"),
    ],
    ids=["import", "import of CommonJS", "require", "dynamic import"],
)
def test_modules_of_a_layer_are_found_by_import_and_require(
    server: FunctionsServer, name: Name, file: str, source: str, kind: str, result: str
) -> None:
    layers = layer_of(server, name(), below("nodejs/node_modules", package("layer", module=kind == "module")))
    function = create(server, name(), {file: source}, Layers=layers)
    assert server.invoke(function)[0] == result


@pytest.mark.parametrize(("file", "source"), [("app.mjs", IMPORTS), ("app.cjs", REQUIRES)])
def test_modules_are_found_in_lambdas_order(
    server: FunctionsServer, name: Name, file: str, source: str
) -> None:
    """The function's own, those of the layer for this version of Node.js, those of the layer."""
    require("node")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    major = version.removeprefix("v").partition(".")[0]
    own = below("node_modules", package("own", module=True))
    versioned = below(f"nodejs/node{major}/node_modules", package("versioned", module=True))
    common = below("nodejs/node_modules", package("common", module=True))
    for files, layer, expected in (
        (own, versioned | common, "own"),
        ({}, versioned | common, "versioned"),
        ({}, common, "common"),
    ):
        layers = layer_of(server, name(), layer)
        function = create(server, name(), {file: source, **files}, Layers=layers)
        assert server.invoke(function)[0].removesuffix(" required") == expected


def test_a_package_that_no_layer_has_is_named(server: FunctionsServer, name: Name) -> None:
    layers = layer_of(server, name(), below("nodejs/node_modules/other", package("x", module=True)))
    function = create(server, name(), {"app.mjs": IMPORTS}, Layers=layers)
    result = server.invoke(function)[0]
    assert result["errorType"] == "Error"
    assert "Cannot find package 'pkg' imported from " in result["errorMessage"]
    assert result["errorMessage"].endswith("app.mjs")


@pytest.mark.parametrize(
    ("file", "source", "error_type"),
    [("app.mjs", IMPORTS, "Error"), ("app.js", REQUIRES, "Runtime.ImportModuleError")],
)
def test_node_modules_above_the_function_are_out_of_sight(
    tmp_path: Path, file: str, source: str, error_type: str
) -> None:
    """Those of the project in whose folder Tidemill keeps its data are not on Lambda."""
    for path, text in below("node_modules", package("above", module=True)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    with running(tmp_path / ".tidemill/functions") as server:
        function = create(server, "above", {file: source})
        assert server.invoke(function)[0]["errorType"] == error_type


def test_a_handler_without_the_aws_sdk_is_told_how_to_have_it(tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    for file, text in package("sdk", module=True).items():
        (modules / "@aws-sdk/client-any" / file).parent.mkdir(parents=True, exist_ok=True)
        (modules / "@aws-sdk/client-any" / file).write_text(text)
    source = {"app.mjs": IMPORTS.replace("'pkg'", "'@aws-sdk/client-any'")}
    with running(tmp_path / "without") as server:
        function = create(server, "without", source)
        assert server.invoke(function)[0]["errorType"] == "Error"
        assert "TIDEMILL_FUNCTIONS_NODE_MODULES" in server.log(function)
    with running(tmp_path / "with", {"TIDEMILL_FUNCTIONS_NODE_MODULES": str(modules)}) as server:
        assert server.invoke(create(server, "with", source))[0] == "sdk"
