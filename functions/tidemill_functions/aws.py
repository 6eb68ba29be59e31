"""boto3 clients of the AWS in use, and how its errors are described. Calls block: make them in threads.

Owns the one client factory with its time limits. Knows no service by name. boto3 is imported at the first
client: it costs half a second, and many servers never need one.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from tidemill_functions.errors import AwsUnavailable

_CONNECT_TIMEOUT_S: Final = 3
_READ_TIMEOUT_S: Final = 5  # a stop of the server waits for it
_SERVER_ERROR_MIN: Final = 500
_THROTTLED: Final = frozenset({"SlowDown", "TooManyRequests", "TooManyRequestsException"})


class AwsClients:
    """One client for each service and region; endpoint and credentials are found as every AWS SDK does."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._making = threading.Lock()  # sessions may not be shared while they make a client

    def call(self, service: str, operation: str, *, region: str = "", **members: Any) -> Any:
        """Make one request and return the reply; blocks for 8 seconds at most.

        Raises AwsUnavailable, which says whether the same request may succeed later.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see the module

        try:
            return getattr(self._client(service, region or self._region), operation)(**members)
        except ClientError as error:
            answer = error.response.get("Error", {})
            code = str(answer.get("Code", "unknown error"))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise AwsUnavailable(
                f"{code}: {answer.get('Message', '')}",
                code=code,
                is_temporary=status >= _SERVER_ERROR_MIN or code in _THROTTLED or "Throttl" in code,
            ) from error
        except (BotoCoreError, ValueError) as error:
            raise AwsUnavailable(str(error), code=type(error).__name__, is_temporary=True) from error

    def _client(self, service: str, region: str) -> Any:
        import boto3  # noqa: PLC0415 - see the module
        from botocore.config import Config  # noqa: PLC0415 - the same

        with self._making:
            self._session = self._session or boto3.Session()
            found = self._clients.get((service, region))
            if found is None:
                config = Config(
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                )
                found = self._session.client(service, region_name=region, config=config)
                if self._session.get_credentials() is not None:  # else there may be some the next time
                    self._clients[service, region] = found
                else:
                    self._session = None
            return found
