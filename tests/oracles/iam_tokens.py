"""IAM tokens as clients of others make them: kafka-python's AWS_MSK_IAM, AWS's own signer, aws-msk-iam-auth.

kafka-python's client keeps every part that it signs in an attribute, so it also signs what no client should.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
from botocore.credentials import CredentialProvider, Credentials
from kafka.net.sasl.msk import AwsMskIamClient

REGION = "eu-west-1"
HOST = "localhost"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a user has; the secret and the token hold what must be encoded."""

    access_key_id: str = "AKIATIDEMILL00000001"
    secret: str = "wJal+rXUt/nFEMI+K7MDENG/bPxRfiCYEXAMPLEKEY"
    session_token: str | None = None


LONG_TERM = Keys()
TEMPORARY = Keys(access_key_id="ASIATIDEMILL00000002", session_token="IQoJb3JpZ2lu+X2VjE/L3//==")
BOTH = {"long-term key": LONG_TERM, "temporary key": TEMPORARY}


def signer(
    keys: Keys = LONG_TERM, *, at_ms: int, host: str = HOST, region: str = REGION, **parts: Any
) -> AwsMskIamClient:
    """kafka-python's signer, at a given time; `parts` replace what it signs by its attributes' names."""
    client = AwsMskIamClient(
        host=host,
        access_key=keys.access_key_id,
        secret_key=keys.secret,
        region=region,
        token=keys.session_token,
    )
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    client.datestamp, client.timestamp = moment.strftime("%Y%m%d"), moment.strftime("%Y%m%dT%H%M%SZ")
    for name, value in parts.items():
        setattr(client, name, value)
    return client


def json_token(client: AwsMskIamClient) -> bytes:
    """What kafka-python sends for AWS_MSK_IAM."""
    token: bytes = client.first_message()
    return token


def fields_of(token: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(token)
    return fields


def url_of(client: AwsMskIamClient) -> str:
    """The presigned URL for what this client signs; it signs for its own `host`."""
    signature = fields_of(client.first_message())["x-amz-signature"]
    return f"https://{client.host}/?{client._canonical_querystring}&X-Amz-Signature={signature}"


def frame(url: str, *, extensions: str = "") -> bytes:
    """RFC 7628's client response, as Kafka's clients send it."""
    bearer = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
    return f"n,,\x01auth=Bearer {bearer}\x01{extensions}\x01".encode()


def msk_host(region: str = REGION) -> str:
    return f"kafka.{region}.amazonaws.com"


def url_token(keys: Keys = LONG_TERM, *, at_ms: int, region: str = REGION, **parts: Any) -> bytes:
    """An OAUTHBEARER frame signed by kafka-python's signer; `host` may be among the parts."""
    parts = {"host": msk_host(region), **parts}
    client = signer(keys, at_ms=at_ms, region=region, **parts)
    return frame(url_of(client) + "&User-Agent=tests%2F1")


class _Given(CredentialProvider):  # type: ignore[misc]  # botocore ships no types
    METHOD = "given"

    def __init__(self, keys: Keys) -> None:
        super().__init__()
        self._keys = keys

    def load(self) -> Credentials:
        return Credentials(self._keys.access_key_id, self._keys.secret, self._keys.session_token)


def aws_signer_token(keys: Keys = LONG_TERM, *, region: str = REGION) -> tuple[bytes, int]:
    """A frame around what AWS's Python signer makes now; and when that says it was signed."""
    bearer, _ = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(region, _Given(keys))
    url = base64.urlsafe_b64decode(bearer + "=" * (-len(bearer) % 4)).decode()
    date = dict(parse_qsl(urlsplit(url).query))["X-Amz-Date"]
    return frame(url), int(datetime.strptime(date, "%Y%m%dT%H%M%S%z").timestamp() * 1000)
