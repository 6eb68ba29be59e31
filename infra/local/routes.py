"""Owns the choice of the program that answers a request, by SigV4 scope and raw path.

Pure; called by the gateway.
"""

import re
from collections.abc import Mapping
from typing import Literal

from infra.awsapi import credential_scope

Upstream = Literal["functions", "poller", "broker", "aws"]

# Lambda dates its API versions in the path: /2015-03-31/functions/…
_LAMBDA_PATH = re.compile(r"/20\d\d-\d\d-\d\d/\w")
_MAPPINGS_PATH = re.compile(r"/20\d\d-\d\d-\d\d/event-source-mappings(/|$)")
_MAPPING_TAGS_PATH = re.compile(
    r"/20\d\d-\d\d-\d\d/tags/[^/]*(:|%3A)event-source-mapping(:|%3A)", re.IGNORECASE
)
_MSK_PATH = re.compile(r"/(v1|api/v2)/clusters(/|$)")
# Programs' own routes: /_tidemill/poller/health goes to the poller as /_tidemill/health.
_OWN_PATH = re.compile(r"/_tidemill/(functions|poller|broker)(/.*)")
# Routes about a mapping are the poller's whole: consoles and scripts need not know who serves them.
_MAPPING_STATUS_PREFIX = "/_tidemill/mappings"


def upstream_of(raw_path: str, query_string: str, headers: Mapping[str, str]) -> tuple[Upstream, str]:
    """Who answers, and the raw path to ask it for (the same one, but for our own ``/_tidemill/`` routes).

    The scope decides when there is one: an S3 key may look like any path. Unsigned requests go by their path.
    """
    if raw_path.startswith("/_tidemill/"):
        return _own_route(raw_path)
    scope = credential_scope(headers, query_string)
    service = _service_of_path(raw_path) if scope is None else scope.service
    if service == "lambda":
        to_poller = _MAPPINGS_PATH.match(raw_path) or _MAPPING_TAGS_PATH.match(raw_path)
        return ("poller" if to_poller else "functions"), raw_path
    return ("broker" if service == "kafka" else "aws"), raw_path


def _own_route(raw_path: str) -> tuple[Upstream, str]:
    if raw_path.startswith(_MAPPING_STATUS_PREFIX):
        return "poller", raw_path
    if own := _OWN_PATH.fullmatch(raw_path):
        program: Upstream = own[1]  # type: ignore[assignment]  # the pattern's alternatives are the literal's
        return program, "/_tidemill" + own[2]
    return "aws", raw_path


def _service_of_path(raw_path: str) -> str:
    if _LAMBDA_PATH.match(raw_path):
        return "lambda"
    return "kafka" if _MSK_PATH.match(raw_path) else ""
