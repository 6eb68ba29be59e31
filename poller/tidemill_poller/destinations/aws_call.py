"""Blocking boto3 calls from the event loop, bounded in number and in time.

Owns the threads, the time limits and the translation of botocore's errors into DestinationUnavailable; knows
no service by name. SQS, SNS and S3 destinations call it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from tidemill_poller.errors import DestinationUnavailable

CALLS_MAX: Final = 4
# Two attempts of connect and read, and botocore's pause between them, stay under the limit of a call.
_CONFIG: Final = Config(
    connect_timeout=3, read_timeout=6, retries={"total_max_attempts": 2, "mode": "standard"}
)
CALL_TIMEOUT_S: Final = 60
_RETRIABLE_STATUS_MIN: Final = 500
_THROTTLED: Final = frozenset(
    {"Throttling", "ThrottlingException", "RequestThrottled", "SlowDown", "TooManyRequests"}
)
_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError)


class AwsCalls:
    """Calls of one boto3 client, made at first use, CALLS_MAX at a time in threads of their own."""

    def __init__(self, session: boto3.Session, service: str, *, region: str | None, target: str) -> None:
        self._session = session
        self._service = service
        self._region = region
        self._target = target
        self._client: Any = None
        self._building = threading.Lock()
        # Its threads start with the first call and end when this object is collected.
        self._threads = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix=f"destination-{service}")

    async def run(self, call: Callable[[Any], None]) -> None:
        """Run `call(client)` in a thread; DestinationUnavailable is all it raises of AWS's faults.

        A call that is cancelled may still reach the service: its thread cannot be interrupted.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await loop.run_in_executor(self._threads, self._call, call)
        except TimeoutError as error:
            msg = f"{self._target} did not take the failure record within {CALL_TIMEOUT_S} s."
            raise DestinationUnavailable(msg) from error

    def _call(self, call: Callable[[Any], None]) -> None:
        try:
            call(self._opened())
        except ClientError as error:
            raise _refused(self._target, error) from error
        except _CREDENTIALS as error:
            msg = f"{self._target} cannot be asked without AWS credentials: {error}"
            raise DestinationUnavailable(msg, retriable=False) from error
        except BotoCoreError as error:
            msg = f"{self._target} cannot be reached: {error}"
            raise DestinationUnavailable(msg) from error

    def _opened(self) -> Any:
        # Sessions are not safe to share between threads while they build a client.
        with self._building:
            if self._client is None:
                self._client = self._session.client(self._service, region_name=self._region, config=_CONFIG)
        return self._client


def _refused(target: str, error: ClientError) -> DestinationUnavailable:
    fault = error.response.get("Error", {})
    code, message = str(fault.get("Code", "")), str(fault.get("Message", "")).rstrip(".")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _RETRIABLE_STATUS_MIN)
    return DestinationUnavailable(
        f"{target} refused the failure record with {code}: {message}.",
        retriable=status >= _RETRIABLE_STATUS_MIN or code in _THROTTLED,
    )
