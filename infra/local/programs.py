"""Owns the command line and environment of each program under `up`. Pure; called by the launcher.

Programs behind the gateway take any free port and keep it when they are started again. They find each other
by AWS's own standard variables, as they would find the real services.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from infra.local.settings import UpSettings

Program = Literal["broker", "poller", "functions", "aws", "gateway"]
Facts = Mapping[str, Any]
# Delivery trees that `tidemill mapping watch` and the demo can show.
_TRACE_BUFFER_DELIVERIES = 256
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start one program; ``inherited_fd`` is a socket that it takes over."""

    arguments: Sequence[str]
    environ: Mapping[str, str]
    inherited_fd: int | None = None


class Programs:
    """The commands of one `up`. ``ready`` grows with what each program wrote into its ready file."""

    def __init__(self, settings: UpSettings, gateway_url: str, gateway_fd: int) -> None:
        self._settings = settings
        self._gateway_url = gateway_url
        self._gateway_fd = gateway_fd
        self._environ = _base_environ(settings)
        self.ready: dict[Program, Facts] = {}

    def ready_file(self, program: Program) -> Path:
        """Where a program says that it answers, and on which ports."""
        return self._settings.data_dir / "run" / f"{program}.json"

    def command(self, program: Program) -> Command:
        """The command for the next start; a program that was ready before keeps its ports."""
        match program:
            case "aws":
                return self._aws()
            case "broker":
                return self._broker()
            case "functions":
                return self._serving("functions", {"AWS_ENDPOINT_URL": self._gateway_url})
            case "poller":
                return self._serving("poller", self._poller_environ())
            case "gateway":
                return self._gateway()

    def url(self, program: Program, port: str = "port") -> str:
        """The base URL of a program that is ready."""
        if program == "aws" and self._settings.aws_endpoint_url:
            return self._settings.aws_endpoint_url
        return f"http://{_HOST}:{self.ready[program][port]}"

    def _aws(self) -> Command:
        arguments = ["--port", self._port("aws"), "--account-id", self._settings.account_id]
        return self._command("aws", arguments)

    def _broker(self) -> Command:
        port = self.ready.get("broker", {}).get("port", self._settings.kafka_port)
        control_port = self._port("broker", "control_port")
        arguments = ["--host", _HOST, "--port", str(port), "--control-port", control_port]
        return self._command("broker", [*arguments, "--data-dir", str(self._settings.data_dir / "broker")])

    def _serving(self, program: Program, environ: Mapping[str, str]) -> Command:
        arguments = ["--host", _HOST, "--port", self._port(program)]
        arguments += ["--data-dir", str(self._settings.data_dir / program)]
        return self._command(program, arguments, environ)

    def _poller_environ(self) -> Mapping[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url("aws"),
            "AWS_ENDPOINT_URL_LAMBDA": self.url("functions"),
            "AWS_ENDPOINT_URL_KAFKA": self.url("broker", "control_port"),
            "TIDEMILL_POLLER_TRACE_BUFFER_DELIVERIES": self._environ.get(
                "TIDEMILL_POLLER_TRACE_BUFFER_DELIVERIES", str(_TRACE_BUFFER_DELIVERIES)
            ),
        }

    def _gateway(self) -> Command:
        arguments = ["--socket-fd", str(self._gateway_fd)]
        arguments += ["--functions", self.url("functions"), "--poller", self.url("poller")]
        arguments += ["--broker", self.url("broker", "control_port"), "--aws", self.url("aws")]
        return self._command("gateway", arguments, inherited_fd=self._gateway_fd)

    def _port(self, program: Program, name: str = "port") -> str:
        return str(self.ready.get(program, {}).get(name, 0))

    def _command(
        self,
        program: Program,
        arguments: Sequence[str],
        environ: Mapping[str, str] | None = None,
        inherited_fd: int | None = None,
    ) -> Command:
        return Command(
            arguments=[program, *arguments, "--ready-file", str(self.ready_file(program))],
            environ={**self._environ, **(environ or {})},
            inherited_fd=inherited_fd,
        )


def _base_environ(settings: UpSettings) -> dict[str, str]:
    """The user's environment with a region, an account and, where the user has none, made-up credentials."""
    environ = dict(settings.environ) | reach_loopback_directly(settings.environ)
    environ |= {
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "TIDEMILL_ACCOUNT_ID": settings.account_id,
        # The log's order is the order of events.
        "PYTHONUNBUFFERED": "1",
    }
    # It would make every SDK ignore the endpoints that hold `up` together.
    environ.pop("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", None)
    if not has_credentials(environ):
        environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return environ


def reach_loopback_directly(environ: Mapping[str, str]) -> dict[str, str]:
    """What keeps the user's proxy out of what programs on this machine say to each other."""
    if not any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in environ):
        return {}
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if given.strip() == "*":
        return {}
    named = [host for host in given.split(",") if host.strip()]
    direct = ",".join(dict.fromkeys([*named, _HOST, "localhost"]))
    return {"no_proxy": direct, "NO_PROXY": direct}


def has_credentials(environ: Mapping[str, str]) -> bool:
    """Whether AWS's SDKs would find credentials of the user's without asking the network."""
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_PROFILE"):
        return True
    credentials = environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials"
    return Path(credentials).expanduser().is_file()
