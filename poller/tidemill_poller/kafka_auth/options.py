"""What a Kafka client needs to connect to a cluster, in no client's spelling. Pure; no repr shows secrets."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
Sign = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Servers, TLS and login. Without a context the connection is plaintext, and unauthenticated.

    `sign` gives a fresh token for OAUTHBEARER; it raises LoginFailed. `secret_versions` are the versions of
    the secrets that these options were made from, by the URI in the mapping.
    """

    bootstrap_servers: str
    ssl_context: ssl.SSLContext | None = None
    sasl_mechanism: SaslMechanism | None = None
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    sign: Sign | None = field(default=None, repr=False)
    secret_versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # AWS: SASL_SSL only. No password, and no token that could be replayed, crosses a wire in the clear.
        assert self.sasl_mechanism is None or self.ssl_context is not None, "SASL goes over TLS"

    @property
    def security_protocol(self) -> str:
        """As Kafka's clients name it."""
        if self.ssl_context is None:
            return "PLAINTEXT"
        return "SSL" if self.sasl_mechanism is None else "SASL_SSL"
