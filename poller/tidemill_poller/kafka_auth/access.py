"""How a client connects to a mapping's cluster: its bootstrap servers, TLS and credentials.

Reads what SourceAccessConfigurations name from Secrets Manager, looks an MSK cluster up by its ARN, signs for
IAM. Knows no Kafka client: `options` are in no client's spelling. The fleet asks before each connect, so what
was fixed or rotated counts from the next one; the control API asks whether the secrets can be used.

    msk ─▶ access_types (the table) ─▶ certificates ─▶ secrets
    secrets_manager │ iam ─▶ aws      tls      each makes parts of options
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tidemill_poller.aws import AwsClients, region_of
from tidemill_poller.errors import SourceUnavailable
from tidemill_poller.kafka_auth import iam, msk
from tidemill_poller.kafka_auth.access_types import ACCESS_TYPES, Credentials
from tidemill_poller.kafka_auth.cluster import AuthMethod
from tidemill_poller.kafka_auth.options import ClientOptions
from tidemill_poller.kafka_auth.secrets import Secret
from tidemill_poller.kafka_auth.secrets_manager import read_secret
from tidemill_poller.kafka_auth.tls import client_context
from tidemill_poller.mapping import Mapping as EventSourceMapping
from tidemill_poller.mapping import MskSource

# AWS that does not answer holds a thread for 20 seconds: others must not wait for it.
_CONNECTING_THREADS: Final = 8
_FOLLOWING_THREADS: Final = 2


class KafkaAccess:
    """Makes a mapping's client options. Its calls ask AWS in threads, and raise SourceUnavailable's kinds."""

    def __init__(
        self, clients: AwsClients, *, ca_file: Path | None = None, version_age_s: float = 0.0
    ) -> None:
        """Raise InvalidSettings when `ca_file`, trusted beside the system's CAs, cannot be used.

        Mappings with the same secret share what `secret_versions` learns for `version_age_s`.
        """
        client_context(ca_file=ca_file)
        self._clients = clients
        self._ca_file = ca_file
        self._version_age_s = version_age_s
        self._seen: dict[str, tuple[str, float]] = {}  # the version of a secret, and when it was asked for
        self._connecting = ThreadPoolExecutor(_CONNECTING_THREADS, "kafka access")
        self._following = ThreadPoolExecutor(_FOLLOWING_THREADS, "kafka secrets")

    async def options(self, mapping: EventSourceMapping) -> ClientOptions:
        """Read the secrets, find the servers, and return what a client needs to connect."""
        return await asyncio.get_running_loop().run_in_executor(self._connecting, self._options, mapping)

    async def check(self, mapping: EventSourceMapping) -> None:
        """Read the secrets and raise if they cannot be used; as on AWS, no cluster is asked."""
        if _secrets(mapping):
            await asyncio.get_running_loop().run_in_executor(self._connecting, self._check, mapping)

    async def secret_versions(self, mapping: EventSourceMapping) -> Mapping[str, str]:
        """Return the current versions of the secrets, as `ClientOptions.secret_versions` does."""
        if not _secrets(mapping):
            return {}
        return await asyncio.get_running_loop().run_in_executor(self._following, self._versions, mapping)

    def _check(self, mapping: EventSourceMapping) -> None:
        given = self._credentials(mapping)
        client_context(ca_file=self._ca_file, root_ca=given.root_ca, certificate=given.certificate)

    def _options(self, mapping: EventSourceMapping) -> ClientOptions:
        given, source = self._credentials(mapping), mapping.source
        if isinstance(source, MskSource):
            method, servers = self._msk_method(source.arn, mapping)
            region = region_of(source.arn)
            signs, tls = method is AuthMethod.IAM, method is not AuthMethod.PLAINTEXT
        else:
            servers = ",".join(source.bootstrap_servers)
            region = iam.region_in(servers)
            signs = any(ACCESS_TYPES[one.type].signs for one in mapping.access)
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

    def _msk_method(self, arn: str, mapping: EventSourceMapping) -> tuple[AuthMethod, str]:
        cluster = msk.describe_cluster(self._clients, arn)
        try:
            return msk.choose(cluster, next(iter(_secrets(mapping)), None))
        except SourceUnavailable as error:
            raise type(error)(f"The MSK cluster {arn} cannot be used: {error}.") from error

    def _credentials(self, mapping: EventSourceMapping) -> Credentials:
        given = Credentials()
        for kind, secret in self._read(mapping).items():
            given.versions[secret.id] = secret.version
            reads = ACCESS_TYPES[kind].reads
            assert reads is not None, "only types whose URI names a secret are read"
            reads(secret, given)
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
    """Return the types of secrets that a mapping names, and where each is."""
    return {one.type: one.uri for one in mapping.access if ACCESS_TYPES[one.type].reads}
