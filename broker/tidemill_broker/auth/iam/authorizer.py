"""The authorizer of IAM principals: evaluates IAM's policies for Kafka's operations, as MSK does.

Knows which action and ARN a question means and what a request's condition keys are; `policies` decides, and
`identities` says whose policies hold now. Kafka's implications (READ implies DESCRIBE) do not exist here.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from math import inf
from time import time_ns
from typing import Final, Protocol

from tidemill_broker.auth.authorizer import Decision, Operation, ResourceType
from tidemill_broker.auth.iam.identities import Identity
from tidemill_broker.auth.iam.policies import Grants, Policy, Request, evaluate
from tidemill_broker.auth.iam.policies.actions import ACTIONS, CONNECT, resource_arn
from tidemill_broker.auth.iam.policies.principals import Kind, parse_caller
from tidemill_broker.auth.session import Session

# How long a decision by a policy with a condition on time holds: what such a policy ends, ends within this.
TIMED_DECISION_MS: Final = 400

# Decisions to connect that are remembered; each is a key and an address.
CONNECTS_MAX: Final = 1_000

_TIME_KEYS: Final = frozenset({"aws:currenttime", "aws:epochtime"})
_PRINCIPAL_TYPES: Final[Mapping[Kind, str]] = {
    "root": "Account",
    "user": "User",
    "role": "AssumedRole",
    "session": "AssumedRole",
    "federated": "FederatedUser",
}


class KnownIdentities(Protocol):
    """Whose keys and policies are in force now."""

    @property
    def version(self) -> int:
        """Grows whenever an answer might be another."""
        ...

    @property
    def cluster_policy(self) -> Policy | None:
        """The cluster's resource-based policy."""
        ...

    def get(self, access_key_id: str) -> Identity | None:
        """Find the identity of an access key, expired or not."""
        ...


