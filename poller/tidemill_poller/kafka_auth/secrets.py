"""Secrets, and what their JSON must hold. Pure; nothing of a secret goes into an exception or a repr.

Facts: AWS Lambda Developer Guide, kafka-cluster-auth.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from tidemill_poller.errors import SecretInvalid

_HALF_A_CHARACTER: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One version of a secret; `id` is the name or ARN in the mapping."""

    id: str
    version: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A user and the password, of BASIC_AUTH and SASL_SCRAM_*_AUTH."""

    username: str = field(repr=False)
    password: str = field(repr=False)


def read_login(secret: Secret) -> Login:
    """Read `{"username": …, "password": …}`; what else it holds is ignored, as on AWS.

    Raises SecretInvalid if it is no JSON object, or a key is missing, empty or not text.
    """
    found = read_object(secret, SecretInvalid)
    return Login(
        username=read_text(secret, found, "username", SecretInvalid),
        password=read_text(secret, found, "password", SecretInvalid),
    )


def read_object(secret: Secret, fault: type[SecretInvalid]) -> dict[str, Any]:
    """Read the secret's JSON object; `fault` is what is raised if it is none."""
    try:
        found = json.loads(secret.text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # Without the cause: json's error holds the whole text.
        raise fault(f"The secret {secret.id} is no JSON object: store its keys and values as JSON.") from None
    return found


def read_text(secret: Secret, found: dict[str, Any], key: str, fault: type[SecretInvalid]) -> str:
    """Read one value of the secret, which must be some text."""
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise fault(f"The secret {secret.id} has no text under '{key}': add that key.")
    if _HALF_A_CHARACTER.search(value):
        # JSON can spell it, nothing can encode it; the error of who tries holds the whole value.
        raise fault(f"The secret {secret.id} has half a character (a lone surrogate) under '{key}': fix it.")
    return value
