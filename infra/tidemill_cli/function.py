"""`tidemill function …`: functions over Lambda's own API, and code that runs in place over ours."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tidemill_cli.access import source_access
from tidemill_cli.cause import error_sentence
from tidemill_cli.clients import Endpoint
from tidemill_cli.errors import UserError
from tidemill_cli.lookup import function_named
from tidemill_cli.options import BootstrapServers, EndpointUrl, Json, command_group, endpoint, pairs
from tidemill_cli.output import print_facts, print_json, print_table, say, visible, without_metadata

app = command_group("Functions: register code, invoke it, read its log.")

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Function name or ARN, or topic or start of the UUID of its mapping"),
]


@app.command()
def register(
    name: Annotated[str, typer.Argument(metavar="NAME | MODULE.py", help="A name, or a decorated module")],
    code: Annotated[
        str | None, typer.Argument(metavar="MODULE.py:HANDLER", help="The file and the function in it")
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds that an invocation may take (1-900)")] = 3,
    memory: Annotated[int, typer.Option(help="Megabytes (128-10240)")] = 128,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the handler; repeatable")] = None,
    python: Annotated[
        Path | None, typer.Option(help="Interpreter; else that of the project's .venv, then of VIRTUAL_ENV")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay, and print each edit that is picked up")
    ] = False,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Register a handler that runs in place, in its project's venv.

    The next invocation picks up edits of its code. A module alone is read for handlers decorated with
    @function (`from tidemill import function, KafkaTrigger`): name, timeout, memory, environment and Kafka
    triggers come from there.

    For example:

        tidemill function register delays functions/samples/tidemill_samples/delays.py:handler --timeout 30

        tidemill function register orders app/orders.py:handle --env TABLE=orders

        tidemill function register app/orders.py --watch
    """
    there = endpoint(endpoint_url)
    if code is None:
        registered = _register_module(there, Path(name), _interpreter(python))
    else:
        registration = _registration(name, code) | {
            "timeout_s": timeout,
            "memory_mb": memory,
            "environment": pairs(env or [], "--env"),
            **_interpreter(python),
        }
        registered = [there.own("POST", "/_tidemill/functions", registration)]
        say(f"{name} runs {code}. Try it: tidemill function invoke {name}")
    if as_json:
        print_json(registered[0] if code else registered)
    if watch:
        from tidemill_cli.edits import watch_edits

        def again() -> None:
            if code is None:
                _register_module(there, Path(name), _interpreter(python))

        folder = Path(code.rpartition(":")[0] if code else name).resolve().parent
        watch_edits(there, [each["FunctionName"] for each in registered], folder, again)


