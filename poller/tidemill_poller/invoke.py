"""Calls the function: one Invoke request in, one Outcome out, for every reply, fault and timeout.

Owns the connection pool, the endpoint and the SigV4 signature of the hot path. Knows nothing of records,
retries or offsets: the lane builds the event and acts on the outcome. Raises nothing but CancelledError once
it is open.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from tidemill_poller.errors import PollerError
from tidemill_poller.retry import Delivered, FunctionError, Outcome, Throttled, Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from botocore.credentials import Credentials, ReadOnlyCredentials
    from botocore.session import Session

# Lambda's longest timeout is 15 minutes ("Lambda quotas"); the margin is for queueing and for the way there.
INVOKE_TIMEOUT_S: Final = 900 + 30
CONNECT_TIMEOUT_S: Final = 5
# Lambda's limit of a synchronous response is 6 MB; a peer that sends more is not Lambda.
RESPONSE_BYTES_MAX: Final = 8 * 1024 * 1024
# One request a lane at a time, so this bounds how many lanes invoke at once; the others wait for a
# connection.
CONNECTIONS_MAX: Final = 1024
# Shorter than what servers keep idle connections for, so that we rarely send into one that is just being
# closed.
KEEPALIVE_S: Final = 15
# Long enough to be useful in a status or a span, short enough for both.
MESSAGE_CHARS_MAX: Final = 1000
CREDENTIAL_CHECK_S: Final = 5

# Lambda's name for 413, which other servers in front of a function spell otherwise or not at all: the event
# is larger than the function's side takes, and retry.decide makes it smaller.
REQUEST_TOO_LARGE: Final = "RequestTooLargeException"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Lambda is and what its requests are signed for."""

    url: str
    region: str
    # A file of certificate authorities, or None for botocore's own bundle.
    ca_bundle: str | None


