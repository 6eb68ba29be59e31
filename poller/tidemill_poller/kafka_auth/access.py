"""How a mapping's cluster is entered: its bootstrap servers, TLS, and who logs in.

Reads what SourceAccessConfigurations name from Secrets Manager, asks the MSK API for a cluster by its ARN,
signs for IAM. Knows no Kafka client: `options` are in nobody's spelling. The fleet asks before each connect,
so what was mended or rotated counts from the next one; the control API asks whether the secrets can be used.

    secrets_manager │ msk │ iam ─▶ aws      certificates ─▶ secrets      tls      each makes parts of options
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import boto3

from tidemill_poller.aws import AwsClients, region_of
from tidemill_poller.errors import SourceUnavailable
from tidemill_poller.kafka_auth import iam, msk
from tidemill_poller.kafka_auth.certificates import ClientCertificate, read_client_certificate, read_root_ca
from tidemill_poller.kafka_auth.options import ClientOptions, SaslMechanism
from tidemill_poller.kafka_auth.secrets import Login, Secret, read_login
from tidemill_poller.kafka_auth.secrets_manager import read_secret
from tidemill_poller.kafka_auth.tls import client_context
from tidemill_poller.mapping import Mapping as EventSourceMapping
from tidemill_poller.mapping import MskSource

_SASL: Final[Mapping[str, SaslMechanism]] = {
    "BASIC_AUTH": "PLAIN",
    "SASL_SCRAM_256_AUTH": "SCRAM-SHA-256",
    "SASL_SCRAM_512_AUTH": "SCRAM-SHA-512",
}
_CERTIFICATE: Final = "CLIENT_CERTIFICATE_TLS_AUTH"
_ROOT_CA: Final = "SERVER_ROOT_CA_CERTIFICATE"
_SECRETS: Final = {*_SASL, _CERTIFICATE, _ROOT_CA}

# AWS that does not answer holds a thread for 20 seconds: it must not be one that somebody else waits for.
_CONNECTING_THREADS: Final = 8
_FOLLOWING_THREADS: Final = 2


@dataclass(slots=True, kw_only=True)
class _Given:
    """What the secrets of a mapping hold."""

    versions: dict[str, str] = field(default_factory=dict)
    root_ca: str | None = None
    certificate: ClientCertificate | None = None
    mechanism: SaslMechanism | None = None
    login: Login | None = None


class KafkaAccess:
    """Makes a mapping's way in. All its calls ask AWS in threads, and raise SourceUnavailable's kinds."""

    def __init__(
        self, session: boto3.Session, *, ca_file: Path | None = None, version_age_s: float = 0.0
    ) -> None:
        """Raise InvalidSettings when `ca_file`, trusted beside the system's CAs, cannot be used.

        Mappings with the same secret share what `secret_versions` learns for `version_age_s`.
        """
        client_context(ca_file=ca_file)
        self._clients = AwsClients(session)
        self._ca_file = ca_file
        self._version_age_s = version_age_s
        self._seen: dict[str, tuple[str, float]] = {}  # the version of a secret, and when it was asked for
        self._connecting = ThreadPoolExecutor(_CONNECTING_THREADS, "kafka access")
        self._following = ThreadPoolExecutor(_FOLLOWING_THREADS, "kafka secrets")

    async def options(self, mapping: EventSourceMapping) -> ClientOptions:
        """Read the secrets, find the servers, and give what a client needs to connect."""
        return await asyncio.get_running_loop().run_in_executor(self._connecting, self._options, mapping)

    async def check(self, mapping: EventSourceMapping) -> None:
        """Read the secrets and raise if they cannot be used; as on AWS, no cluster is asked."""
        if _secrets(mapping):
            await asyncio.get_running_loop().run_in_executor(self._connecting, self._check, mapping)

    async def secret_versions(self, mapping: EventSourceMapping) -> Mapping[str, str]:
        """Give the current versions of the secrets, as `ClientOptions.secret_versions` does."""
        if not _secrets(mapping):
            return {}
        return await asyncio.get_running_loop().run_in_executor(self._following, self._versions, mapping)

    def _check(self, mapping: EventSourceMapping) -> None:
        given = self._given(mapping)
        client_context(ca_file=self._ca_file, root_ca=given.root_ca, certificate=given.certificate)

    def _options(self, mapping: EventSourceMapping) -> ClientOptions:
        given, source = self._given(mapping), mapping.source
        if isinstance(source, MskSource):
            way, servers = self._msk_way(source.arn, mapping)
            region, signs, tls = region_of(source.arn), way is msk.Way.IAM, way is not msk.Way.PLAINTEXT
        else:
            servers = ",".join(source.bootstrap_servers)
            region, signs = iam.region_in(servers), any(one.type == "IAM_AUTH" for one in mapping.access)
            tls = signs or bool(given.versions)
        session = self._clients.session
        return ClientOptions(
            bootstrap_servers=servers,
            ssl_context=client_context(
                ca_file=self._ca_file, root_ca=given.root_ca, certificate=given.certificate
            )
            if tls
            else None,
            sasl_mechanism="OAUTHBEARER" if signs else given.mechanism,
            username=given.login.username if given.login else "",
            password=given.login.password if given.login else "",
            sign=iam.token_signer(session, region or session.region_name) if signs else None,
            secret_versions=given.versions,
        )

    def _msk_way(self, arn: str, mapping: EventSourceMapping) -> tuple[msk.Way, str]:
        cluster = msk.ask(self._clients, arn)
        try:
            return msk.choose(cluster, next(iter(_secrets(mapping)), None))
        except SourceUnavailable as error:
            raise type(error)(f"The MSK cluster {arn} cannot be entered: {error}.") from error

    def _given(self, mapping: EventSourceMapping) -> _Given:
        given = _Given()
        for kind, secret in self._read(mapping).items():
            given.versions[secret.id] = secret.version
            if kind == _ROOT_CA:
                given.root_ca = read_root_ca(secret)
            elif kind == _CERTIFICATE:
                given.certificate = read_client_certificate(secret, now=datetime.now(UTC))
            else:
                given.mechanism, given.login = _SASL[kind], read_login(secret)
        return given

    def _read(self, mapping: EventSourceMapping) -> dict[str, Secret]:
        return {kind: self._read_one(uri) for kind, uri in _secrets(mapping).items()}

    def _read_one(self, uri: str) -> Secret:
        asked_s = time.monotonic()
        secret = read_secret(self._clients, uri)
        self._seen[uri] = secret.version, asked_s
        return secret

    def _versions(self, mapping: EventSourceMapping) -> dict[str, str]:
        return {uri: self._version(uri) for uri in _secrets(mapping).values()}

    def _version(self, uri: str) -> str:
        version, asked_s = self._seen.get(uri, ("", float("-inf")))
        if time.monotonic() - asked_s < self._version_age_s:
            return version
        return self._read_one(uri).version


def _secrets(mapping: EventSourceMapping) -> dict[str, str]:
    """Give the kinds of secrets that a mapping names, and where each is."""
    return {one.type: one.uri for one in mapping.access if one.type in _SECRETS}
