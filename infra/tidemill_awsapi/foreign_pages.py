"""Owns the rejection of web pages of other origins: they may not use a server on this machine.

No signature is verified here, so without this any site that a user visits could create and invoke code.
Authority: RFC 6454 (Origin), RFC 9110 section 7.2 (Host), W3C Fetch Metadata. Each header is matched whole:
what is not in the form that browsers send is treated as a foreign page's.
"""

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from aiohttp import web

_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# Names that neither the public DNS nor another machine of the network can answer for: special-use domains of
# this machine, and the names that Docker and Podman give it. .local (mDNS) and .home.arpa (a router's leases)
# are claimed by whoever is in the network, so they are not among them.
_PRIVATE_DOMAINS: Final = ("localhost", "test", "docker.internal", "containers.internal")
_LOOPBACK_SOCKETS: Final = ("127.", "::1", "::ffff:127.")
_ORIGIN: Final = re.compile(r"https?://(.+)", re.DOTALL)
_NETLOC: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]+))(?::[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
# A page of this origin or of another port, and what the user typed.
_NEAR_SITES: Final = frozenset({"same-origin", "same-site", "none"})


def is_foreign(origin: str | None, fetch_site: str | None, host: str, *, on_loopback: bool) -> bool:
    """Return whether a browser sends this for a page that was not served from this machine.

    Browsers name the page's origin with every request that can change something, and its relation to us with
    most others (Fetch Metadata); SDKs send neither. A page can also have its own name resolve to 127.0.0.1:
    its GETs then carry neither header, so a loopback connection accepts no name that others may resolve.
    A header that came several times is given joined by commas, as WSGI has it, and is foreign.
    """
    if on_loopback and is_public_name(host):
        return True
    if origin is None:
        return fetch_site is not None and fetch_site not in _NEAR_SITES
    # A page of another port of this machine is cross-site when the two are spelled localhost and 127.0.0.1.
    is_known_site = fetch_site is None or fetch_site in _NEAR_SITES or fetch_site == "cross-site"
    return not (is_known_site and _is_local(_origin_name(origin)) and _is_local(_name(host)))


@lru_cache(maxsize=256)
def is_public_name(host: str) -> bool:
    """Return whether a Host header holds a name that somebody else may resolve to this machine."""
    name = _name(host)
    if name is None:
        return bool(host)
    if _is_address(name):
        return False
    name = name.removesuffix(".")
    return "." in name and not any(name.endswith(f".{domain}") for domain in _PRIVATE_DOMAINS)


@web.middleware
async def refuse_foreign_pages(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer 403 to a page from elsewhere, before anything of its request is read."""
    origin, fetch_site = _joined(request, "Origin"), _joined(request, "Sec-Fetch-Site")
    host = _joined(request, "Host") or ""
    if is_foreign(origin, fetch_site, host, on_loopback=_on_loopback(request)):
        return web.json_response(
            {"message": "Web pages from elsewhere may not use this endpoint: call it as localhost."},
            status=403,
            headers={"x-amzn-ErrorType": "AccessDeniedException"},
        )
    return await handler(request)


def _joined(request: web.Request, header: str) -> str | None:
    values = request.headers.getall(header, [])
    return ",".join(values) if values else None


def _on_loopback(request: web.Request) -> bool:
    address = request.transport and request.transport.get_extra_info("sockname")
    return not address or str(address[0]).startswith(_LOOPBACK_SOCKETS)


def _origin_name(origin: str) -> str | None:
    match = _ORIGIN.fullmatch(origin)
    return _name(match[1]) if match else None


def _name(netloc: str) -> str | None:
    """Return the name or address in ``name:port``, in lower case; None for anything else."""
    match = _NETLOC.fullmatch(netloc)
    if match is None:
        return None
    address, name = match.groups()
    if address is None:
        return str(name).lower()
    return address if _is_address(address) else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(name: str | None) -> bool:
    return name is not None and (name in _LOCAL_HOSTS or name.endswith(".localhost"))
