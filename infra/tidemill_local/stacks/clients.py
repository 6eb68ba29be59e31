"""Owns the connection of stacks to the programs: botocore's clients for the one endpoint.

Stacks make resources by the public APIs alone, as a user's SDK does.
"""

import threading
from typing import Any, Final

import botocore.session
from botocore.client import Config
from botocore.exceptions import ClientError
from botocore.model import OperationModel

# The endpoint verifies no signature; a signature's scope routes the request.
_CREDENTIALS: Final = {"aws_access_key_id": "stacks", "aws_secret_access_key": "stacks"}
# A function's package may be fetched from S3 and unpacked before its creation is answered.
_READ_TIMEOUT_S: Final = 120
NOT_FOUND: Final = frozenset({"ResourceNotFoundException", "NotFoundException"})


class Clients:
    """Clients of one endpoint and region, made when they are first used; safe for threads."""

    def __init__(self, endpoint_url: str, region: str) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._session = botocore.session.Session()
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    @property
    def awslambda(self) -> Any:
        """Lambda."""
        with self._lock:
            if "lambda" not in self._made:
                self._made["lambda"] = self._session.create_client(
                    "lambda",
                    endpoint_url=self._endpoint_url,
                    region_name=self._region,
                    config=Config(
                        retries={"mode": "standard", "total_max_attempts": 5},
                        read_timeout=_READ_TIMEOUT_S,
                        # Nothing of the user's proxy settings is meant for this machine.
                        proxies={},
                    ),
                    **_CREDENTIALS,
                )
            return self._made["lambda"]


def operation(client: Any, name: str) -> OperationModel:
    """The model of one operation."""
    found: OperationModel = client.meta.service_model.operation_model(name)
    return found


def code_of(error: ClientError) -> str:
    """AWS's code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))
