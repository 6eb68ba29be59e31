"""An AWS rest-json server driven by botocore's service models: routes, parses, validates and serialises.

A product of its own that knows none of Tidemill's programs. Used by functions, poller.control_api and
tidemill_broker.control_plane; the gateway borrows its reading of credential scopes.
"""

from tidemill_awsapi.bodies import OverBudget, read_as_sent, read_body
from tidemill_awsapi.body_budget import OVER_BUDGET, RETRY_AFTER_S, BodyAccount
from tidemill_awsapi.connections import (
    TIMED_OUT,
    Connection,
    ConnectionLimits,
    ConnectionTable,
    HttpServer,
    allow_many_files,
    http_server,
)
from tidemill_awsapi.errors import ApiError
from tidemill_awsapi.foreign_pages import is_foreign, is_public_name, refuse_foreign_pages
from tidemill_awsapi.malformed import keep_bytes_out_of_logs
from tidemill_awsapi.model import load_service
from tidemill_awsapi.scope import CredentialScope, credential_scope
from tidemill_awsapi.server import MAX_BODY_BYTES, Call, Handler, Service

__all__ = [
    "MAX_BODY_BYTES",
    "OVER_BUDGET",
    "RETRY_AFTER_S",
    "TIMED_OUT",
    "ApiError",
    "BodyAccount",
    "Call",
    "Connection",
    "ConnectionLimits",
    "ConnectionTable",
    "CredentialScope",
    "Handler",
    "HttpServer",
    "OverBudget",
    "Service",
    "allow_many_files",
    "credential_scope",
    "http_server",
    "is_foreign",
    "is_public_name",
    "keep_bytes_out_of_logs",
    "load_service",
    "read_as_sent",
    "read_body",
    "refuse_foreign_pages",
]