class Invoker:
    """Invokes functions over one bounded pool of kept connections. Use as an async context manager.

    `session` is a botocore session: endpoint, region, profile and credentials are found as every AWS client
    finds them (AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, the profile's services section, …).
    """

    def __init__(self, session: Session, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._session = session
        self._connections_max = connections_max
        self._http: aiohttp.ClientSession | None = None
        self._credentials: _CurrentCredentials | None = None
        self._signer: Signer | None = None

    async def __aenter__(self) -> Self:
        endpoint, credentials = await asyncio.to_thread(_resolve, self._session)
        self._signer = Signer(endpoint)
        self._credentials = _CurrentCredentials(credentials)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections_max,
                keepalive_timeout=KEEPALIVE_S,
                ssl=_tls(endpoint) if endpoint.url.startswith("https") else False,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=INVOKE_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def invoke(
        self, function_arn: str, payload: bytes, *, trace_headers: Mapping[str, str] | None = None
    ) -> Outcome:
        """Invoke the function and wait for its answer (RequestResponse), 15 minutes and a margin at most.

        `function_arn` may end with a version or alias, which goes to Qualifier. `trace_headers` go along
        unsigned, as SigV4 asks for X-Amzn-Trace-Id; the payload is sent to the byte as given.
        """
        assert self._http is not None, "enter the Invoker first"
        assert self._signer is not None
        assert self._credentials is not None
        try:
            credentials = await self._credentials.now()
        except Exception as error:  # noqa: BLE001  # providers are plug-ins that raise what they like
            return Unreachable(reason=f"No AWS credentials: {_one_line(error)}", error_type="Credentials")
        if credentials is None:
            return Unreachable(
                reason="No AWS credentials found: set AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE.",
                error_type="Credentials",
            )
        url, headers = self._signer.sign(function_arn, payload, credentials, time.time())
        if trace_headers:
            headers.update(trace_headers)
        return await self._post(url, headers, payload)

    async def _post(self, url: URL, headers: dict[str, str], payload: bytes) -> Outcome:
        assert self._http is not None
        try:
            async with self._http.post(
                url, data=_EventBody(payload), headers=headers, allow_redirects=False
            ) as response:
                body = await _read(response)
                if body is None:
                    reason = f"The reply of {url.host} is larger than {RESPONSE_BYTES_MAX} bytes."
                    return Unreachable(reason=reason, error_type="ResponseTooLarge")
                return read_reply(response.status, response.headers, body)
        except TimeoutError as error:
            reason = f"No answer from {url.origin()} in time: {_one_line(error)}"
            return Unreachable(reason=reason, error_type="Timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: aiohttp's own refusals of a URL or a header, for instance of an endpoint that is not
            # one.
            reason = f"Cannot reach the function at {url.origin()}: {_one_line(error)}"
            return Unreachable(reason=reason, error_type=type(error).__name__)


class InvokerMisconfigured(PollerError):
    """botocore found no region or no valid endpoint for Lambda; the text names what to set."""


class Signer:
    """SigV4 for Invoke requests, with all that does not change between requests computed once.

    The same signature as botocore's SigV4Auth (a test holds them together), at a tenth of its cost: botocore
    parses the URL and derives the signing key anew for every request.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._targets: dict[str, _Target] = {}
        self._key: tuple[str, str, bytes] = ("", "", b"")  # (date, secret, signing key)

    def sign(
        self, function_arn: str, payload: bytes, credentials: ReadOnlyCredentials, now_s: float
    ) -> tuple[URL, dict[str, str]]:
        """The URL of the Invoke request, and its headers with the signature in Authorization."""
        target = self._targets.get(function_arn) or self._target(function_arn)
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

    def _target(self, function_arn: str) -> _Target:
        name, qualifier = split_qualifier(function_arn)
        base = URL(self._endpoint.url)
        path = f"{base.raw_path.rstrip('/')}/2015-03-31/functions/{quote(name, safe='-._~')}/invocations"
        query = f"Qualifier={quote(qualifier, safe='-._~')}" if qualifier else ""
        url = URL(f"{base.origin()}{path}{'?' + query if query else ''}", encoded=True)
        # Every service but S3 signs the path encoded once more (SigV4, "Create a canonical request").
        canonical = f"POST\n{quote(path, safe='/~')}\n{query}\n"
        target = _Target(url=url, host=url.host_port_subcomponent or "", canonical=canonical)
        if len(self._targets) >= _TARGETS_MAX:
            self._targets.clear()
        self._targets[function_arn] = target
        return target


# Mappings come and go over months; a table that starts anew now and then is bound enough.
_TARGETS_MAX: Final = 4096


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


_QUALIFIED_ARN_PARTS: Final = 8


def read_reply(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """One HTTP reply of the Invoke API as an Outcome. `headers` is case-insensitive."""
    request_id = headers.get("x-amzn-RequestId", "")
    if 200 <= status < 300:  # noqa: PLR2004  # HTTP's success class
        function_error = headers.get("X-Amz-Function-Error")
        version = headers.get("X-Amz-Executed-Version", "$LATEST")
        if function_error is None:
            return Delivered(status_code=status, executed_version=version, request_id=request_id, body=body)
        error_type, message = _function_error(body)
        return FunctionError(
            status_code=status,
            executed_version=version,
            request_id=request_id,
            function_error=function_error,
            error_type=error_type,
            message=message,
        )
    code, message, reason = _service_error(headers, body)
    if status == 429:  # noqa: PLR2004  # Too Many Requests
        return Throttled(
            request_id=request_id,
            reason=reason or message or code or "Rate exceeded",
            retry_after_s=_seconds(headers.get("Retry-After")),
        )
    if status == 413:  # noqa: PLR2004  # Content Too Large
        return Unreachable(
            reason=f"The event is too large for the function: {message}", error_type=REQUEST_TOO_LARGE
        )
    sentence = f"Invoke answered {status}{' ' + code if code else ''}: {message or 'no message'}"
    return Unreachable(reason=sentence, error_type=code or f"HTTP{status}")


def _function_error(body: bytes) -> tuple[str, str]:
    """(errorType, errorMessage) of an error payload; what is none is the message itself (RIE's timeouts)."""
    parsed = _json_object(body)
    error_type, message = parsed.get("errorType"), parsed.get("errorMessage")
    if message is None and error_type is None:
        message = body[:MESSAGE_CHARS_MAX].decode(errors="replace")
    return str(error_type or "Unknown"), str(message or "")[:MESSAGE_CHARS_MAX]


def _service_error(headers: Mapping[str, str], body: bytes) -> tuple[str, str, str]:
    """(code, message, Reason) of an AWS error reply; text of any other server stands in for the message."""
    parsed = _json_object(body)
    # The header may carry a namespace after a colon, the body one before a hash.
    code = headers.get("x-amzn-ErrorType", "").partition(":")[0]
    code = code or str(parsed.get("__type") or parsed.get("code") or "").rpartition("#")[2]
    message = parsed.get("message") or parsed.get("Message")
    if message is None:
        message = body[:MESSAGE_CHARS_MAX].decode(errors="replace").strip()
    return code, str(message)[:MESSAGE_CHARS_MAX], str(parsed.get("Reason") or "")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not one that Lambda sends."""
    try:
        seconds = float(header) if header is not None else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None if it is larger than any function's reply may be."""
    if response.content_length is not None:
        return await response.read() if response.content_length <= RESPONSE_BYTES_MAX else None
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > RESPONSE_BYTES_MAX:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


class _EventBody(aiohttp.payload.Payload):
    """The event's bytes in one write: aiohttp's BytesPayload warns above 1 MB, and events go up to 6 MB."""

    _value: bytes
    _autoclose = True

    def __init__(self, value: bytes) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        await writer.write(self._value)


class _CurrentCredentials:
    """Credentials that never block the loop: they are renewed in a thread, by one caller at a time."""

    def __init__(self, source: Credentials | None) -> None:
        self._source = source
        self._frozen: ReadOnlyCredentials | None = None
        self._checked_at_s = float("-inf")
        self._renewal = asyncio.Lock()

    async def now(self) -> ReadOnlyCredentials | None:
        """The credentials to sign with; None when there are none. Raises what the provider raises."""
        if time.monotonic() - self._checked_at_s < CREDENTIAL_CHECK_S:
            return self._frozen
        async with self._renewal:
            if time.monotonic() - self._checked_at_s >= CREDENTIAL_CHECK_S and self._source is not None:
                # Static credentials answer at once; refreshable ones may ask STS or the instance's metadata.
                self._frozen = await asyncio.to_thread(self._source.get_frozen_credentials)
            self._checked_at_s = time.monotonic()
        return self._frozen


def _resolve(session: Session) -> tuple[Endpoint, Credentials | None]:
    """Ask botocore once where Lambda is. Blocks (files, credential providers): call it in a thread."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  # botocore is slow to import

    try:
        meta = session.create_client("lambda").meta
        credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        msg = f"Cannot find Lambda: {error} Set AWS_REGION, and AWS_ENDPOINT_URL_LAMBDA if it is not AWS's."
        raise InvokerMisconfigured(msg) from error
    bundle = session.get_config_variable("ca_bundle")
    return Endpoint(url=meta.endpoint_url, region=meta.region_name, ca_bundle=bundle), credentials


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    from botocore.httpsession import get_cert_path  # noqa: PLC0415  # botocore is slow to import

    return ssl.create_default_context(cafile=endpoint.ca_bundle or get_cert_path(True))  # noqa: FBT003  # its signature


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MESSAGE_CHARS_MAX] or type(error).__name__
