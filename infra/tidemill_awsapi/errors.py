"""Owns how an AWS error travels: the exception a handler raises and the body a rest-json client reads.

Called by the server for every error reply; knows the service's model, no operation and no program.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from tidemill_awsapi.model import ServiceModel

_NOTHING: Mapping[str, str] = MappingProxyType({})
_BAD_REQUEST = 400
_SERVER_FAULT = 500


class ApiError(Exception):
    """An error as AWS answers it: ``code`` names an error shape of the service's model.

    The HTTP status and the spelling of ``message``/``Message`` come from that shape; ``status`` is only for
    codes that the model lacks. ``members`` are further members of the shape, by the model's names
    (``Reason="…"``).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] = _NOTHING,
        **members: object,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers
        self.members = members


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply:
    """One error on the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def render_error(model: ServiceModel, error: ApiError) -> ErrorReply:
    """The reply for one error; a code that the model lacks is spelt as the service's other errors are."""
    shape = model.error_shapes.get(error.code)
    headers = {"x-amzn-ErrorType": error.code, **error.headers}
    if shape is None:
        status = error.status or _BAD_REQUEST
        body: dict[str, Any] = {"message": error.message}
        if model.errors_carry_type:
            body["Type"] = _fault(sender=status < _SERVER_FAULT)
        return ErrorReply(status=status, headers=headers, body=orjson.dumps(body | error.members))
    about = shape.metadata.get("error", {})
    body = {}
    for member, value in {**error.members, _message_member(shape): error.message}.items():
        traits = shape.members[member].serialization if member in shape.members else {}
        if traits.get("location") == "header":
            headers[traits["name"]] = str(value)
        else:
            body[traits.get("name", member)] = value
    if "Type" in shape.members:
        body.setdefault("Type", _fault(sender=about.get("senderFault", False)))
    return ErrorReply(
        status=about.get("httpStatusCode", error.status or _BAD_REQUEST),
        headers=headers,
        body=orjson.dumps(body),
    )


def _message_member(shape: Any) -> str:
    return "message" if "message" in shape.members else "Message"


def _fault(*, sender: bool) -> str:
    """Lambda's ``Type`` says whose fault it is: the caller's (``User``) or the service's."""
    return "User" if sender else "Service"
