"""Owns the reading of SigV4's credential scope: who calls which service in which region. Verifies nothing.

Called by the server for each request and by the gateway to distinguish services.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

_CREDENTIAL = "Credential="
# AKID/20261121/us-east-1/lambda/aws4_request
_PARTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialScope:
    """The scope that a request was signed for."""

    access_key_id: str
    region: str
    service: str


def credential_scope(headers: Mapping[str, str], query_string: str = "") -> CredentialScope | None:
    """The scope from ``Authorization`` or from a presigned URL's ``X-Amz-Credential``; None when unsigned."""
    authorization = headers.get("Authorization", "")
    start = authorization.find(_CREDENTIAL)
    if start >= 0:
        start += len(_CREDENTIAL)
        end = authorization.find(",", start)
        return _parse(authorization[start : end if end >= 0 else None].strip())
    if "X-Amz-Credential=" in query_string:
        return _parse(parse_qs(query_string).get("X-Amz-Credential", [""])[0])
    return None


def _parse(credential: str) -> CredentialScope | None:
    # An access key holds no slash, yet some emulators' users invent some: count from the right.
    parts = credential.rsplit("/", _PARTS - 1)
    if len(parts) != _PARTS:
        return None
    return CredentialScope(access_key_id=parts[0], region=parts[2], service=parts[3])
