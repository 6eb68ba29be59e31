"""SigV4 signatures of requests to Lambda, at a tenth of botocore's cost.

Owns where a request goes (the endpoint, the function's path and qualifier) and its headers. Pure but for the
cache of what does not change between requests.

See docs/decisions/0700.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from botocore.credentials import ReadOnlyCredentials
from yarl import URL

# Mappings come and go over months; a table that starts anew now and then is bound enough.
_TARGETS_MAX: Final = 4096
_QUALIFIED_ARN_PARTS: Final = 8

# The last part of a function's path: Invoke, GetFunctionConfiguration.
Operation = Literal["invocations", "configuration"]
_METHODS: Final[Mapping[Operation, str]] = {"invocations": "POST", "configuration": "GET"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Lambda is and what its requests are signed for."""

    url: str
    region: str
    # A file of certificate authorities, or None for botocore's own bundle.
    ca_bundle: str | None


class Signer:
    """SigV4 for requests about functions, with all that does not change between requests computed once.

    The same signature as botocore's SigV4Auth (a test holds them together), at a tenth of its cost: botocore
    parses the URL and derives the signing key anew for every request.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._targets: dict[tuple[Operation, str], _Target] = {}
        self._key: tuple[str, str, bytes] = ("", "", b"")  # (date, secret, signing key)

    def sign(
        self,
        function_arn: str,
        payload: bytes,
        credentials: ReadOnlyCredentials,
        now_s: float,
        *,
        operation: Operation = "invocations",
    ) -> tuple[URL, dict[str, str]]:
        """Return the URL of a request, and its headers with the signature in Authorization."""
        target = self._targets.get((operation, function_arn)) or self._target(operation, function_arn)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        scope = f"{stamp[:8]}/{self._endpoint.region}/lambda/aws4_request"
        headers = {"X-Amz-Date": stamp, "Accept-Encoding": "identity"}
        signed, names = f"host:{target.host}\nx-amz-date:{stamp}\n", "host;x-amz-date"
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
            signed, names = (
                f"{signed}x-amz-security-token:{credentials.token}\n",
                f"{names};x-amz-security-token",
            )
        digest = hashlib.sha256(payload).hexdigest()
        canonical = f"{target.canonical}{signed}\n{names}\n{digest}"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(
            self._signing_key(stamp[:8], credentials.secret_key), to_sign.encode(), "sha256"
        ).hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return target.url, headers

    def _signing_key(self, date: str, secret: str) -> bytes:
        if self._key[0] != date or self._key[1] != secret:
            key = f"AWS4{secret}".encode()
            for part in (date, self._endpoint.region, "lambda", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (date, secret, key)
        return self._key[2]

    def _target(self, operation: Operation, function_arn: str) -> _Target:
        name, qualifier = split_qualifier(function_arn)
        base = URL(self._endpoint.url)
        path = f"{base.raw_path.rstrip('/')}/2015-03-31/functions/{quote(name, safe='-._~')}/{operation}"
        query = f"Qualifier={quote(qualifier, safe='-._~')}" if qualifier else ""
        url = URL(f"{base.origin()}{path}{'?' + query if query else ''}", encoded=True)
        # Every service but S3 signs the path encoded once more (SigV4, "Create a canonical request").
        canonical = f"{_METHODS[operation]}\n{quote(path, safe='/~')}\n{query}\n"
        target = _Target(url=url, host=url.host_port_subcomponent or "", canonical=canonical)
        if len(self._targets) >= _TARGETS_MAX:
            self._targets.clear()
        self._targets[operation, function_arn] = target
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    url: URL
    host: str
    canonical: str  # the canonical request up to the headers


def split_qualifier(function_arn: str) -> tuple[str, str | None]:
    """`arn:aws:lambda:r:a:function:name[:qualifier]` as (arn, qualifier); plain names stay as they are."""
    parts = function_arn.split(":")
    if len(parts) == _QUALIFIED_ARN_PARTS and parts[0] == "arn":
        return ":".join(parts[:-1]), parts[-1]
    return function_arn, None
