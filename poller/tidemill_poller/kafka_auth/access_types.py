"""The types of SourceAccessConfigurations: one row each, with its rules and what a client gets from it.

A new type is a row here and, if its secret holds something new, a module that reads it. The control API
checks what a mapping names (`check_access`), `access` makes a client's options. AWS's texts for what is
rejected here are not known, so each says in our words what to change. Facts: AWS Lambda API reference,
SourceAccessConfiguration; Developer Guide, kafka-cluster-auth and msk-cluster-auth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from tidemill_poller.errors import InvalidParameter
from tidemill_poller.kafka_auth.certificates import ClientCertificate, read_client_certificate, read_root_ca
from tidemill_poller.kafka_auth.cluster import AuthMethod, MskCluster
from tidemill_poller.kafka_auth.options import SaslMechanism
from tidemill_poller.kafka_auth.secrets import Login, Secret, read_login
from tidemill_poller.mapping import SourceAccess
from tidemill_poller.mapping.rejections import not_built


@dataclass(slots=True, kw_only=True)
class Credentials:
    """What the secrets of a mapping hold."""

    versions: dict[str, str] = field(default_factory=dict)
    root_ca: str | None = None
    certificate: ClientCertificate | None = None
    mechanism: SaslMechanism | None = None
    login: Login | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MskUse:
    """How an MSK cluster is entered with a type's secret."""

    method: AuthMethod
    enabled: Callable[[MskCluster], bool]
    called: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessType:
    """One type: the rules for naming it, then what it gives."""

    name: str
    authenticates: bool = False
    """A mapping has one such type, or none."""
    takes_uri: bool = True
    uri_prefix: str = ""
    """What is before a network component's id; AWS CDK leaves out its kind, up to the colon."""
    once: bool = False
    needs: frozenset[str] = frozenset()
    """The types of which one must stand beside it."""
    built: bool = True

    reads: Callable[[Secret, Credentials], None] | None = None
    """Takes what a client needs from the secret at the URI; None: the URI names no secret."""
    signs: bool = False
    """The client signs a token with the poller's AWS credentials."""
    msk: MskUse | None = None
    """None: not for an MSK cluster."""


def _login(mechanism: SaslMechanism) -> Callable[[Secret, Credentials], None]:
    def read(secret: Secret, credentials: Credentials) -> None:
        credentials.mechanism, credentials.login = mechanism, read_login(secret)

    return read


def _client_certificate(secret: Secret, credentials: Credentials) -> None:
    credentials.certificate = read_client_certificate(secret, now=datetime.now(UTC))


def _root_ca(secret: Secret, credentials: Credentials) -> None:
    credentials.root_ca = read_root_ca(secret)


_OAUTH: Final = frozenset({"OAUTHBEARER_AUTH"})

_ROWS: Final = (
    AccessType(name="BASIC_AUTH", authenticates=True, reads=_login("PLAIN")),
    AccessType(name="SASL_SCRAM_256_AUTH", authenticates=True, reads=_login("SCRAM-SHA-256")),
    AccessType(
        name="CLIENT_CERTIFICATE_TLS_AUTH",
        authenticates=True,
        reads=_client_certificate,
        msk=MskUse(
            method=AuthMethod.TLS, enabled=lambda cluster: cluster.mtls, called="TLS client authentication"
        ),
    ),
    AccessType(
        name="SASL_SCRAM_512_AUTH",
        authenticates=True,
        reads=_login("SCRAM-SHA-512"),
        msk=MskUse(method=AuthMethod.SCRAM, enabled=lambda cluster: cluster.scram, called="SASL/SCRAM"),
    ),
    AccessType(name="IAM_AUTH", authenticates=True, takes_uri=False, signs=True),
    AccessType(name="SERVER_ROOT_CA_CERTIFICATE", once=True, reads=_root_ca),
    # The network is the machine's own, so VPC components need no action.
    AccessType(name="VPC_SUBNET", uri_prefix="subnet:subnet-", needs=frozenset({"VPC_SECURITY_GROUP"})),
    AccessType(name="VPC_SECURITY_GROUP", uri_prefix="security_group:sg-", needs=frozenset({"VPC_SUBNET"})),
    AccessType(name="OAUTHBEARER_AUTH", authenticates=True, built=False),
    AccessType(name="OAUTHBEARER_SCOPE", needs=_OAUTH, built=False),
    AccessType(name="OAUTHBEARER_AUDIENCE", needs=_OAUTH | {"IAM_OAUTHBEARER_AUTH"}, built=False),
    AccessType(name="OAUTHBEARER_LOGICAL_CLUSTER", needs=_OAUTH, built=False),
    AccessType(name="OAUTHBEARER_IDENTITY_POOL", needs=_OAUTH, built=False),
    # By its need it excludes every other OAUTHBEARER type.
    AccessType(
        name="IAM_OAUTHBEARER_AUTH",
        authenticates=True,
        takes_uri=False,
        needs=frozenset({"OAUTHBEARER_AUDIENCE"}),
        built=False,
    ),
)
ACCESS_TYPES: Final[Mapping[str, AccessType]] = {row.name: row for row in _ROWS}
"""Every type of the API but VIRTUAL_HOST, which is RabbitMQ's."""


def check_access(access: Sequence[SourceAccess], *, msk: bool) -> None:
    """Check what a mapping names.

    Raises InvalidParameter for a type that is not for this kind of source, a URI that does not fit its type,
    types that must come together or must not, and a type that Tidemill has not built.
    """
    rows = [_checked(one, msk=msk) for one in access]
    _check_together(rows)
    for row in rows:
        if not row.built:
            not_built(f"SourceAccessConfigurations type {row.name}")


def _checked(one: SourceAccess, *, msk: bool) -> AccessType:
    if not one.type:
        raise InvalidParameter("Every entry of SourceAccessConfigurations needs a Type.")
    row = ACCESS_TYPES.get(one.type)
    if row is None or (msk and row.msk is None):
        source = "an Amazon MSK" if msk else "a self-managed Kafka"
        raise InvalidParameter(
            f"SourceAccessConfigurations type {one.type} is not for {source} event source."
        )
    if one.uri and not row.takes_uri:
        raise InvalidParameter(f"SourceAccessConfigurations type {row.name} takes no URI: leave it out.")
    if row.takes_uri and not one.uri:
        raise InvalidParameter(f"SourceAccessConfigurations type {row.name} needs a URI.")
    prefix = row.uri_prefix
    without_kind = prefix.rpartition(":")[2]
    if not one.uri.startswith((prefix, without_kind)) or (prefix and one.uri in {prefix, without_kind}):
        raise InvalidParameter(
            f"The URI of {row.name} must look like {prefix}0123456789abcdef0, not '{one.uri}'."
        )
    return row


def _check_together(rows: Sequence[AccessType]) -> None:
    names = [row.name for row in rows]
    mechanisms = [row.name for row in rows if row.authenticates]
    if len(mechanisms) > 1:
        raise InvalidParameter(
            f"SourceAccessConfigurations must have one authentication mechanism, not {', '.join(mechanisms)}."
        )
    for row in rows:
        if row.once and names.count(row.name) > 1:
            raise InvalidParameter(f"SourceAccessConfigurations must have one {row.name} at most.")
        if row.needs and row.needs.isdisjoint(names):
            needed = " or ".join(sorted(row.needs))
            raise InvalidParameter(f"SourceAccessConfigurations type {row.name} needs {needed} beside it.")
