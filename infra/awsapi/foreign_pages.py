"""Owns the refusal of web pages: a page from elsewhere may not use a server on this machine.

No signature is verified here, so without this any site that a user visits could create and invoke code.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def is_foreign(request: web.BaseRequest) -> bool:
    """Whether a browser sends this for a page that was not served from this machine.

    Browsers name the page's origin with every request that can change something, and its relation to us with
    all others (Fetch Metadata); SDKs send neither. The host is looked at too: a page can have its own name
    resolve to 127.0.0.1.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site") == "cross-site"
    return not (_is_local(urlsplit(origin).hostname) and _is_local(urlsplit(f"//{request.host}").hostname))


@web.middleware
async def refuse_foreign_pages(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer 403 to a page from elsewhere, before anything of its request is read."""
    if is_foreign(request):
        return web.json_response(
            {"message": "Web pages from elsewhere may not use this endpoint: serve the page from localhost."},
            status=403,
            headers={"x-amzn-ErrorType": "AccessDeniedException"},
        )
    return await handler(request)


def _is_local(host: str | None) -> bool:
    return host is not None and (host in _LOCAL_HOSTS or host.endswith(".localhost"))
