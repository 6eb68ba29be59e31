"""From a presigned request to a session: the checks that AWS_MSK_IAM and OAUTHBEARER have in common.

Knows when it is, whose key it is and whether they may connect; nothing of how the request was wrapped. What
the client is told is MSK's text; the audit line's reason begins with the same request id, to find it by.
"""

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Final, Protocol
from uuid import uuid4

from tidemill_broker.auth.authorizer import Decision
from tidemill_broker.auth.iam.identities import Identities, Identity
from tidemill_broker.auth.iam.sigv4 import Presigned
from tidemill_broker.auth.mechanism import AuthenticationFailed
from tidemill_broker.auth.session import Principal, Session

# What AWS's services allow between two clocks. It lets a request begin early, and never end late.
SKEW_MAX_MS: Final = 5 * 60 * 1000
# A session that ends sooner is over before a client has re-authenticated: Kafka's ask for it at 85 to 95 %
# of its life, and not twice in a second (KIP-368).
SESSION_LEAST_MS: Final = 10_000
# Longer than any token in the field; what a stage takes before login is bounded by the stage.
TOKEN_BYTES_MAX: Final = 16_384


class ConnectAuthorizer(Protocol):
    """The part of the IAM authorizer that a login asks."""

    def connect(self, access_key_id: str, *, host: str) -> Decision:
        """Decide on kafka-cluster:Connect to this cluster, for a peer at this IP address."""
        ...


def denied(reason: str, *, claimed: str = "", public: str = "Access denied") -> AuthenticationFailed:
    """Reject in MSK's words: a request id and hardly more."""
    request_id = uuid4()
    return AuthenticationFailed(
        f"{request_id}: {reason}", claimed=claimed, public=f"[{request_id}]: {public}"
    )


class IamLogin:
    """Turns presigned requests into sessions of one mechanism."""

    def __init__(
        self,
        identities: Identities,
        authorizer: ConnectAuthorizer,
        *,
        mechanism: str,
        region: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._identities = identities
        self._authorizer = authorizer
        self._mechanism = mechanism
        self._region = region
        self._now_ms = now_ms
        # Stands in for an unknown access key, so that it costs the time of a wrong signature.
        self._nobody = Identity(
            access_key_id="",
            secret_access_key=secrets.token_urlsafe(30),
            session_token=secrets.token_urlsafe(30),
            principal_arn="",
        )

    def session(self, claim: Presigned, peer_host: str) -> Session:
        """Believe the claim of a peer at this IP address. Raises AuthenticationFailed."""
        now_ms = self._now_ms()
        self._check_scope(claim, now_ms)
        identity = self._identify(claim)
        remaining_ms = None if identity.expires_ms is None else identity.expires_ms - now_ms
        if remaining_ms is not None and remaining_ms <= 0:
            raise denied("the credentials have expired", claimed=claim.access_key_id)
        if remaining_ms is not None and remaining_ms < SESSION_LEAST_MS:
            raise denied(
                "the credentials expire at once", claimed=claim.access_key_id, public="Session too short"
            )
        decision = self._authorizer.connect(identity.access_key_id, host=peer_host)
        if not decision.allowed:
            raise denied(f"may not connect: {decision.reason}", claimed=claim.access_key_id)
        return Session(
            principal=Principal(type="IAM", name=identity.principal_arn),
            mechanism=self._mechanism,
            expires_ms=identity.expires_ms,
            access_key_id=identity.access_key_id,
        )

    def _check_scope(self, claim: Presigned, now_ms: int) -> None:
        """Reject what was signed for another region or another time, before anybody's secret is used."""
        if claim.region != self._region:
            reason = f"signed for the region {claim.region}, and this cluster is in {self._region}"
        elif now_ms >= claim.ends_ms:
            reason = f"the signature expired {now_ms - claim.ends_ms} ms ago"
        elif now_ms < claim.begins_ms - SKEW_MAX_MS:
            reason = f"signed {claim.begins_ms - now_ms} ms in the future; set the client's clock"
        else:
            return
        raise denied(reason, claimed=claim.access_key_id)

    def _identify(self, claim: Presigned) -> Identity:
        found = self._identities.get(claim.access_key_id)
        identity = found or self._nobody
        # Both are checked, always: neither answer nor time may tell the client what was wrong.
        signed = claim.signed_with(identity.secret_access_key)
        token_held = _equal(claim.session_token, identity.session_token)
        if found is None:
            reason = "no such access key"
        elif not token_held:
            reason = "another session token than the key's"
        elif not signed:
            reason = "the signature does not match"
        else:
            return identity
        raise denied(reason, claimed=claim.access_key_id)


def _equal(first: str | None, second: str | None) -> bool:
    """Compare in a time that tells neither content nor length."""
    one, other = (sha256(("" if text is None else f"={text}").encode()).digest() for text in (first, second))
    return hmac.compare_digest(one, other)
