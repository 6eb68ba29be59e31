"""Owns what happens around calls of IAM and STS while the embedded AWS's keys open Kafka: a WSGI wrapper.

A call that limits permissions by a parameter that moto ignores is rejected, for its key could do more than on
AWS; the reply that issues a key waits until the broker has read the key. Knows no model of moto.
"""

import io
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tidemill_awsapi import credential_scope

_FORM = "application/x-www-form-urlencoded"
_SERVICES = frozenset({"iam", "sts"})
# A policy has at most 10 KB, a SAML assertion 100,000 characters; but an unsigned form may be a batch for SQS
# of 1 MiB, each byte of it up to three.
_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
# Of each action, the parameters that moto accepts and ignores. Tags: policies can require session tags.
_IGNORED: Final[Mapping[str, tuple[str, ...]]] = {
    "AssumeRole": ("PolicyArns.", "Tags."),
    "AssumeRoleWithSAML": ("Policy",),
    "AssumeRoleWithWebIdentity": ("PolicyArns.",),
    "CreateUser": ("PermissionsBoundary",),
    "PutUserPermissionsBoundary": ("PermissionsBoundary",),
}
_ISSUING = frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateAccessKey"})
_REJECTED = "403 Forbidden"


def around_iam(
    application: WSGIApplication, export: Callable[[], None], *, read_after_s: float
) -> WSGIApplication:
    """Wrap moto; ``export`` writes new keys for the broker, which has read them ``read_after_s`` later."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        form = _parameters(environ)
        if form is None:
            start_response("413 Request Entity Too Large", [("Content-Length", "0")])
            return []
        action = form.get("Action", [""])[0]
        for ignored in _IGNORED.get(action, ()):
            if any(name.startswith(ignored) for name in form):
                return _rejection(start_response, action, ignored.rstrip("."))
        chunks = application(environ, start_response)
        if action in _ISSUING:
            export()
            time.sleep(read_after_s)  # in the thread of this one request
        return chunks

    return answer


def _parameters(environ: WSGIEnvironment) -> Mapping[str, list[str]] | None:
    """The parameters of a call of IAM or STS, of its query and its form; None if they are too large to check.

    Empty for a call of another service. The body can be read again.
    """
    query = environ.get("QUERY_STRING", "")
    scope = credential_scope({"Authorization": environ.get("HTTP_AUTHORIZATION", "")}, query)
    if scope is not None and scope.service not in _SERVICES:
        return {}
    parameters = parse_qs(query) if "Action=" in query else {}
    # moto reads a form where the scope names the service, whatever the type says.
    if scope is not None or environ.get("CONTENT_TYPE", "").lower().startswith(_FORM):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > _BODY_BYTES_MAX:
            return None
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        parameters = {**parameters, **parse_qs(body.decode(errors="replace"))}
    return parameters


def _rejection(start_response: StartResponse, action: str, parameter: str) -> Iterable[bytes]:
    body = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>NotImplemented</Code><Message>"
        f"The embedded AWS ignores {parameter} of {action}, so the key could do more in Kafka than on AWS: "
        "leave it out, or start without --auth iam.</Message></Error></ErrorResponse>"
    ).encode()
    start_response(_REJECTED, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]