@app.command("list")
def list_(endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """List functions.

    For example:

        tidemill function list --json
    """
    pages = endpoint(endpoint_url).aws("lambda").get_paginator("list_functions").paginate()
    functions = [function for page in pages for function in page["Functions"]]
    if as_json:
        print_json(functions)
        return
    print_table(
        ("name", "handler", "timeout", "memory", "modified"),
        [
            (
                f["FunctionName"],
                f.get("Handler"),
                f"{f['Timeout']} s",
                f"{f['MemorySize']} MB",
                f["LastModified"],
            )
            for f in functions
        ],
        empty="No functions. Register one: tidemill function register NAME path/to/module.py:handler",
    )


@app.command()
def get(name: Name, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Show one function.

    For example:

        tidemill function get delays
    """
    there = endpoint(endpoint_url)
    reply = there.aws("lambda").get_function_configuration(FunctionName=function_named(there, name))
    if as_json:
        print_json(without_metadata(reply))
    else:
        print_facts(without_metadata(reply).items())


@app.command()
def invoke(
    name: Name,
    payload: Annotated[str, typer.Option(help="JSON, @FILE, or - for standard input")] = "{}",
    from_topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Send the event that a mapping of it would")
    ] = None,
    partition: Annotated[int, typer.Option(help="Of --from-topic", min=0)] = 0,
    offset: Annotated[int, typer.Option(help="The first record's", min=0)] = 0,
    count: Annotated[int, typer.Option(help="Number of records", min=1)] = 1,
    bootstrap_servers: BootstrapServers = None,
    event: Annotated[
        bool, typer.Option("--event", help="Asynchronously: do not wait for the result")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Show the end of the log too")] = False,
    endpoint_url: EndpointUrl = None,
    as_json: Json = False,
) -> None:
    """Invoke a function; the exit status is 1 when the handler failed.

    For example:

        tidemill function invoke delays --payload @event.json

        tidemill function invoke delays --payload '{"x": 1}' --log

        tidemill function invoke delays --from-topic flights --partition 3 --offset 17 --count 10
    """
    there = endpoint(endpoint_url)
    if from_topic and payload != "{}":
        raise UserError("Give --payload or --from-topic, not both.")
    sent = _of_topic(there, bootstrap_servers, from_topic, partition, offset, count) or _payload(payload)
    name = function_named(there, name)
    reply = there.aws("lambda").invoke(
        FunctionName=name,
        Payload=sent,
        InvocationType="Event" if event else "RequestResponse",
        **({"LogType": "Tail"} if log and not event else {}),
    )
    result = reply["Payload"].read().decode()
    if as_json:
        print_json(without_metadata(reply) | {"Payload": result})
    elif event:
        say("Accepted; its result is in the log.")
    else:
        # A pipe gets the payload as it is; a terminal would obey its control characters.
        print(visible(result) if sys.stdout.isatty() else result)
    if log and "LogResult" in reply and not as_json:
        say(_log_tail(reply))
    if reply.get("FunctionError"):
        say(f"error: {_cause(result)}")
        say(f"The whole of it: tidemill function logs {name.partition(':')[0]}")
        raise typer.Exit(1)


@app.command("event")
def event_(
    topic: Annotated[str, typer.Option(help="Its topic")],
    partition: Annotated[int, typer.Option(help="Its partition", min=0)] = 0,
    offset: Annotated[
        int | None, typer.Option(help="The first record's. Default: a made-up record", min=0)
    ] = None,
    count: Annotated[int, typer.Option(help="Number of records", min=1)] = 1,
    endpoint_url: EndpointUrl = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Print an event as a mapping sends it.

    Without --offset it is a sample; with it, the event of records of the topic.

    For example:

        tidemill function event --topic flights > event.json

        tidemill function event --topic flights --partition 3 --offset 17 --count 10
    """
    from tidemill_cli.kafka_event import sample_event

    if offset is None:
        print(sample_event(topic).decode())
    else:
        found = _of_topic(endpoint(endpoint_url), bootstrap_servers, topic, partition, offset, count)
        print(found.decode())


@app.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines", min=0)] = 100,
    wait: Annotated[
        int, typer.Option(help="Seconds to wait for the first invocation if there is no log yet", min=0)
    ] = 60,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Print the log of a function.

    If there is none yet, wait for the first invocation and print its log.

    For example:

        tidemill function logs delays --follow
    """
    there = endpoint(endpoint_url)
    # Of an ARN, the name is enough: arn:aws:lambda:REGION:ACCOUNT:function:NAME:QUALIFIER.
    name = function_named(there, name).rpartition(":function:")[2].partition(":")[0]
    route = f"/_tidemill/functions/{quote(name, safe='')}/logs?lines={lines}"
    if follow:
        if not any(there.stream(f"/_tidemill/functions/{quote(name, safe='')}/logs?lines=1")):
            say(f"{name} has no log yet: waiting for its first invocation. Ctrl-C ends this.")
        for line in there.stream(f"{route}&follow=1"):
            _print_line(line)
        return
    found = list(there.stream(route))
    if wait and len(found) < lines and not any(map(_ends_invocation, found)):
        _first_invocation(there, name, route, wait)
        return
    for line in found:
        _print_line(line)


@app.command()
def delete(name: Name, endpoint_url: EndpointUrl = None, as_json: Json = False) -> None:
    """Delete a function; code that runs in place stays where it is.

    For example:

        tidemill function delete delays
    """
    there = endpoint(endpoint_url)
    name = function_named(there, name)
    there.aws("lambda").delete_function(FunctionName=name)
    if as_json:
        print_json({"FunctionName": name})
    else:
        say(f"Function {name} is deleted.")


def _cause(result: str) -> str:
    """Return an error document in one line, the cause first."""
    try:
        return error_sentence(json.loads(result)) or result
    except ValueError:
        return result


def _print_line(line: bytes) -> None:
    print(visible(line.decode(errors="replace").rstrip("\r\n")), flush=True)


def _ends_invocation(line: bytes) -> bool:
    """Say whether this is the line that Lambda writes at the end of each invocation, in either format."""
    return line.startswith(b"REPORT RequestId:") or b'"type":"platform.report"' in line


def _first_invocation(there: Endpoint, name: str, route: str, wait_s: int) -> None:
    """Print the log of the first invocation as it comes, to its end."""
    say(f"{name} has no log of an invocation yet: waiting up to {wait_s} s for one.")
    for line in there.stream(f"{route}&follow=1", silence_s=wait_s):
        _print_line(line)
        if _ends_invocation(line):
            return
    say(f"{name} was not invoked. Is there a mapping for it? tidemill mapping list --function {name}")


def _interpreter(python: Path | None) -> dict[str, Any]:
    """Return what a registration says of the interpreter."""
    # Not resolved: a virtual environment's python is a link, and what it is called by is what it is.
    named = {"python": str(python.absolute())} if python else {}
    active = os.environ.get("VIRTUAL_ENV")
    return named | ({"virtual_env": active} if active else {})


def _registration(name: str, code: str) -> dict[str, Any]:
    file, colon, handler = code.rpartition(":")
    if not colon or not file.endswith(".py") or not handler.isidentifier():
        raise UserError(
            f"{code!r} names no handler.", hint="Write it as path/to/module.py:handler, file and function."
        )
    path = Path(file)
    if not path.is_file():
        raise UserError(f"There is no file {file}.", hint="The path is relative to where you are.")
    return {"name": name, "path": str(path.resolve()), "handler": handler}


def _register_module(there: Endpoint, path: Path, interpreter: dict[str, Any]) -> list[Any]:
    """Register every decorated handler of a module, and make the mappings it asks for."""
    from tidemill.trigger import InvalidDeclaration, collect

    if path.suffix != ".py":
        raise UserError(
            f"{path} is not a Python file.", hint="Give MODULE.py, or NAME and path/to/module.py:handler."
        )
    from tidemill_functions.runtimes.python.interpreters import project_interpreters
    from tidemill_functions.runtimes.python.packages import make_packages

    named = [Path(interpreter["python"])] if "python" in interpreter else []
    found = named or project_interpreters(path.resolve().parent, interpreter.get("virtual_env", ""))
    with tempfile.TemporaryDirectory() as folder:
        # What Lambda brings, a project need not have installed.
        make_packages(packages := Path(folder) / "packages")
        try:
            declared = collect(path, found[0] if found else None, [packages])
        except InvalidDeclaration as error:
            raise UserError(str(error)) from None
    registered = []
    for handler in declared:
        registered.append(there.own("POST", "/_tidemill/functions", handler.registration() | interpreter))
        say(f"{handler.name} runs {path}:{handler.handler}.")
        for mapping in handler.mappings:
            _create_mapping(there, handler.name, mapping)
    return registered


def _create_mapping(there: Endpoint, function: str, mapping: dict[str, Any]) -> None:
    """Make one mapping of a decorated handler; the same module registered again finds it made."""
    if not {"EventSourceArn", "SelfManagedEventSource"} & mapping.keys():
        own: dict[str, Any] = {"EventSourceArn": there.cluster_arn}
        if access := source_access(there):
            own["SourceAccessConfigurations"] = access
        mapping = own | mapping
    client = there.aws("lambda")
    topic = mapping["Topics"][0]
    try:
        made = client.create_event_source_mapping(FunctionName=function, **mapping)
    except client.exceptions.ResourceConflictException:
        say(f"  topic {topic} invokes it already; change that with tidemill mapping update.")
    else:
        say(f"  topic {topic} invokes it: mapping {made['UUID']}.")


def _of_topic(
    there: Endpoint, servers: str | None, topic: str | None, partition: int, offset: int, count: int
) -> bytes:
    """Return the event of a topic's records; nothing without a topic."""
    from tidemill_cli.kafka_event import topic_event

    if topic is None:
        return b""
    return topic_event(there, servers, topic, partition=partition, offset=offset, count=count)


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return text.encode()


def _log_tail(reply: dict[str, Any]) -> str:
    import base64

    return base64.b64decode(reply["LogResult"]).decode(errors="replace").rstrip()
