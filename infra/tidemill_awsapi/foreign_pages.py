"""Owns the rejection of web pages of other origins: they may not use a server on this machine.

No signature is verified here, so without this any site that a user visits could create and invoke code.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# Special-use domains (IANA's registry, and ICANN's .internal): the public DNS resolves no name below them.
_PRIVATE_DOMAINS = frozenset({"localhost", "internal", "local", "test", "home.arpa"})
_LOOPBACK_SOCKETS = ("127.", "::1", "::ffff:127.")


def is_foreign(origin: str | None, fetch_site: str | None, host: str, *, on_loopback: bool) -> bool:
    """Whether a browser sends this for a page that was not served from this machine.

    Browsers name the page's origin with every request that can change something, and its relation to us with
    most others (Fetch Metadata); SDKs send neither. A page can also have its own name resolve to 127.0.0.1:
    its GETs then carry neither header, so a loopback connection accepts no name of the public DNS.
    """
    if on_loopback and is_public_name(host):
        return True
    if origin is None:
        return fetch_site == "cross-site"
    return not (_is_local(_origins_hostname(origin)) and _is_local(_hostname(host)))


@lru_cache(maxsize=256)
def is_public_name(host: str) -> bool:
    """Whether a Host header holds a name of the public DNS, whose owner decides what it resolves to."""
    name = _hostname(host)
    if name is None:
        return bool(host)
    try:
        ip_address(name)
    except ValueError:
        labels = name.rstrip(".").split(".")
        return len(labels) > 1 and _PRIVATE_DOMAINS.isdisjoint((labels[-1], ".".join(labels[-2:])))
    return False


@web.middleware
async def refuse_foreign_pages(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer 403 to a page from elsewhere, before anything of its request is read."""
    headers = request.headers
    fetch_site, host = headers.get("Sec-Fetch-Site"), headers.get("Host", "")
    if is_foreign(headers.get("Origin"), fetch_site, host, on_loopback=_on_loopback(request)):
        return web.json_response(
            {"message": "Web pages from elsewhere may not use this endpoint: call it as localhost."},
            status=403,
            headers={"x-amzn-ErrorType": "AccessDeniedException"},
        )
    return await handler(request)


def _on_loopback(request: web.Request) -> bool:
    address = request.transport and request.transport.get_extra_info("sockname")
    return not address or str(address[0]).startswith(_LOOPBACK_SOCKETS)


def _origins_hostname(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:  # half of an IPv6 address: whose page it is, nobody can say
        return None


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:  # half of an IPv6 address
        return None


def _is_local(host: str | None) -> bool:
    return host is not None and (host in _LOCAL_HOSTS or host.endswith(".localhost"))
