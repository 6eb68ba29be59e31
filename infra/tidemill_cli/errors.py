"""Owns what the command line says when something goes wrong: one sentence that names the mend, no traceback.

Complaint is raised by commands; `explain` turns the libraries' exceptions into one.
"""

import re
from typing import Any
from urllib.parse import urlsplit


class Complaint(Exception):
    """What the user reads after ``error:``; ``hint`` is an own line."""

    def __init__(self, sentence: str, *, hint: str | None = None) -> None:
        super().__init__(sentence)
        self.hint = hint


def explain(error: Exception) -> Complaint | None:
    """The complaint about a library's exception; None for what is our own bug."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, Complaint):
        return error
    library = type(error).__module__.partition(".")[0]
    if library == "botocore":
        return _explain_aws(error)
    if library == "aiokafka":
        return _explain_kafka(error)
    if library == "aiohttp":
        return Complaint(f"The endpoint does not answer: {error}.", hint=_IS_IT_RUNNING)
    if isinstance(error, OSError) and error.filename is not None:
        return Complaint(f"Cannot use {error.filename}: {error.strerror}.")
    return None


_IS_IT_RUNNING = (
    "Is `tidemill up` running? Start it, or name another endpoint with --endpoint-url or AWS_ENDPOINT_URL."
)

_WHICH_RIGHT = "The broker's log names the right that is missing, in a line `broker.audit denied`."


def _explain_aws(error: Any) -> Complaint:
    from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        about = error.response["Error"]
        return Complaint(f"{about['Code']}: {about.get('Message', '')}")
    if isinstance(error, EndpointConnectionError | HTTPClientError):
        address = urlsplit(str(error.kwargs.get("endpoint_url", "")))
        return Complaint(f"Cannot reach {address.scheme}://{address.netloc}.", hint=_IS_IT_RUNNING)
    # ParamValidationError and its like list what is wrong, one to a line.
    return Complaint(" ".join(str(error).split()))


def _addresses(text: str) -> str:
    """The addresses in aiokafka's sentence: ``Unable to bootstrap from [('127.0.0.1', 9092, <…>)]``."""
    found = re.findall(r"\('([^']+)', (\d+)", text)
    return f" at {', '.join(f'{host}:{port}' for host, port in found)}" if found else f": {text.rstrip('.')}"


def _explain_kafka(error: Any) -> Complaint:
    from aiokafka.errors import KafkaConnectionError

    if isinstance(error, KafkaConnectionError):
        return Complaint(
            f"Cannot reach Kafka{_addresses(str(error))}.",
            hint="Is `tidemill up` running? Name another plaintext Kafka with --bootstrap-servers.",
        )
    text = str(error) or str(getattr(error, "description", ""))
    denied = type(error).__name__.endswith("AuthorizationFailedError")
    return Complaint(
        text if text.startswith("[Error") else f"{type(error).__name__}: {text}",
        hint=_WHICH_RIGHT if denied else None,
    )
