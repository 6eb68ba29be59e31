"""boto3 clients, and how AWS's errors are described. Calls block: make them in threads.

Owns the poller's one client factory, with its time limits and botocore's own second attempt (none for what
must not be sent twice), and the one describer of AWS's errors. Knows no service by name. `invoke` signs its
own requests and does not come here.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tidemill_poller.arn import parse_arn

# At DEBUG it logs requests with their tokens, and replies with their secrets.
logging.getLogger("botocore").setLevel(logging.INFO)

# Two attempts of connect and read, and botocore's pause between them, stay under 20 seconds.
_CONFIG: Final = Config(
    connect_timeout=3, read_timeout=6, retries={"total_max_attempts": 2, "mode": "standard"}
)
# A request that was sent and not answered may have been carried out: it is the caller who sends it again.
_SEND_CONFIG: Final = Config(
    connect_timeout=3, read_timeout=20, retries={"total_max_attempts": 1, "mode": "standard"}
)
_SERVER_ERROR_MIN: Final = 500
_THROTTLED: Final = frozenset({"SlowDown", "TooManyRequests", "TooManyRequestsException"})


class AwsClients:
    """One client for each service and region, made at first use; clients may be shared between threads."""

    def __init__(self, session: boto3.Session) -> None:
        self.session = session
        self._made: dict[tuple[str, str | None, bool], Any] = {}
        self._making = threading.Lock()  # sessions may not be shared while they make a client

    def get(self, service: str, region: str | None, *, once: bool = False) -> Any:
        """Return the client; a call takes about 20 seconds at most. Raises BotoCoreError or ValueError.

        With `once` botocore makes one attempt at each call, which has all the time for its answer.
        """
        key = service, region, once
        with self._making:
            if key not in self._made:
                config = _SEND_CONFIG if once else _CONFIG
                made = self.session.client(service, region_name=region, config=config)
                if self.session.get_credentials() is None:
                    return made  # it would never have any; there may be some the next time
                self._made[key] = made
            return self._made[key]


def region_of(text: str) -> str | None:
    """Return the region in an ARN; None for anything else, which means the session's own."""
    arn = parse_arn(text)
    return arn.region or None if arn else None


def is_temporary(error: ClientError) -> bool:
    """Return whether AWS failed or throttled the call, so that the same call may succeed later."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(error.response.get("Error", {}).get("Code", ""))
    return status >= _SERVER_ERROR_MIN or code in _THROTTLED or "Throttl" in code


def describe(error: Exception) -> str:
    """Return AWS's error code and message, or why AWS could not be reached."""
    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        return f"{answer.get('Code', 'unknown error')}: {answer.get('Message', '')}"
    return str(error)
