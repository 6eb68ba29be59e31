"""Owns the settings of `tidemill up`: read once from the command line and the environment, then frozen."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal, get_args

from tidemill_broker.auth.iam.identity_file import FILE_NAME
from tidemill_broker.auth.tls.contexts import CA_FILE
from tidemill_broker.listeners import PORTS, ListenerName
from tidemill_local.auth import Auth, listeners

# What a data directory holds, by the programs that write there.
KEPT: Final = ("aws", "broker", "functions", "poller", "run", "tls", "clients", "auth.json")
AwsEngine = Literal["ministack", "moto"]

# The first is the default: docs/decisions/0804.
AWS_ENGINES: Final[tuple[AwsEngine, ...]] = get_args(AwsEngine)
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4580
DEFAULT_DATA_DIR = Path(".tidemill")
DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT_ID = "123456789012"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """One `tidemill up`. ``environ`` is the environment that its programs inherit.

    ``listeners`` are those of the broker that ``auth`` opens, each with its port (0: any free one).
    """

    data_dir: Path
    host: str
    port: int
    auth: frozenset[Auth]
    listeners: Mapping[ListenerName, int]
    aws_endpoint_url: str | None
    aws_engine: AwsEngine
    ready_file: Path | None
    region: str
    account_id: str
    environ: Mapping[str, str]

    @property
    def exposed(self) -> bool:
        """Whether other machines reach the endpoint and Kafka."""
        return not IPv4Address(self.host).is_loopback

    @property
    def secured(self) -> bool:
        """Whether there are certificates, secrets and client configurations to make."""
        return self.auth != {"none"}

    @property
    def tls_dir(self) -> Path:
        """The private CA, and what it issued."""
        return self.data_dir / "tls"

    @property
    def ca_file(self) -> Path:
        """The CA's certificate, which clients trust."""
        return self.tls_dir / CA_FILE

    @property
    def clients_dir(self) -> Path:
        """Client configurations, ready to use."""
        return self.data_dir / "clients"

    @property
    def embedded_engine(self) -> AwsEngine:
        """The engine that is started: the keys that IAM issues are exported from moto's models only."""
        return "moto" if "iam" in self.auth else self.aws_engine

    @property
    def aws_dir(self) -> Path:
        """What the embedded AWS keeps."""
        return self.data_dir / "aws"

    @property
    def auth_file(self) -> Path:
        """The secrets that are kept between starts."""
        return self.data_dir / "auth.json"

    @property
    def identity_file(self) -> Path:
        """Access keys that the user looks after, by `tidemill broker identity`."""
        return self.data_dir / "broker" / FILE_NAME

    @property
    def issued_file(self) -> Path:
        """The credentials that the embedded AWS issued."""
        return self.data_dir / "broker" / "identities-aws.json"


def running_file(data_dir: Path) -> Path:
    """Where a running `up` says how it is reached."""
    return data_dir / "run" / "up.json"


def read_settings(  # noqa: PLR0913 - one for each flag
    *,
    data_dir: Path = DEFAULT_DATA_DIR,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    auth: frozenset[Auth] = frozenset({"none"}),
    ports: Mapping[ListenerName, int] = PORTS,
    aws_endpoint_url: str | None = None,
    aws_engine: AwsEngine = AWS_ENGINES[0],
    ready_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> UpSettings:
    """Settings with region and account from AWS's and Tidemill's variables."""
    return UpSettings(
        data_dir=data_dir.absolute(),
        host=host,
        port=port,
        auth=auth,
        listeners={name: ports[name] for name in listeners(auth)},
        aws_endpoint_url=aws_endpoint_url.rstrip("/") if aws_endpoint_url else None,
        aws_engine=aws_engine,
        ready_file=ready_file,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        account_id=environ.get("TIDEMILL_ACCOUNT_ID") or DEFAULT_ACCOUNT_ID,
        environ=dict(environ),
    )


def check_host(host: str, *, expose: bool) -> str:
    """Return the address to listen on; one that other machines reach needs ``expose``.

    The endpoint verifies no signature and runs the code it is given. Raises ValueError if the host is no
    address of one interface, or is not loopback without ``expose``.
    """
    try:
        address = IPv4Address(DEFAULT_HOST if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"takes an IPv4 address of this machine, not {host!r}.") from None
    if address.is_unspecified:
        raise ValueError(
            f"takes the address of one interface, not {host}: Kafka's clients are told it, and connect to it."
        )
    if not address.is_loopback and not expose:
        raise ValueError(
            f"{host} would let everybody who reaches it run code as you: nothing here verifies who calls. "
            "Add --expose if that is wanted."
        )
    return str(address)
