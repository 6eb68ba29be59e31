"""The function runtime's settings: read once, from TIDEMILL_FUNCTIONS_* and the command line, then frozen.

Also picks what of the server's own environment is handed on to handlers: AWS's endpoint, credential and
path variables, and nothing else. `__main__` calls `read_settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_functions.errors import InvalidSettings

_PREFIX: Final = "TIDEMILL_FUNCTIONS_"
_MIB: Final = 1024 * 1024
# AWS's own standard variables that a handler's SDK needs to find the same AWS as the server does.
_HANDED_ON: Final = ("PATH", "AWS_CA_BUNDLE", "SSL_CERT_FILE")
_HANDED_ON_PREFIX: Final = "AWS_ENDPOINT_URL"
_CREDENTIALS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Settings(BaseSettings):
    """Every knob of the runtime; its variable is its name in capitals after TIDEMILL_FUNCTIONS_."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, populate_by_name=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=4582, ge=0, le=65535)
    data_dir: Path = Path(".tidemill/functions")
    region: str = Field(
        default="us-east-1",
        min_length=1,
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="The region of every function, and AWS_REGION for handlers",
    )
    account_id: str = Field(
        default="123456789012",
        pattern=r"^\d{12}$",
        validation_alias="TIDEMILL_ACCOUNT_ID",
        description="The account in function ARNs",
    )
    max_environments: int = Field(
        default=100,
        ge=1,
        description="Handler processes and invocations at once, over all functions; above it, throttles",
    )
    max_cold_starts: int = Field(
        default=max(2, os.cpu_count() or 1),
        ge=1,
        description="Handler processes that may be starting at once; invocations wait for them",
    )
    first_uid: int = Field(
        default=2_000_000_000,
        ge=0,
        le=2_130_000_000,
        description="Where the server is root, handlers of zips run as users of their own with numbers from"
        " this one on; 0 for the server's user",
    )
    freeze: bool = Field(
        default=True, description="Stop handler processes between invocations, as Lambda does"
    )
    idle_s: float = Field(
        default=300.0, gt=0, description="A handler process without work is ended after this"
    )
    init_timeout_s: float = Field(
        default=10.0, gt=0, description="Time to import a handler; then it is begun again, within its timeout"
    )
    drain_timeout_s: float = Field(
        default=10.0, ge=0, description="How long a stopping server waits for running invocations"
    )
    event_queue_length: int = Field(
        default=1_000, ge=1, description="Event invocations that wait or run; above it, throttles"
    )
    event_concurrency: int = Field(default=10, ge=1, description="Event invocations that run at once")
    event_retry_delays_s: tuple[float, ...] = Field(
        default=(60.0, 120.0), description="Waits before the retries of a failed Event invocation (AWS's)"
    )
    pythons: tuple[Path, ...] = Field(
        default=(),
        description="Python interpreters to use first, as a JSON list; then ours, PATH's, pyenv's, uv's",
    )
    node: Path | None = Field(default=None, description="The node program; else that of PATH")
    node_modules: Path | None = Field(
        default=None,
        description="A folder node_modules in place of the runtime's own, which holds the AWS SDK on Lambda",
    )
    java: Path | None = Field(
        default=None,
        description="A java program to use first; then those of JAVA_HOME, PATH and /usr/lib/jvm",
    )
    java_client: Path | None = Field(
        default=None,
        description="A folder with AWS's Java runtime client and what it requires; else Maven brings them",
    )
    nearest_python: bool = Field(
        default=False, description="Run a function under the nearest Python where its own is missing"
    )
    cloudwatch_logs: bool | None = Field(
        default=None,
        description="Send logs to CloudWatch Logs; by default where AWS_ENDPOINT_URL(_LOGS) names an AWS",
    )
    cloudwatch_metrics: str = Field(
        default="",
        description="Namespace in CloudWatch for the functions' metrics, such as AWS/Lambda; empty for none",
    )
    log_file_bytes: int = Field(
        default=5 * _MIB,
        ge=4096,
        description="Size at which a function's log is rolled; one older file stays",
    )


def read_settings(given: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Return the settings from the environment, with the command line's on top (None means not given).

    Raises InvalidSettings with every faulty setting, how to spell it, and what is wrong with it.
    """
    faults = _unknown_variables(environ)
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults += [_sentence(fault) for fault in error.errors()]
    if faults:
        raise InvalidSettings("\n".join(faults))
    return settings


def sends_logs(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Return whether logs go to CloudWatch Logs; to an AWS that costs money only if it is asked for."""
    if settings.cloudwatch_logs is not None:
        return settings.cloudwatch_logs
    return any(environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LOGS"))


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return one sentence for each misspelt setting: ignored, it would look as if it were set."""
    fields = Settings.model_fields.items()
    known = [name.upper() for name, field in fields if field.validation_alias is None]
    faults = []
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX)
        if name != variable and name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {_PREFIX}{near[0]}?" if near else ""
            faults.append(f"{variable}: no such setting{hint}")
    return faults


def _sentence(fault: Any) -> str:
    """Return the fault without the value given: nobody knows what was pasted into it."""
    name = str(fault["loc"][0])
    spelled = name if name.isupper() else f"{_PREFIX}{name.upper()}"
    return f"{spelled}: {fault['msg']}"


def handed_on(environ: Mapping[str, str], region: str) -> dict[str, str]:
    """Return the variables of the server's environment that every handler gets: the least an SDK needs.

    Without credentials of its own the server hands on `test`/`test`, which every local AWS takes; it never
    lets a handler fall through to the profile of the user who runs it.
    """
    found = {
        name: value
        for name, value in environ.items()
        if name in _HANDED_ON or name.startswith(_HANDED_ON_PREFIX)
    }
    credentials = {name: environ[name] for name in _CREDENTIALS if environ.get(name)}
    if "AWS_ACCESS_KEY_ID" not in credentials or "AWS_SECRET_ACCESS_KEY" not in credentials:
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    # Lambda's own: UTC, UTF-8, no files of a user. Without these two an SDK would read ~/.aws.
    return {
        **found,
        **credentials,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "LANG": "C.UTF-8",
        "TZ": ":UTC",
    }
