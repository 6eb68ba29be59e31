"""Commands that run programs: up, demo, and each program by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill_broker.listeners import PORTS
from tidemill_cli.errors import UserError
from tidemill_cli.output import visible
from tidemill_local.auth import PORT_FLAGS, Auth, check_ports, parse_auth
from tidemill_local.settings import (
    AWS_ENGINES,
    DEFAULT_DATA_DIR,
    DEFAULT_HOST,
    DEFAULT_PORT,
    AwsEngine,
    UpSettings,
    check_host,
)

_PROGRAM_HELP = {
    "broker": "The Kafka broker by itself: tidemill broker --port 9092 --set num.partitions=6",
    "poller": "The poller by itself; finds functions and destinations as every AWS client does",
    "functions": "The function runtime by itself",
}
_PORT_MAX = 65535


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(short_help="Start everything on one endpoint; Ctrl-C drains")(up)
    app.command(short_help="Run the main job on real data and prove the result")(demo)
    for name, text in _PROGRAM_HELP.items():
        short = f"The {name} alone: tidemill {name} --help"
        app.command(name, help=text, short_help=short, add_help_option=False)(_forwarded)


def _port(text: str) -> Any:
    return typer.Option(help=f"{text}; 0 takes any free one", min=0, max=_PORT_MAX)


DataDir = Annotated[Path, typer.Option(help="Where everything is kept")]
Host = Annotated[str, typer.Option(help="The address of the one endpoint and of Kafka; see --expose")]
Expose = Annotated[
    bool, typer.Option("--expose", help="Let --host be one that other machines reach: they can run code")
]
Ways = Annotated[
    str,
    typer.Option(
        help="Ways to log in to Kafka: none, iam, scram, mtls, plain; several with commas. "
        "Without none there is no plaintext port"
    ),
]
Aws = Annotated[
    str, typer.Option(help=f"The embedded AWS: {' or '.join(AWS_ENGINES)}; moto keeps nothing over a restart")
]
AwsEndpointUrl = Annotated[str | None, typer.Option(help="Another AWS emulator instead of the embedded one")]
ReadyFile = Annotated[Path | None, typer.Option(help="Gets JSON with endpoints and pids once all answer")]


def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    host: Host = DEFAULT_HOST,
    expose: Expose = False,
    port: Annotated[int, _port("The one endpoint's port")] = DEFAULT_PORT,
    auth: Ways = "none",
    kafka_port: Annotated[int, _port("Kafka's plaintext port")] = PORTS["plaintext"],
    tls_port: Annotated[int, _port("Kafka's port for mtls")] = PORTS["tls"],
    scram_port: Annotated[int, _port("Kafka's port for scram and plain")] = PORTS["scram"],
    iam_port: Annotated[int, _port("Kafka's port for iam")] = PORTS["iam"],
    aws: Aws = AWS_ENGINES[0],
    aws_endpoint_url: AwsEndpointUrl = None,
    ready_file: ReadyFile = None,
) -> None:
    """Start broker, poller, functions, an embedded AWS and the one endpoint; Ctrl-C drains.

    For example:

        tidemill up

        tidemill up --port 0 --kafka-port 0 --ready-file ready.json

        tidemill up --auth iam,scram,mtls

        tidemill up --aws-endpoint-url http://127.0.0.1:4566

    A second `up` on the same data directory goes on where the first stopped, however that ended; `tidemill
    reset` forgets everything. With --auth, client configurations for librdkafka, Java and
    Python are written to the data directory's folder clients.
    """
    from tidemill_local.settings import read_settings

    settings = read_settings(
        data_dir=data_dir,
        host=_host(host, expose=expose),
        port=port,
        auth=_auth(auth),
        ports={"plaintext": kafka_port, "tls": tls_port, "scram": scram_port, "iam": iam_port},
        aws_engine=_aws_engine(aws),
        aws_endpoint_url=aws_endpoint_url,
        ready_file=ready_file,
    )

    _check_ports(settings)
    raise typer.Exit(_run(settings))


def demo(
    flights: Annotated[str, typer.Option(help="How many flights of 2013, or `all`")] = "20000",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end")] = False,
    aws: Aws = AWS_ENGINES[0],
) -> None:
    """Run the main job on real data with real poison, and prove that no flight was lost.

    For example:

        tidemill demo

        tidemill demo --flights all

        tidemill demo --keep
    """
    from tidemill_cli.demo.run import run_demo

    raise typer.Exit(run_demo(_flight_count(flights), keep=keep, aws=_aws_engine(aws)))


def _run(settings: UpSettings) -> int:
    """Run everything until a signal or a fault ends it, and return the exit status."""
    import uvloop

    from tidemill_cli.announcement import announcement
    from tidemill_local.console_log import ConsoleLog
    from tidemill_local.errors import UpError
    from tidemill_local.launcher import Ready, up
    from tidemill_local.secured.client_files import Client

    def announce(ready: Ready, clients: Sequence[Client]) -> None:
        print("\n".join(map(visible, announcement(ready, clients, settings).split("\n"))), flush=True)

    try:
        return uvloop.run(up(settings, ConsoleLog(), announce))
    except UpError as error:
        raise UserError(str(error)) from None


def _host(text: str, *, expose: bool) -> str:
    try:
        return check_host(text, expose=expose)
    except ValueError as error:
        raise UserError(f"--host {error}") from None


def _auth(text: str) -> frozenset[Auth]:
    try:
        return parse_auth(text)
    except ValueError as error:
        raise UserError(f"--auth {error}") from None


def _aws_engine(text: str) -> AwsEngine:
    for engine in AWS_ENGINES:
        if text == engine:
            return engine
    raise UserError(f"--aws takes {' or '.join(AWS_ENGINES)}, not {text!r}.")


def _check_ports(settings: UpSettings) -> None:
    asked = {PORT_FLAGS[name]: port for name, port in settings.listeners.items()}
    try:
        check_ports({"--port": settings.port, **asked})
    except ValueError as error:
        raise UserError(str(error)) from None


def _flight_count(text: str) -> int | None:
    """A number of flights; None for all."""
    if text == "all":
        return None
    if not text.isdigit() or int(text) == 0:
        raise UserError(f"--flights takes a number above 0 or `all`, not {text!r}.")
    return int(text)


def _forwarded() -> None:
    """Never runs: main() hands these programs their arguments before Typer sees them."""
    raise AssertionError
