"""Owns what the command line says when something fails: one sentence that names the fix, no traceback.

Commands raise UserError; `explain` turns the exceptions of libraries into one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tidemill_local.console_log import visible

REASON_HEADER: Final = "x-tidemill-reason"
# What Lambda takes in provisioned mode only, as AWS's message spells it.
_NEEDS_PROVISIONED_MODE: Final = re.compile(
    r"Unsupported '(maximumRetryAttempts|maximumRecordAgeInSeconds|bisectBatchOnFunctionError"
    r"|functionResponseTypes|destinationConfig)' parameter for given event source mapping type"
)
_ADD_MIN_POLLERS: Final = (
    "Lambda takes this only in provisioned mode: add --min-pollers 1 (ProvisionedPollerConfig)."
)


class UserError(Exception):
    """What the user reads after ``error:``; ``reason`` and ``hint`` are lines of their own."""

    def __init__(self, sentence: str, *, reason: str | None = None, hint: str | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.hint = hint

    def lines(self) -> list[str]:
        """Return the lines for standard error."""
        parts = (("error", str(self)), ("reason", self.reason), ("hint", self.hint))
        return [visible(line) for label, text in parts if text for line in f"{label}: {text}".split("\n")]


def reason_of(headers: Mapping[str, str]) -> str | None:
    """Return what a Tidemill server says beyond AWS's message; the header is the inside of a JSON string."""
    text = next((value for name, value in headers.items() if name.lower() == REASON_HEADER), None)
    if not text:
        return None
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def explain(error: Exception) -> UserError | None:
    """Return the UserError for a library's exception; None for what is our own bug."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, UserError):
        return error
    library = type(error).__module__.partition(".")[0]
    if library == "botocore":
        return _explain_aws(error)
    if library == "aiokafka":
        return _explain_kafka(error)
    if library == "aiohttp":
        return UserError(f"The endpoint does not answer: {error}.", hint=_IS_IT_RUNNING)
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"Cannot use {error.filename}: {error.strerror}.")
    return None


_IS_IT_RUNNING = (
    "Is `tidemill up` running? Start it, or name another endpoint with --endpoint-url or AWS_ENDPOINT_URL."
)

_WHICH_RIGHT = "The broker's log names the missing right, in a line `tidemill_broker.audit denied`."


def _explain_aws(error: Any) -> UserError:
    from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        about = error.response["Error"]
        message = about.get("Message", "")
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return UserError(
            f"{about['Code']}: {message}",
            reason=reason_of(headers),
            hint=_ADD_MIN_POLLERS if _NEEDS_PROVISIONED_MODE.search(message) else None,
        )
    if isinstance(error, EndpointConnectionError | HTTPClientError):
        address = urlsplit(str(error.kwargs.get("endpoint_url", "")))
        return UserError(f"Cannot reach {address.scheme}://{address.netloc}.", hint=_IS_IT_RUNNING)
    # ParamValidationError and its like list what is wrong, one to a line.
    return UserError(" ".join(str(error).split()))


def _addresses(text: str) -> str:
    """The addresses in aiokafka's sentence: ``Unable to bootstrap from [('127.0.0.1', 9092, <…>)]``."""
    found = re.findall(r"\('([^']+)', (\d+)", text)
    return f" at {', '.join(f'{host}:{port}' for host, port in found)}" if found else f": {text.rstrip('.')}"


def _explain_kafka(error: Any) -> UserError:
    from aiokafka.errors import KafkaConnectionError

    if isinstance(error, KafkaConnectionError):
        return UserError(
            f"Cannot reach Kafka{_addresses(str(error))}.",
            hint="Is `tidemill up` running? Name another plaintext Kafka with --bootstrap-servers.",
        )
    text = str(error) or str(getattr(error, "description", ""))
    denied = type(error).__name__.endswith("AuthorizationFailedError")
    return UserError(
        text if text.startswith("[Error") else f"{type(error).__name__}: {text}",
        hint=_WHICH_RIGHT if denied else None,
    )
