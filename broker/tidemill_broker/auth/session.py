"""Who is on the other side of a connection, and until when: what an authentication leaves behind.

Plain values: the server and the SASL stage make them, authorizers and handlers read them.
"""

from dataclasses import dataclass
from typing import Final, Literal

PrincipalType = Literal["User", "IAM"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A name and what kind of name it is, as ACLs and log lines write it: `User:alice`, `IAM:arn:aws:…`.

    Kafka's ACLs decide about a `User`, policies about an `IAM` principal (its name is the ARN from STS).
    """

    type: PrincipalType
    name: str

    def __str__(self) -> str:
        return f"{self.type}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One connection's authentication.

    `mechanism` is SASL's name, "SSL" for a verified client certificate, "" where nobody asked. `expires_ms`
    (since the epoch) is when the credentials end; None: never. `access_key_id` says whose policies hold.
    """

    principal: Principal
    mechanism: str = ""
    expires_ms: int | None = None
    access_key_id: str | None = None


ANONYMOUS: Final = Principal(type="User", name="ANONYMOUS")  # Kafka: KafkaPrincipal.ANONYMOUS
UNAUTHENTICATED: Final = Session(principal=ANONYMOUS)
