"""SourceAccessConfigurations: which ways into a cluster a mapping may name, and in what company.

Pure. Facts: AWS Lambda API reference, SourceAccessConfiguration; Developer Guide, kafka-cluster-auth and
msk-cluster-auth. AWS's texts for these refusals are unknown, so each says in our words what to change.
"""

from __future__ import annotations

from collections import abc
from typing import Any, Final

from tidemill_poller.errors import InvalidParameter
from tidemill_poller.mapping.model import SourceAccess
from tidemill_poller.mapping.refusals import not_built

MECHANISMS: Final = frozenset(
    {
        "BASIC_AUTH",
        "SASL_SCRAM_256_AUTH",
        "SASL_SCRAM_512_AUTH",
        "CLIENT_CERTIFICATE_TLS_AUTH",
        "OAUTHBEARER_AUTH",
        "IAM_AUTH",
        "IAM_OAUTHBEARER_AUTH",
    }
)
"""A mapping has one of these, or none."""

BUILT: Final = frozenset(
    {
        "BASIC_AUTH",
        "SASL_SCRAM_256_AUTH",
        "SASL_SCRAM_512_AUTH",
        "CLIENT_CERTIFICATE_TLS_AUTH",
        "SERVER_ROOT_CA_CERTIFICATE",
        "IAM_AUTH",
        "VPC_SUBNET",
        "VPC_SECURITY_GROUP",
    }
)
"""What the poller acts on today. The network is the machine's own, so VPC components need no action."""

_MSK_TYPES: Final = frozenset({"SASL_SCRAM_512_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH"})
_WITHOUT_URI: Final = frozenset({"IAM_AUTH", "IAM_OAUTHBEARER_AUTH"})
_URI_PREFIX: Final = {"VPC_SUBNET": "subnet:subnet-", "VPC_SECURITY_GROUP": "security_group:sg-"}
_NEEDS: Final = {
    "VPC_SUBNET": {"VPC_SECURITY_GROUP"},
    "VPC_SECURITY_GROUP": {"VPC_SUBNET"},
    "OAUTHBEARER_SCOPE": {"OAUTHBEARER_AUTH"},
    "OAUTHBEARER_AUDIENCE": {"OAUTHBEARER_AUTH", "IAM_OAUTHBEARER_AUTH"},
    "OAUTHBEARER_LOGICAL_CLUSTER": {"OAUTHBEARER_AUTH"},
    "OAUTHBEARER_IDENTITY_POOL": {"OAUTHBEARER_AUTH"},
    "IAM_OAUTHBEARER_AUTH": {"OAUTHBEARER_AUDIENCE"},
}
"""type -> the types of which one must come with it; so IAM_OAUTHBEARER_AUTH excludes all but the audience"""


def read_access(entries: abc.Sequence[abc.Mapping[str, Any]], *, msk: bool) -> tuple[SourceAccess, ...]:
    """The list as a value, in its order.

    Raises:
        InvalidParameter: a type that is not for this kind of source, a URI that does not fit its type, types
            that must come together or must not, or a type that Tidemill has not built.

    """
    access = tuple(_entry(entry, msk=msk) for entry in entries)
    _check_company([one.type for one in access])
    for one in access:
        if one.type not in BUILT:
            not_built(f"SourceAccessConfigurations type {one.type}")
    return access


def _entry(entry: abc.Mapping[str, Any], *, msk: bool) -> SourceAccess:
    kind, uri = entry.get("Type"), entry.get("URI") or ""
    if kind is None:
        raise InvalidParameter("Every entry of SourceAccessConfigurations needs a Type.")
    if kind == "VIRTUAL_HOST" or (msk and kind not in _MSK_TYPES):
        source = "an Amazon MSK" if msk else "a self-managed Kafka"
        raise InvalidParameter(f"SourceAccessConfigurations type {kind} is not for {source} event source.")
    if kind in _WITHOUT_URI:
        if uri:
            raise InvalidParameter(f"SourceAccessConfigurations type {kind} takes no URI: leave it out.")
    elif not uri:
        raise InvalidParameter(f"SourceAccessConfigurations type {kind} needs a URI.")
    prefix = _URI_PREFIX.get(kind, "")
    if not uri.startswith(prefix) or (prefix and uri == prefix):
        raise InvalidParameter(f"The URI of {kind} must look like {prefix}0123456789abcdef0, not '{uri}'.")
    return SourceAccess(type=kind, uri=uri)


def _check_company(types: list[str]) -> None:
    mechanisms = [kind for kind in types if kind in MECHANISMS]
    if len(mechanisms) > 1:
        raise InvalidParameter(
            f"SourceAccessConfigurations must have one authentication mechanism, not {', '.join(mechanisms)}."
        )
    if types.count("SERVER_ROOT_CA_CERTIFICATE") > 1:
        raise InvalidParameter("SourceAccessConfigurations must have one SERVER_ROOT_CA_CERTIFICATE at most.")
    for kind in types:
        needed = _NEEDS.get(kind, set())
        if needed and needed.isdisjoint(types):
            raise InvalidParameter(
                f"SourceAccessConfigurations type {kind} needs {' or '.join(sorted(needed))} beside it."
            )
