"""The mechanism OAUTHBEARER as MSK speaks it: RFC 7628's frame around a presigned URL in base64url.

Authority: AWS's aws-msk-iam-sasl-signer libraries for the token, Kafka's OAuthBearerClientInitialResponse for
the frame. The URL names the region and no cluster; `login` checks what is inside.
"""

import re
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.iam.login import TOKEN_BYTES_MAX, ConnectAuthorizer, IamLogin, denied
from tidemill_broker.auth.iam.sigv4 import NotPresigned, Presigned, read_presigned
from tidemill_broker.auth.mechanism import Step

NAME: Final = "OAUTHBEARER"

# RFC 7628, section 3.1, with Kafka's classes of characters: gs2 header, then key=value pairs.
_FRAME: Final = re.compile(rb"n,(?P<authzid>a=[^,\x00-\x20\x7f-\xff]*)?,\x01(?P<pairs>.*)\x01", re.DOTALL)
_PAIR: Final = re.compile(rb"([A-Za-z]+)=([\x21-\x7e \t\r\n]+)")
_BEARER: Final = re.compile(rb"bearer +([A-Za-z0-9_-]+)={0,2}", re.IGNORECASE)
# Java leaves the path out, the others write "/"; what is signed is "/".
_URL: Final = re.compile(r"https://(?P<host>[^/?#]*)/?\?(?P<query>[\x21\x22\x24-\x7e]*)")
_ESCAPE_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

_SIGNATURE: Final = "X-Amz-Signature"
_UNSIGNED: Final = "User-Agent"  # every signer appends it once it has signed
# Signers write nine at most.
_PARAMETERS_MAX: Final = 16


class OauthBearerMechanism:
    """Logs in who holds a URL that was signed for MSK in this region."""

    name = NAME

    def __init__(
        self,
        identities: Identities,
        authorizer: ConnectAuthorizer,
        *,
        region: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._login = IamLogin(identities, authorizer, mechanism=NAME, region=region, now_ms=now_ms)

    def begin(self, host: str = "") -> "OauthBearerExchange":
        """Begin an exchange: one token, an empty answer."""
        return OauthBearerExchange(self._login, host)


class OauthBearerExchange:
    """Waits for the client's initial response."""

    def __init__(self, login: IamLogin, peer_host: str) -> None:
        self._login = login
        self._peer_host = peer_host
        self._over = False

    def respond(self, token: bytes) -> Step:
        """Check the frame. Raises AuthenticationFailed at once, as MSK does: not RFC 7628's error object."""
        if self._over:
            raise denied("a token after the last")
        self._over = True
        try:
            claim = _read_url(_unframe(token))
        except NotPresigned as fault:
            raise denied(str(fault)) from None
        host = f"kafka.{claim.region}.amazonaws.com"
        if claim.host != host:
            reason = f"signed for the host {claim.host[:255]} and not {host}"
            raise denied(reason, claimed=claim.access_key_id)
        # librdkafka takes any first token of the server that is not empty for a failure.
        return Step(token=b"", session=self._login.session(claim, self._peer_host))


def _unframe(token: bytes) -> bytes:
    """Take the bearer token out; other pairs are extensions, which Kafka drops."""
    frame = _FRAME.fullmatch(token) if len(token) <= TOKEN_BYTES_MAX else None
    if frame is None:
        raise NotPresigned(f"not RFC 7628's client response in {TOKEN_BYTES_MAX} bytes")
    if frame["authzid"] not in (None, b"a="):
        raise NotPresigned("asks to act as somebody else (authzid)")
    pairs = [_PAIR.fullmatch(pair) for pair in frame["pairs"].split(b"\x01")[:-1]]
    found = [pair[2] for pair in pairs if pair is not None and pair[1] == b"auth"]
    bearer = _BEARER.fullmatch(found[0]) if len(found) == 1 else None
    if bearer is None or None in pairs or not frame["pairs"].endswith(b"\x01"):
        raise NotPresigned("not one pair auth=Bearer and a token in base64url, beside extensions")
    return bearer[1]


def _read_url(bearer: bytes) -> Presigned:
    try:
        text = urlsafe_b64decode(bearer + b"=" * (-len(bearer) % 4)).decode("ascii")
    except (NotBase64, UnicodeDecodeError):
        text = ""
    url = _URL.fullmatch(text)
    if url is None:
        raise NotPresigned("the token is not the base64url of a presigned https URL")
    parameters = _parameters(url["query"])
    signature = parameters.pop(_SIGNATURE, "")
    parameters.pop(_UNSIGNED, None)
    return read_presigned(host=url["host"], parameters=parameters, signature=signature)


def _parameters(query: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in query.split("&", _PARAMETERS_MAX)]
    parameters = {_decoded(name): _decoded(value) for name, _, value in pairs}
    if len(pairs) > _PARAMETERS_MAX or len(parameters) < len(pairs):
        raise NotPresigned(f"repeats a parameter, or has more than {_PARAMETERS_MAX}")
    return parameters


def _decoded(text: str) -> str:
    """Decode %XX alone: `+` is itself, as in all that is signed."""
    if _ESCAPE_BROKEN.search(text):
        raise NotPresigned("a broken escape in the URL")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        pass
    raise NotPresigned("an escape in the URL that is not UTF-8")
