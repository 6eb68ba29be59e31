"""The mechanism AWS_MSK_IAM: a presigned request as one JSON object, answered by another.

Authority: AWS's aws-msk-iam-auth (AWS4SignedPayloadGenerator, AuthenticationResponse). Owns the wrapping and
the check that the request was signed for a host of ours; `login` checks what is inside.
"""

import json
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.iam.login import TOKEN_BYTES_MAX, ConnectAuthorizer, IamLogin, denied
from tidemill_broker.auth.iam.sigv4 import NotPresigned, Presigned, read_presigned
from tidemill_broker.auth.mechanism import Step
from tidemill_broker.auth.tls.contexts import names_host

NAME: Final = "AWS_MSK_IAM"
VERSION: Final = "2020_10_22"

# The object's key for each query parameter; a session token may be absent.
_PARAMETERS: Final = {
    "action": "Action",
    "x-amz-algorithm": "X-Amz-Algorithm",
    "x-amz-credential": "X-Amz-Credential",
    "x-amz-date": "X-Amz-Date",
    "x-amz-expires": "X-Amz-Expires",
    "x-amz-signedheaders": "X-Amz-SignedHeaders",
    "x-amz-security-token": "X-Amz-Security-Token",
}
_OPTIONAL: Final = frozenset({"x-amz-security-token"})
_KEYS: Final = frozenset({"version", "host", "user-agent", "x-amz-signature"}) | _PARAMETERS.keys()


class MskIamMechanism:
    """Logs in who signs for one of `hosts()`: the names in our certificate and in what we advertise."""

    name = NAME

    def __init__(
        self,
        identities: Identities,
        authorizer: ConnectAuthorizer,
        *,
        region: str,
        hosts: Callable[[], frozenset[str]],
        now_ms: Callable[[], int],
    ) -> None:
        self._login = IamLogin(identities, authorizer, mechanism=NAME, region=region, now_ms=now_ms)
        self._hosts = hosts

    def begin(self, host: str = "") -> "MskIamExchange":
        """Begin an exchange: one token, one answer."""
        return MskIamExchange(self._login, self._hosts, host)


class MskIamExchange:
    """Waits for the client's object."""

    def __init__(self, login: IamLogin, hosts: Callable[[], frozenset[str]], peer_host: str) -> None:
        self._login = login
        self._hosts = hosts
        self._peer_host = peer_host
        self._over = False

    def respond(self, token: bytes) -> Step:
        """Check the object. Raises AuthenticationFailed."""
        if self._over:
            raise denied("a token after the last")
        self._over = True
        try:
            claim = _read(token)
        except NotPresigned as fault:
            raise denied(str(fault)) from None
        if not names_host(claim.host, self._hosts()):
            # Cut, for nobody has vouched for it yet.
            reason = (
                f"signed for the host {claim.host[:255]}, which no certificate and no listener of ours names"
            )
            raise denied(reason, claimed=claim.access_key_id)
        session = self._login.session(claim, self._peer_host)
        # Exactly these two keys: AWS's Java client rejects an object with any other.
        answer = {"version": VERSION, "request-id": str(uuid4())}
        return Step(token=json.dumps(answer, separators=(",", ":")).encode(), session=session)


def _read(token: bytes) -> Presigned:
    fields = _object(token)
    if fields is None:
        raise NotPresigned(
            f"not one JSON object of strings, without repeated keys, in {TOKEN_BYTES_MAX} bytes"
        )
    if unknown := len(fields.keys() - _KEYS):
        raise NotPresigned(f"holds {unknown} keys that no signer writes")
    if missing := _KEYS - fields.keys() - _OPTIONAL:
        raise NotPresigned(f"without {', '.join(sorted(missing))}")
    if fields["version"] != VERSION:
        raise NotPresigned(f"its version is not {VERSION}")
    parameters = {name: fields[key] for key, name in _PARAMETERS.items() if key in fields}
    return read_presigned(host=fields["host"], parameters=parameters, signature=fields["x-amz-signature"])


def _object(token: bytes) -> dict[str, str] | None:
    """Read strictly; None: it is something else. The decoder's errors hold the token, so none leaves here."""
    if len(token) > TOKEN_BYTES_MAX:
        return None
    try:
        value = json.loads(token.decode(), object_pairs_hook=_strings_once)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _strings_once(pairs: list[tuple[str, Any]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError
    return found
