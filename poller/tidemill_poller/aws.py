"""boto3 clients for the calls that precede a connection. They block: used in threads."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# At DEBUG it tells requests with their tokens, and replies with their secrets.
logging.getLogger("botocore").setLevel(logging.INFO)

_CONFIG: Final = Config(
    connect_timeout=3, read_timeout=6, retries={"total_max_attempts": 2, "mode": "standard"}
)
_ARN_PARTS: Final = 6
_SERVER_FAULT: Final = 500


class AwsClients:
    """One client for each service and region, made at first use; clients may be shared between threads."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session
        self._made: dict[tuple[str, str | None], Any] = {}
        self._making = threading.Lock()  # sessions may not be shared while they make a client

    def get(self, service: str, region: str | None) -> Any:
        """Give the client; a call takes 20 seconds at most. Raises BotoCoreError or ValueError."""
        with self._making:
            if (service, region) not in self._made:
                made = self.session.client(service, region_name=region, config=_CONFIG)
                if self.session.get_credentials() is None:
                    return made  # it would have none for ever; there may be some the next time
                self._made[service, region] = made
            return self._made[service, region]


def region_of(arn: str) -> str | None:
    """Give the region in an ARN; None for anything else, which means the session's own."""
    parts = arn.split(":", _ARN_PARTS - 1)
    return parts[3] or None if parts[0] == "arn" and len(parts) == _ARN_PARTS else None


def for_now(error: ClientError) -> bool:
    """Say whether AWS failed, or had too much to do: what was asked may be well."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_FAULT or "Throttl" in error.response.get("Error", {}).get("Code", "")


def sentence(error: Exception) -> str:
    """Tell what AWS answered, or why it could not be asked."""
    if isinstance(error, ClientError):
        fault = error.response.get("Error", {})
        return f"{fault.get('Code', 'unknown error')}: {fault.get('Message', '')}"
    return str(error)
