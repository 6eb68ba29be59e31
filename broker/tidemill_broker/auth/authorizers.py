"""One authorizer out of two: Kafka's ACLs decide about `User` principals, policies about `IAM` principals.

As on MSK: ACLs mean nothing for whoever logged in by IAM, nor does allow.everyone.if.no.acl.found.
"""

from typing import Final

from tidemill_broker.auth.authorizer import Authorizer, Decision, Operation, ResourceType
from tidemill_broker.auth.session import Session

_NO_IAM: Final = Decision(allowed=False, reason="this broker knows no IAM identities")


class ByPrincipal:
    """The broker's authorizer. `iam` None: no listener takes IAM logins; IAM principals may do nothing."""

    def __init__(self, *, acls: Authorizer, iam: Authorizer | None) -> None:
        self._acls = acls
        self._iam = iam

    @property
    def version(self) -> int:
        """Both versions grow and none goes back, so their sum grows with each."""
        return self._acls.version + (0 if self._iam is None else self._iam.version)

    def decide(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Decision:
        """Decide by the rules for this kind of principal."""
        chosen = self._authorizer(session)
        return _NO_IAM if chosen is None else chosen.decide(session, host, operation, resource_type, name)

    def allows_some(
        self, session: Session, host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        """Decide by the rules for this kind of principal."""
        chosen = self._authorizer(session)
        return chosen is not None and chosen.allows_some(session, host, operation, resource_type)

    def _authorizer(self, session: Session) -> Authorizer | None:
        return self._acls if session.principal.type == "User" else self._iam
