"""Owns what happens around calls of IAM and STS while the embedded AWS's keys open Kafka: a WSGI wrapper.

A call that limits rights by what moto overlooks is refused, for its key could do more than on AWS; the reply
that hands a key out waits until the broker has seen the key. Knows no model of moto.
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
# A policy has at most 10 KB, a SAML assertion 100,000 characters.
_BODY_BYTES_MAX: Final = 512 * 1024
# Of each action, the parameters' names that moto takes and forgets. Tags: what policies may ask of a session.
_OVERLOOKED: Final[Mapping[str, tuple[str, ...]]] = {
    "AssumeRole": ("PolicyArns.", "Tags."),
    "AssumeRoleWithSAML": ("Policy",),
    "AssumeRoleWithWebIdentity": ("PolicyArns.",),
    "CreateUser": ("PermissionsBoundary",),
    "PutUserPermissionsBoundary": ("PermissionsBoundary",),
}
_ISSUING = frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateAccessKey"})
_REFUSED = "403 Forbidden"


def around_iam(
    application: WSGIApplication, hand_on: Callable[[], None], *, seen_after_s: float
) -> WSGIApplication:
    """Wrap moto; ``hand_on`` tells the broker of new keys, which it has seen ``seen_after_s`` later."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        form = _form(environ)
        action = form.get("Action", [""])[0]
        for overlooked in _OVERLOOKED.get(action, ()):
            if any(name.startswith(overlooked) for name in form):
                return _refusal(start_response, action, overlooked.rstrip("."))
        chunks = application(environ, start_response)
        if action in _ISSUING:
            hand_on()
            time.sleep(seen_after_s)  # in the thread of this one request
        return chunks

    return answer


def _form(environ: WSGIEnvironment) -> Mapping[str, list[str]]:
    """The parameters of a call of IAM or STS; empty for any other. The body can be read again."""
    scope = credential_scope({"Authorization": environ.get("HTTP_AUTHORIZATION", "")}, "")
    is_form = environ.get("CONTENT_TYPE", "").startswith(_FORM)
    if not is_form or (scope is not None and scope.service not in _SERVICES):
        return {}
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > _BODY_BYTES_MAX:
        return {}
    body = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return parse_qs(body.decode(errors="replace"))


def _refusal(start_response: StartResponse, action: str, parameter: str) -> Iterable[bytes]:
    body = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>NotImplemented</Code><Message>"
        f"The embedded AWS overlooks {parameter} of {action}, so the key could do more in Kafka than on AWS: "
        "leave it out, or start without --auth iam.</Message></Error></ErrorResponse>"
    ).encode()
    start_response(_REFUSED, [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
    return [body]
