"""Owns the choice of the program that answers a request, by SigV4 scope and raw path.

Pure; called by the gateway.
"""

import re
from collections.abc import Mapping
from typing import Literal

from tidemill_awsapi import credential_scope

Upstream = Literal["functions", "poller", "broker", "aws"]

# Lambda dates its API versions in the path: /2015-03-31/functions/…
_LAMBDA_PATH = re.compile(r"/20\d\d-\d\d-\d\d/\w")
_MAPPINGS_PATH = re.compile(r"/20\d\d-\d\d-\d\d/event-source-mappings(/|$)")
_MAPPING_TAGS_PATH = re.compile(
    r"/20\d\d-\d\d-\d\d/tags/[^/]*(:|%3A)event-source-mapping(:|%3A)", re.IGNORECASE
)
_MSK_PATH = re.compile(r"/(v1|api/v2)/clusters(/|$)")
# The programs' own routes: what a route is about says who serves it.
_OWN_PATH = re.compile(r"/_tidemill/(functions|mappings)(/|$)")
_OWN_UPSTREAMS: Mapping[str, Upstream] = {"functions": "functions", "mappings": "poller"}


def upstream_of(raw_path: str, query_string: str, headers: Mapping[str, str]) -> Upstream | None:
    """Return the program that answers; None for a ``/_tidemill/`` route that no program has.

    The scope decides when there is one: an S3 key may look like any path. Unsigned requests go by their path.
    """
    if raw_path.startswith("/_tidemill/"):
        own = _OWN_PATH.match(raw_path)
        return _OWN_UPSTREAMS[own[1]] if own else None
    scope = credential_scope(headers, query_string)
    service = _service_of_path(raw_path) if scope is None else scope.service
    if service == "lambda":
        to_poller = _MAPPINGS_PATH.match(raw_path) or _MAPPING_TAGS_PATH.match(raw_path)
        return "poller" if to_poller else "functions"
    return "broker" if service == "kafka" else "aws"


def _service_of_path(raw_path: str) -> str:
    if _LAMBDA_PATH.match(raw_path):
        return "lambda"
    return "kafka" if _MSK_PATH.match(raw_path) else ""
