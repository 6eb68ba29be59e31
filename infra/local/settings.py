"""What `tidemill up` was asked for: read once from the command line and the environment, then frozen."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 4580
DEFAULT_KAFKA_PORT = 9092
DEFAULT_DATA_DIR = Path(".tidemill")
DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT_ID = "123456789012"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """One `tidemill up`. ``environ`` is the environment that its programs inherit."""

    data_dir: Path
    port: int
    kafka_port: int
    aws_endpoint_url: str | None
    ready_file: Path | None
    region: str
    account_id: str
    environ: Mapping[str, str]


def read_settings(
    *,
    data_dir: Path = DEFAULT_DATA_DIR,
    port: int = DEFAULT_PORT,
    kafka_port: int = DEFAULT_KAFKA_PORT,
    aws_endpoint_url: str | None = None,
    ready_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> UpSettings:
    """Settings with region and account from AWS's and Tidemill's variables."""
    return UpSettings(
        data_dir=data_dir.absolute(),
        port=port,
        kafka_port=kafka_port,
        aws_endpoint_url=aws_endpoint_url.rstrip("/") if aws_endpoint_url else None,
        ready_file=ready_file,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
        account_id=environ.get("TIDEMILL_ACCOUNT_ID") or DEFAULT_ACCOUNT_ID,
        environ=dict(environ),
    )
