"""Calls of AWS from the event loop, bounded in number and in time.

Owns the threads, the time limit and the translation of AWS's errors into DestinationUnavailable; knows no
service by name. Each call is one request: SQS and SNS do not recognise a request that they had before, so
botocore must not repeat one that was not answered. The lane holds the partition and sends again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)

from tidemill_poller.aws import AwsClients, describe, is_temporary
from tidemill_poller.errors import DestinationUnavailable

CALLS_MAX: Final = 4
CALL_TIMEOUT_S: Final = 60
_UNANSWERED: Final = (ReadTimeoutError, ConnectionClosedError)
_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError)


class AwsCalls:
    """Calls of one service, CALLS_MAX at a time in threads of their own; the client is made at first use."""

    def __init__(self, clients: AwsClients, service: str, *, region: str | None, target: str) -> None:
        self._clients = clients
        self._service = service
        self._region = region
        self._target = target
        # Its threads start with the first call and end when this object is collected.
        self._threads = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix=f"destination-{service}")

    async def run(self, call: Callable[[Any], None]) -> None:
        """Run `call(client)` in a thread.

        A call that is cancelled may still reach the service: its thread cannot be interrupted.
        Raises DestinationUnavailable if AWS did not do it.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await loop.run_in_executor(self._threads, self._call, call)
        except TimeoutError as error:
            raise DestinationUnavailable(
                f"{self._target} did not take the failure record within {CALL_TIMEOUT_S} s.", unanswered=True
            ) from error

    def _call(self, call: Callable[[Any], None]) -> None:
        try:
            call(self._clients.get(self._service, self._region, once=True))
        except ClientError as error:
            raise DestinationUnavailable(
                f"{self._target} rejected the failure record with {describe(error).rstrip('.')}.",
                retriable=is_temporary(error),
            ) from error
        except _CREDENTIALS as error:
            raise DestinationUnavailable(
                f"{self._target} cannot be called without AWS credentials: {describe(error)}", retriable=False
            ) from error
        except _UNANSWERED as error:
            raise DestinationUnavailable(
                f"{self._target} did not answer: {describe(error)}", unanswered=True
            ) from error
        except (BotoCoreError, ValueError) as error:
            raise DestinationUnavailable(f"{self._target} cannot be reached: {describe(error)}") from error
