"""Calls the function: one Invoke request in, one Outcome out, for every reply, fault and timeout.

Owns the connection pool, the endpoint and the SigV4 signature of the hot path. Knows nothing of records,
retries or offsets: the lane builds the event and acts on the outcome. Raises nothing but CancelledError once
it is open.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import aiohttp
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path
from botocore.session import Session
from yarl import URL

from tidemill_poller.errors import PollerError
from tidemill_poller.invoke.credentials import CurrentCredentials
from tidemill_poller.invoke.replies import one_line, read_reply, read_revision
from tidemill_poller.invoke.signing import Endpoint, Signer
from tidemill_poller.retry import Outcome, Unreachable

# Lambda's longest timeout is 15 minutes ("Lambda quotas"); the margin is for queueing and for the way there.
INVOKE_TIMEOUT_S: Final = 900 + 30
CONNECT_TIMEOUT_S: Final = 5
# Lambda's limit of a synchronous response is 6 MB; a peer that sends more is not Lambda.
_CONFIGURATION_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
RESPONSE_BYTES_MAX: Final = 8 * 1024 * 1024
# One request a lane at a time, so this bounds how many lanes invoke at once; the others wait for a
# connection.
CONNECTIONS_MAX: Final = 1024
# Shorter than what servers keep idle connections for, so that we rarely send into one that is just being
# closed.
KEEPALIVE_S: Final = 15


class Invoker:
    """Invokes functions over one bounded pool of kept connections. Use as an async context manager.

    `session` is a botocore session: endpoint, region, profile and credentials are found as every AWS client
    finds them (AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, the profile's services section, …).
    """

    def __init__(self, session: Session, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._session = session
        self._connections_max = connections_max
        self._http: aiohttp.ClientSession | None = None
        self._credentials: CurrentCredentials | None = None
        self._signer: Signer | None = None

    async def __aenter__(self) -> Self:
        endpoint, credentials = await asyncio.to_thread(_resolve, self._session)
        self._signer = Signer(endpoint)
        self._credentials = CurrentCredentials(credentials)
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
        except Exception as error:  # noqa: BLE001 - providers are plug-ins that raise what they like
            return Unreachable(reason=f"No AWS credentials: {one_line(error)}", error_type="Credentials")
        if credentials is None:
            return Unreachable(
                reason="No AWS credentials found: set AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE.",
                error_type="Credentials",
            )
        url, headers = self._signer.sign(function_arn, payload, credentials, time.time())
        if trace_headers:
            headers.update(trace_headers)
        return await self._post(url, headers, payload)

    async def revision(self, function_arn: str) -> str | None:
        """Return what changes with a function's code and configuration; None when nobody can say.

        A function that does not exist has a revision too. Raises nothing.
        """
        assert self._http is not None, "enter the Invoker first"
        assert self._signer is not None
        assert self._credentials is not None
        try:
            credentials = await self._credentials.now()
            if credentials is None:
                return None
            url, headers = self._signer.sign(
                function_arn, b"", credentials, time.time(), operation="configuration"
            )
            async with self._http.get(
                url, headers=headers, allow_redirects=False, timeout=_CONFIGURATION_TIMEOUT
            ) as response:
                return read_revision(response.status, await _read(response) or b"")
        except Exception:  # noqa: BLE001 - providers are plug-ins that raise what they like
            return None

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
            reason = f"No answer from {url.origin()} in time: {one_line(error)}"
            return Unreachable(reason=reason, error_type="Timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: aiohttp's own refusals of a URL or a header, for instance of an endpoint that is not
            # one.
            reason = f"Cannot reach the function at {url.origin()}: {one_line(error)}"
            return Unreachable(reason=reason, error_type=type(error).__name__)


class InvokerMisconfigured(PollerError):
    """botocore found no region or no valid endpoint for Lambda; the text names what to set."""


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


def _resolve(session: Session) -> tuple[Endpoint, Credentials | None]:
    """Ask botocore once where Lambda is. Blocks (files, credential providers): call it in a thread."""
    try:
        meta = session.create_client("lambda").meta
        credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        msg = f"Cannot find Lambda: {error} Set AWS_REGION, and AWS_ENDPOINT_URL_LAMBDA if it is not AWS's."
        raise InvokerMisconfigured(msg) from error
    bundle = session.get_config_variable("ca_bundle")
    return Endpoint(url=meta.endpoint_url, region=meta.region_name, ca_bundle=bundle), credentials


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=endpoint.ca_bundle or get_cert_path(True))  # noqa: FBT003 - its signature
