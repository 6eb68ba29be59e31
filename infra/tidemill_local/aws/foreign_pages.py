"""Owns the rejection of web pages' requests in front of moto, which lets pages of every origin read replies.

The gateway rejects them too; this is for pages that find moto by its own port. Pure.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tidemill_awsapi import is_foreign


def refusing_foreign_pages(application: WSGIApplication) -> WSGIApplication:
    """Wrap moto's application: a request of a page of another origin gets 403."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        origin, fetch_site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")
        if is_foreign(origin, fetch_site, environ.get("HTTP_HOST", ""), on_loopback=True):
            start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
        return application(environ, start_response)

    return answer
