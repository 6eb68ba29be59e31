"""Owns the command line and environment of each program under `up`. Pure; called by the launcher.

Programs behind the gateway take any free port and keep it when they are started again. They find each other
by AWS's own standard variables, as they would find the real services.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tidemill_broker.listeners import ListenerName
from tidemill_local.auth import broker_settings
from tidemill_local.secured.kept_secrets import ADMINISTRATOR_KEY_ID, ADMINISTRATOR_SECRET
from tidemill_local.settings import UpSettings

Program = Literal["broker", "poller", "functions", "aws", "gateway"]
Facts = Mapping[str, Any]
# Delivery trees that `tidemill mapping watch` and the demo can show.
_TRACE_BUFFER_DELIVERIES = 256
# A rotated secret is used soon: requests to this Secrets Manager are free.
_SECRET_REFRESH_S = 2
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
        self.environ: Mapping[str, str] = _base_environ(settings)
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

    def listeners(self) -> Mapping[ListenerName, int]:
        """The broker's listeners and their ports: those requested, until it has taken some."""
        facts = self.ready.get("broker")
        if facts is None:
            return self._settings.listeners
        ports: Mapping[ListenerName, int] = facts.get("listeners") or {"plaintext": facts["port"]}
        return {name: ports[name] for name in self._settings.listeners}

    def url(self, program: Program, port: str = "port") -> str:
        """The base URL of a program that is ready."""
        if program == "aws" and self._settings.aws_endpoint_url:
            return self._settings.aws_endpoint_url
        # Only Kafka and its MSK API are where others reach them; the gateway is in front of all else.
        host = self._settings.host if program == "broker" else _HOST
        return f"http://{host}:{self.ready[program][port]}"

    def _aws(self) -> Command:
        settings = self._settings
        arguments = ["--port", self._port("aws"), "--account-id", settings.account_id]
        arguments += ["--endpoint-url", self._gateway_url]
        arguments += ["--engine", settings.embedded_engine, "--state-dir", str(settings.aws_dir)]
        if "iam" in settings.auth:
            arguments += ["--auth-file", str(settings.auth_file)]
            arguments += ["--identity-file", str(settings.issued_file)]
        return self._command("aws", arguments)

    def _broker(self) -> Command:
        settings = self._settings
        arguments = ["--host", settings.host, "--control-port", self._port("broker", "control_port")]
        arguments += ["--data-dir", str(settings.data_dir / "broker")]
        ports = self.listeners()
        if not settings.secured:
            return self._command("broker", [*arguments, "--port", str(ports["plaintext"])])
        for name in settings.listeners:
            arguments += ["--listener", f"{name}={ports[name]}"]
        arguments += ["--tls-dir", str(settings.tls_dir)]
        files = f"{settings.identity_file},{settings.issued_file}"
        for setting, value in broker_settings(settings.auth, files).items():
            arguments += ["--set", f"{setting}={value}"]
        return self._command("broker", arguments, {"AWS_ENDPOINT_URL": self.url("aws")})

    def _serving(self, program: Program, environ: Mapping[str, str]) -> Command:
        arguments = ["--host", _HOST, "--port", self._port(program)]
        arguments += ["--data-dir", str(self._settings.data_dir / program)]
        return self._command(program, arguments, environ)

    def _poller_environ(self) -> Mapping[str, str]:
        found = {
            "AWS_ENDPOINT_URL": self.url("aws"),
            "AWS_ENDPOINT_URL_LAMBDA": self.url("functions"),
            "AWS_ENDPOINT_URL_KAFKA": self.url("broker", "control_port"),
        }
        usual = {"TIDEMILL_POLLER_TRACE_BUFFER_DELIVERIES": str(_TRACE_BUFFER_DELIVERIES)}
        if self._settings.secured:
            usual |= {
                "TIDEMILL_POLLER_CA_FILE": str(self._settings.ca_file),
                "TIDEMILL_POLLER_SECRET_REFRESH_S": str(_SECRET_REFRESH_S),
            }
        return found | {name: self.environ.get(name, value) for name, value in usual.items()}

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
            environ={**self.environ, **(environ or {})},
            inherited_fd=inherited_fd,
        )


def _base_environ(settings: UpSettings) -> dict[str, str]:
    """The user's environment with a region, an account and, where the user has none, made-up credentials."""
    environ = dict(settings.environ) | reach_loopback_directly(settings.environ, settings.host)
    environ |= {
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "TIDEMILL_ACCOUNT_ID": settings.account_id,
        # The log's order is the order of events.
        "PYTHONUNBUFFERED": "1",
    }
    # It would make every SDK ignore the endpoints that hold `up` together.
    environ.pop("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", None)
    if "iam" in settings.auth:
        # The broker verifies what the programs sign, and knows these; the user's own mean nothing to it.
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
            environ.pop(name, None)
    if "iam" in settings.auth or not has_credentials(environ):
        environ |= {
            "AWS_ACCESS_KEY_ID": ADMINISTRATOR_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": ADMINISTRATOR_SECRET,
        }
    return environ


def client_environ(settings: UpSettings, endpoint_url: str) -> dict[str, str]:
    """The variables by which SDKs and tools reach an `up`; the user's own keys stay where they are needed."""
    environ = {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_REGION": settings.region,
        "TIDEMILL_ACCOUNT_ID": settings.account_id,
    }
    if settings.aws_endpoint_url is None or not has_credentials(settings.environ):
        environ |= {
            "AWS_ACCESS_KEY_ID": ADMINISTRATOR_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": ADMINISTRATOR_SECRET,
        }
    return environ


def reach_loopback_directly(environ: Mapping[str, str], host: str = _HOST) -> dict[str, str]:
    """What keeps the user's proxy out of what programs on this machine say to each other."""
    if not any(name.lower() in {"http_proxy", "https_proxy", "all_proxy"} for name in environ):
        return {}
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if given.strip() == "*":
        return {}
    named = [host for host in given.split(",") if host.strip()]
    direct = ",".join(dict.fromkeys([*named, _HOST, "localhost", host]))
    return {"no_proxy": direct, "NO_PROXY": direct}


def has_credentials(environ: Mapping[str, str]) -> bool:
    """Whether AWS's SDKs would find credentials of the user's without asking the network."""
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_PROFILE"):
        return True
    credentials = environ.get("AWS_SHARED_CREDENTIALS_FILE") or Path.home() / ".aws" / "credentials"
    return Path(credentials).expanduser().is_file()
