"""Owns the command line's way to the endpoint: boto3 clients, our own HTTP routes, and Kafka's addresses."""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tidemill_cli.errors import UserError, reason_of
from tidemill_local.programs import has_credentials
from tidemill_local.settings import DEFAULT_PORT, DEFAULT_REGION

DEFAULT_ENDPOINT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
_CONNECT_TIMEOUT_S = 3
# An Invoke may take a function's whole 15 minutes.
_READ_TIMEOUT_S = 16 * 60
_OWN_ROUTE_TIMEOUT_S = 30


class Endpoint:
    """The one endpoint that a command talks to."""

    def __init__(self, url: str | None) -> None:
        self.url = (url or DEFAULT_ENDPOINT_URL).rstrip("/")
        address = urlsplit(self.url)
        if address.scheme not in {"http", "https"} or not address.netloc:
            raise UserError(f"{self.url!r} is not a URL.", hint=f"Write it as {DEFAULT_ENDPOINT_URL}.")

    @cached_property
    def session(self) -> Any:
        """Return the boto3 session, with the user's credentials or the emulators' usual ones."""
        import boto3

        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
        if has_credentials(os.environ):
            return boto3.Session(region_name=region)
        # These are the administrator of the local broker; an SDK cannot sign without something to sign with.
        return boto3.Session(region_name=region, aws_access_key_id="test", aws_secret_access_key="test")  # noqa: S106 - no secret: every emulator accepts them

    def aws(self, service: str, *, region: str | None = None) -> Any:
        """Return a boto3 client of one service behind the endpoint; the user's region unless one is given."""
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        return self.session.client(service, endpoint_url=self.url, region_name=region, config=config)

    def own(self, method: str, path: str, document: Any = None) -> Any:
        """Call a ``/_tidemill/`` route and return its JSON."""
        with self._open(method, path, document) as reply:
            return json.loads(reply.read() or b"null")

    def stream(self, path: str, *, silence_s: float | None = None) -> Iterator[bytes]:
        """Yield the lines of a ``/_tidemill/`` route as they come, until none came for `silence_s`."""
        with self._open("GET", path, None, timeout_s=silence_s) as reply:
            try:
                yield from reply
            except TimeoutError:
                return
            except (OSError, HTTPException):
                raise UserError(f"{self.url} closed the connection.") from None

    def _open(
        self, method: str, path: str, document: Any, *, timeout_s: float | None = _OWN_ROUTE_TIMEOUT_S
    ) -> Any:
        request = Request(  # noqa: S310 - the user's own endpoint, http or https
            self.url + path,
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            return urlopen(request, timeout=timeout_s)  # noqa: S310 - as above
        except HTTPError as error:
            raise UserError(_sentence_of(error), reason=reason_of(dict(error.headers))) from None
        except OSError as error:
            raise UserError(
                f"Cannot reach {self.url}: {getattr(error, 'reason', error)}.",
                hint="Is `tidemill up` running? Start it, or name another endpoint with --endpoint-url.",
            ) from None

    @cached_property
    def cluster_arn(self) -> str:
        """Return the ARN of the one cluster behind the endpoint."""
        clusters = self.aws("kafka").list_clusters_v2()["ClusterInfoList"]
        if not clusters:
            raise UserError("The endpoint has no Kafka cluster.", hint="Name one with --cluster-arn.")
        return str(clusters[0]["ClusterArn"])

    @property
    def cluster_region(self) -> str:
        """Return the cluster's region: its secrets are there, and logins are signed for it."""
        return self.cluster_arn.split(":")[3]

    def bootstrap_brokers(self) -> Mapping[str, str]:
        """Return the Kafka addresses of the cluster behind the endpoint, by GetBootstrapBrokers' names."""
        brokers: Mapping[str, str] = self.aws("kafka").get_bootstrap_brokers(ClusterArn=self.cluster_arn)
        return brokers

    def secret(self, name: str) -> Mapping[str, str] | None:
        """Return a secret's JSON from Secrets Manager; None if there is no such secret."""
        reply = self._secret_value(name)
        return None if reply is None else json.loads(reply["SecretString"])

    def secret_arn(self, name: str) -> str | None:
        """Return a secret's ARN without its suffix, which changes when the embedded AWS starts again."""
        reply = self._secret_value(name)
        return None if reply is None else str(reply["ARN"]).rpartition("-")[0]

    def _secret_value(self, name: str) -> Any:
        client = self.aws("secretsmanager", region=self.cluster_region)
        try:
            return client.get_secret_value(SecretId=name)
        except client.exceptions.ResourceNotFoundException:
            return None


def _sentence_of(error: HTTPError) -> str:
    """Return what a program said about a request that it rejected."""
    try:
        body = json.loads(error.read())
        return str(body.get("error") or body.get("message") or body.get("Message") or body)
    except (ValueError, AttributeError):
        return f"{error.url} answered {error.code} {error.reason}."
