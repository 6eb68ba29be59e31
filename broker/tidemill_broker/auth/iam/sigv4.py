"""AWS's Signature Version 4 of a presigned `GET /` of the service kafka-cluster, checked and never made.

Takes apart what a client presents, rejects whatever its signers never write, and says whether a secret signed
it. Pure: knows no clock, no identities and neither of the two wrappings (JSON, URL) that mechanisms unwrap.

See docs/decisions/0921.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from tidemill_broker.errors import BrokerError

ACTION: Final = "kafka-cluster:Connect"
ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "kafka-cluster"
TERMINATOR: Final = "aws4_request"
SIGNED_HEADERS: Final = "host"
EXPIRES_MAX_S: Final = 900  # what aws-msk-iam-auth's own validator allows, and all of AWS's signers ask for

# Query parameters as they are signed; a session token joins them where credentials are temporary.
PARAMETERS: Final = frozenset(
    {"Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"}
)
SESSION_TOKEN: Final = "X-Amz-Security-Token"  # noqa: S105 - a parameter's name

_EMPTY_HASH: Final = sha256(b"").hexdigest()
# Characters that every credential in the field is made of; whatever passes may stand in a log line.
_CREDENTIAL: Final = re.compile(
    r"([A-Za-z0-9_-]{1,128})/([0-9]{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/(\w{1,64})"
)
_DATE: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
# AWS's JavaScript signer writes fractions (aws-msk-iam-sasl-signer-js issue 33).
_SECONDS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,20})?")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]*")


class NotPresigned(BrokerError):
    """What is presented is not what a signer of AWS's writes; the text names the fault and no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presigned:
    """A presigned request, taken apart and not yet believed: whoever holds the key's secret says all this.

    `host` is who it was signed for; it holds from `begins_ms` until before `ends_ms` (since the epoch).
    """

    host: str
    access_key_id: str
    region: str
    begins_ms: int
    ends_ms: int
    session_token: str | None = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    signature: str = field(repr=False)

    def signed_with(self, secret_access_key: str) -> bool:
        """Tell whether this secret made the signature, in the same time wherever they differ."""
        return hmac.compare_digest(self.signature, _signature(self, secret_access_key))


def read_presigned(*, host: str, parameters: Mapping[str, str], signature: str) -> Presigned:
    """Read decoded query parameters, without the signature. Raises NotPresigned."""
    _check_names(parameters)
    for name, expected in (
        ("Action", ACTION),
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-SignedHeaders", SIGNED_HEADERS),
    ):
        if parameters[name] != expected:
            raise NotPresigned(f"{name} is not {expected}")
    if not all(_PRINTABLE.fullmatch(value) for value in (host, *parameters.values())):
        raise NotPresigned("a value holds other characters than printable ASCII")
    if not _SIGNATURE.fullmatch(signature):
        raise NotPresigned("the signature is not 64 hexadecimal digits")
    access_key_id, region = _scope(parameters)
    begins_ms = _time_ms(parameters["X-Amz-Date"])
    return Presigned(
        host=host,
        access_key_id=access_key_id,
        region=region,
        begins_ms=begins_ms,
        ends_ms=begins_ms + _milliseconds(parameters["X-Amz-Expires"]),
        session_token=parameters.get(SESSION_TOKEN),
        parameters=parameters,
        signature=signature,
    )


def _check_names(parameters: Mapping[str, str]) -> None:
    if missing := PARAMETERS - parameters.keys():
        raise NotPresigned(f"without {', '.join(sorted(missing))}")
    if parameters.keys() - PARAMETERS - {SESSION_TOKEN}:
        raise NotPresigned("holds a parameter that no signer writes")


def _scope(parameters: Mapping[str, str]) -> tuple[str, str]:
    credential = _CREDENTIAL.fullmatch(parameters["X-Amz-Credential"])
    if not credential:
        raise NotPresigned("X-Amz-Credential is not key/yyyymmdd/region/kafka-cluster/aws4_request")
    access_key_id, date, region, service, terminator = credential.groups()
    if (service, terminator) != (SERVICE, TERMINATOR):
        raise NotPresigned(f"signed for the service {service}/{terminator}")
    if date != parameters["X-Amz-Date"][:8]:
        raise NotPresigned("signed with the key of another day than X-Amz-Date's")
    return access_key_id, region


def _time_ms(text: str) -> int:
    match = _DATE.fullmatch(text)
    if match:
        year, month, day, hour, minute, second = map(int, match.groups())
        try:
            return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1000
        except ValueError:
            pass
    raise NotPresigned("X-Amz-Date is no time of the form yyyymmddThhmmssZ")


def _milliseconds(text: str) -> int:
    seconds = Decimal(text) if _SECONDS.fullmatch(text) else Decimal(0)
    if not 0 < seconds <= EXPIRES_MAX_S:
        raise NotPresigned(f"X-Amz-Expires is no number of seconds up to {EXPIRES_MAX_S}")
    return int(seconds * 1000)


def _signature(claim: Presigned, secret_access_key: str) -> str:
    """AWS: Signature Version 4, "Create a signed AWS API request"; the payload hash is that of nothing."""
    # Encoded anew from the values that were checked, so that nothing else can have been signed.
    query = "&".join(sorted(f"{_encode(name)}={_encode(value)}" for name, value in claim.parameters.items()))
    canonical = f"GET\n/\n{query}\nhost:{claim.host}\n\n{SIGNED_HEADERS}\n{_EMPTY_HASH}"
    date = claim.parameters["X-Amz-Date"]
    scope = f"{date[:8]}/{claim.region}/{SERVICE}/{TERMINATOR}"
    text = f"{ALGORITHM}\n{date}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_access_key}".encode()
    # 5 HMACs take a few microseconds: less than a cache of keys would be worth, which would hold secrets.
    for part in (date[:8], claim.region, SERVICE, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _encode(text: str) -> str:
    """Encode all but RFC 3986's unreserved characters, which `quote` never touches."""
    return quote(text, safe="")
