"""What is Node.js's own: the forms of handlers, of modules, and of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.harness.contract.cases import require, zipped
from tests.harness.functions_server import ROLE, FunctionsServer

Name = Callable[[], str]


def create(server: FunctionsServer, name: str, files: Mapping[str, str], **members: Any) -> str:
    require("node")
    given = {"Timeout": 20, "Handler": "app.handler", "Code": {"ZipFile": zipped(files)}} | members
    server.client.create_function(FunctionName=name, Runtime="nodejs20.x", Role=ROLE, **given)
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
        ("async () => ({ n: 1n })", "Runtime.MarshalError"),
        ("(e, c, done) => done(new RangeError('called back'))", "RangeError"),
        ("async () => { throw 'a string'; }", "string"),
    ],
)
def test_a_node_error_has_its_type(server: FunctionsServer, name: Name, source: str, error_type: str) -> None:
    function = create(server, name(), {"app.js": f"exports.handler = {source};"})
    result, reply = server.invoke(function)
    assert (result["errorType"], reply["FunctionError"]) == (error_type, "Unhandled")
