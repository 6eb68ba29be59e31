"""An authorizer that allows what it is told to allow, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tidemill_broker.auth.authorizer import Decision, Operation, ResourceType
from tidemill_broker.auth.session import Session

Question = tuple[Operation, ResourceType, str]


@dataclass
class RecordingAuthorizer:
    """`change` replaces the rule, as an edit of ACLs or policies would."""

    allows: Callable[[Question], bool]
    version: int = 1
    asked: list[Question] = field(default_factory=list)

    def change(self, allows: Callable[[Question], bool]) -> None:
        self.allows = allows
        self.version += 1

    def decide(
        self, _session: Session, _host: str, operation: Operation, resource_type: ResourceType, name: str
    ) -> Decision:
        question = (operation, resource_type, name)
        self.asked.append(question)
        allowed = self.allows(question)
        return Decision(allowed=allowed, reason="told so" if allowed else "told not to")

    def allows_some(
        self, _session: Session, _host: str, operation: Operation, resource_type: ResourceType
    ) -> bool:
        self.asked.append((operation, resource_type, "*"))
        return self.allows((operation, resource_type, "*"))


def everything(_: Question) -> bool:
    return True


def nothing(_: Question) -> bool:
    return False