class IamAuthorizer:
    """Decides for sessions that name an access key. `cluster_tags` are what aws:ResourceTag/… sees."""

    def __init__(
        self,
        identities: KnownIdentities,
        *,
        cluster_arn: str,
        cluster_tags: Mapping[str, str] | None = None,
        now_ms: Callable[[], int] = lambda: time_ns() // 1_000_000,
    ) -> None:
        self._identities = identities
        self._cluster_arn = cluster_arn
        _, _, _, self._region, self._account_id, _ = cluster_arn.split(":", 5)
        self._now_ms = now_ms
        self._resource_tags = _tagged("aws:resourcetag/", cluster_tags or {})
        self._version = 1
        self._seen = identities.version
        self._void_at_ms: float = inf  # when the earliest of the decisions so far might come out differently
        # kafka-cluster:Connect by key and host, while the version stays: every other decision needs it.
        self._connects: dict[tuple[str, str], Decision] = {}

    @property
    def version(self) -> int:
        """Grows with the identities, and when time has made a decision void."""
        self._forget_if_void()
        return self._version

    def _forget_if_void(self) -> None:
        if self._identities.version != self._seen or self._now_ms() >= self._void_at_ms:
            self._seen = self._identities.version
            self._void_at_ms = inf
            self._version += 1
            self._connects.clear()

    def connect(self, access_key_id: str, *, host: str = "") -> Decision:
        """Decide on kafka-cluster:Connect; `host` is the peer's IP address, "" where it is not known."""
        identity = self._live(access_key_id)
        if isinstance(identity, Decision):
            return identity
        return self._evaluate(identity, host, CONNECT, ResourceType.CLUSTER, "")

    def decide(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Decision:
        """Decide by the session's identity as it is now; one that may not connect any more may nothing."""
        # Before the identity is looked up: it may change at any time, and what is remembered must be as new.
        self._forget_if_void()
        identity = self._live(session.access_key_id or "")
        if isinstance(identity, Decision):
            return identity
        if identity.principal_arn != session.principal.name:
            return _no("the access key is another principal's now")
        connect = self._connect(identity, host)
        if not connect.allowed:
            return _no(f"may not connect: {connect.reason}")
        action = ACTIONS.get((operation, resource_type))
        if action is None:
            return _no(f"IAM has no action for {operation.name} on {resource_type.name}")
        return self._evaluate(identity, host, action, resource_type, name)

    def allows_some(
        self,
        session: Session,  # noqa: ARG002 - the protocol's
        host: str,  # noqa: ARG002 - the protocol's
        operation: Operation,  # noqa: ARG002 - the protocol's
        resource_type: ResourceType,  # noqa: ARG002 - the protocol's
    ) -> bool:
        """KIP-679 does not help IAM principals: MSK asks for WriteDataIdempotently (decision 0930)."""
        return False

    def _live(self, access_key_id: str) -> Identity | Decision:
        identity = self._identities.get(access_key_id)
        if identity is None:
            return _no("the access key is not known any more")
        if identity.expires_ms is None:
            return identity
        if self._now_ms() >= identity.expires_ms:
            return _no("the credentials have expired")
        self._void_at_ms = min(self._void_at_ms, identity.expires_ms)
        return identity

    def _connect(self, identity: Identity, host: str) -> Decision:
        """Remember one decision of those that a client which names a thousand topics asks for."""
        known = self._connects.get((identity.access_key_id, host))
        if known is None:
            known = self._evaluate(identity, host, CONNECT, ResourceType.CLUSTER, "")
            if len(self._connects) >= CONNECTS_MAX:
                self._connects.clear()
            self._connects[identity.access_key_id, host] = known
        return known

    def _evaluate(
        self, identity: Identity, host: str, action: str, resource_type: ResourceType, name: str
    ) -> Decision:
        grants = Grants(
            identity=identity.policies,
            session=identity.session_policies,
            boundary=identity.permissions_boundary,
            resource=self._identities.cluster_policy,
        )
        self._note_time(grants)
        request = Request(
            action=action,
            resource=resource_arn(self._cluster_arn, resource_type, name),
            principal_arn=identity.principal_arn,
            account_id=self._account_id,
            context=self._context(identity, host, resource_type),
        )
        return evaluate(request, grants)

    def _note_time(self, grants: Grants) -> None:
        cluster = () if grants.resource is None else (grants.resource,)
        policies = (*grants.identity, *(grants.session or ()), *(grants.boundary or ()), *cluster)
        if any(policy.keys & _TIME_KEYS for policy in policies):
            self._void_at_ms = min(self._void_at_ms, self._now_ms() + TIMED_DECISION_MS)

    def _context(
        self, identity: Identity, host: str, resource_type: ResourceType
    ) -> Mapping[str, Sequence[str]]:
        """Gather the request's condition keys. Only the cluster has tags: topics and groups cannot."""
        now_s = self._now_ms() // 1000
        keys = {
            "aws:securetransport": ["true"],  # the IAM listener is TLS, always
            "aws:currenttime": [_spelled(now_s)],
            "aws:epochtime": [str(now_s)],
            "aws:requestedregion": [self._region],
            "aws:resourceaccount": [self._account_id],
            "aws:viaawsservice": ["false"],
            "aws:principalisawsservice": ["false"],
            **_principal_keys(identity.principal_arn),
            **_tagged("aws:principaltag/", identity.tags),
            **_temporary_keys(identity),
        }
        if host:
            keys["aws:sourceip"] = [_plain_address(host)]
        if resource_type is ResourceType.CLUSTER:
            keys |= self._resource_tags
        return keys


def _principal_keys(arn: str) -> dict[str, list[str]]:
    caller = parse_caller(arn)
    if caller is None:
        return {}
    # "For assumed roles … the key's value is the role's ARN" (IAM: aws:PrincipalArn).
    session_of = f"arn:{caller.partition}:iam::{caller.account}:role/{caller.name}"
    keys = {
        "aws:principalarn": [session_of if caller.kind == "session" else arn],
        "aws:principalaccount": [caller.account],
        "aws:principaltype": [_PRINCIPAL_TYPES[caller.kind]],
    }
    return keys | ({"aws:username": [caller.name]} if caller.kind == "user" else {})


def _temporary_keys(identity: Identity) -> dict[str, list[str]]:
    """Gather what IAM tells of temporary credentials only. When they were issued, if not told: long ago."""
    if identity.session_token is None:
        return {}
    return {
        "aws:tokenissuetime": [_spelled((identity.issued_ms or 0) // 1000)],
        "aws:multifactorauthpresent": ["false"],
    }


def _spelled(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _tagged(prefix: str, tags: Mapping[str, str]) -> dict[str, list[str]]:
    return {prefix + name.lower(): [value] for name, value in tags.items()}


def _plain_address(host: str) -> str:
    """Spell an IPv4 peer of an IPv6 socket as what it is, so that policies with IPv4 ranges mean it."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _no(reason: str) -> Decision:
    return Decision(allowed=False, reason=reason)
