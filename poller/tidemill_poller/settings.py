"""The poller's settings: read once, from TIDEMILL_POLLER_* and the command line, into a frozen object.

Nothing else in the poller reads the environment for Tidemill's own settings; AWS's standard variables
(endpoints, profile, credentials) are botocore's business. `__main__` calls `read_settings`.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AliasChoices, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_poller.errors import InvalidSettings

_PREFIX: Final = "TIDEMILL_POLLER_"
_MIB: Final = 1024 * 1024


class Settings(BaseSettings):
    """Every knob of the poller; the environment variable is the name in capitals after TIDEMILL_POLLER_."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, populate_by_name=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=4581, ge=0, le=65535)
    data_dir: Path = Path(".tidemill/poller")
    region: str = Field(
        default="us-east-1",
        min_length=1,
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="The region in ARNs of calls that carry no SigV4 scope",
    )
    account_id: str = Field(
        default="123456789012",
        pattern=r"^\d{12}$",
        validation_alias="TIDEMILL_ACCOUNT_ID",
        description="The account in ARNs",
    )

    retry_backoff_base_s: float = Field(
        default=1.0,
        ge=0,
        description="Delay before the first retry; each further one doubles it (AWS's is undocumented)",
    )
    retry_backoff_max_s: float = Field(default=60.0, ge=0, description="No retry waits longer than this")
    function_check_s: float = Field(
        default=2.0,
        ge=0,
        description="How often a function that partitions wait to retry is checked for an update, by one"
        " GetFunctionConfiguration; an update is retried at once; 0: never. Against AWS: 30",
    )
    isolation_level: Literal["read_uncommitted", "read_committed"] = Field(
        default="read_uncommitted",
        description="AWS documents none; this is the Java client's default",
    )
    destination_failure: Literal["hold", "drop"] = Field(
        default="hold",
        description="A failure record that is not accepted: hold the partition, or drop it as AWS does",
    )

    ca_file: Path | None = Field(
        default=None,
        description="CA certificates in PEM that Kafka's certificates may be of, beside the system's CAs",
    )
    secret_refresh_s: float = Field(
        default=60.0,
        gt=0,
        description="How often secrets are looked at for a new version, to connect anew with it",
    )

    fetch_budget_bytes: int = Field(
        default=256 * _MIB, ge=_MIB, description="Fetched and not yet settled, over all mappings"
    )
    partition_buffer_bytes: int = Field(
        default=16 * _MIB, ge=1, description="A partition above this pauses its fetch"
    )
    commit_interval_ms: int = Field(
        default=200, ge=0, description="Offsets settled meanwhile go in one commit"
    )
    drain_timeout_s: float = Field(
        default=30.0, ge=0, description="How long a stop waits for invocations in flight"
    )
    trace_buffer_deliveries: int = Field(
        default=0, ge=0, description="Delivery trees kept in memory for the console; 0 keeps none"
    )

    filter_operators: Literal["lambda", "eventbridge"] = Field(
        default="lambda",
        description="lambda: the operators in Lambda's own table; eventbridge: all of EventBridge's",
    )
    filters_max: int = Field(
        default=5, ge=1, le=10, description="AWS's quota; it can be raised to 10 there too"
    )
    parity_require_source_access: bool = Field(
        default=True, description="Self-managed Kafka needs SourceAccessConfigurations, as on AWS"
    )
    parity_require_provisioned: bool = Field(
        default=True,
        description="Retry limits, bisect and partial responses need ProvisionedPollerConfig, as on AWS",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.retry_backoff_max_s < self.retry_backoff_base_s:
            raise ValueError("retry_backoff_max_s must not be below retry_backoff_base_s")
        return self


def read_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with what the command line gave on top (None means not given).

    Raises InvalidSettings, which names every invalid setting, its spelling and its fault.
    """
    faults = _unknown_variables()
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults += [_sentence(fault) for fault in error.errors()]
    if faults:
        raise InvalidSettings("\n".join(faults))
    return settings


def _unknown_variables() -> list[str]:
    """A misspelt setting is a fault too: ignored, it would look as if it were set."""
    fields = Settings.model_fields.items()
    known = [name.upper() for name, field in fields if field.validation_alias is None]
    faults = []
    for variable in sorted(os.environ):
        name = variable.removeprefix(_PREFIX)
        if name != variable and name not in known:
            near = get_close_matches(name, known, n=1)
            faults.append(
                f"{variable}: no such setting" + (f"; did you mean {_PREFIX}{near[0]}?" if near else "")
            )
    return faults


def _sentence(fault: Any) -> str:
    """The fault without the value given: a secret may have been pasted into it."""
    if not fault["loc"]:
        return f"poller settings: {fault['msg']}"
    name = str(fault["loc"][0])
    spelled = name if name.isupper() else f"{_PREFIX}{name.upper()}"
    return f"{spelled}: {fault['msg']}"
