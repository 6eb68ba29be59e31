"""A real Apache Kafka that wants to know who is there: certificates, SCRAM and PLAIN over TLS.

Listeners are named as ours; who comes by `plaintext` is ANONYMOUS. `brief` is `scram` with brief sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, made elsewhere
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.oracles.apache_kafka import ApacheKafka, free_port_pair

SESSION_MS = 500  # of `brief`
# So that no test waits for what is meant to slow a guesser down.
DELAY = {"connection.failed.authentication.delay.ms": "10"}
PROTOCOLS = "PLAINTEXT:PLAINTEXT,TLS:SSL,SCRAM:SASL_SSL,BRIEF:SASL_SSL,CONTROLLER:PLAINTEXT"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required {};"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(kw_only=True)
class SecureApacheKafka(ApacheKafka):
    """`certificates` is a folder with ca.pem and broker.pem; `plain_users` are passwords by name."""

    certificates: Path
    plain_users: Mapping[str, str]
    listeners: dict[str, int] = field(default_factory=dict)

    @property
    def servers(self) -> dict[str, str]:
        """Where each listener is, by its name."""
        return {name: f"localhost:{port}" for name, port in self.listeners.items()}

    def start(self, *, timeout_s: float = 60) -> SecureApacheKafka:
        self.port = free_port_pair()
        pair = free_port_pair()
        self.listeners = {
            "plaintext": self.port,
            "tls": pair,
            "scram": pair + 1,
            "brief": free_port_pair(),
        }
        super().start(timeout_s=timeout_s)
        return self

    def _server(self) -> dict[str, str]:
        places = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in self.listeners.items())
        return {
            **super()._server(),
            **DELAY,
            "listeners": f"{places},CONTROLLER://127.0.0.1:{self.port + 1}",
            "advertised.listeners": places.replace("127.0.0.1", "localhost"),
            "listener.security.protocol.map": PROTOCOLS,
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.certificates / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.certificates / "ca.pem"),
            "listener.name.tls.ssl.client.auth": "required",
            **self._logins(),
            "listener.name.brief.connections.max.reauth.ms": str(SESSION_MS),
        }

    def _logins(self) -> dict[str, str]:
        users = " ".join(f'user_{user}="{_quoted(password)}"' for user, password in self.plain_users.items())
        modules = {"plain": _PLAIN.format(users), "scram-sha-256": _SCRAM, "scram-sha-512": _SCRAM}
        return {
            f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
            for listener in ("scram", "brief")
            for mechanism, module in modules.items()
        }


def _quoted(password: str) -> str:
    """A password as a Java properties file spells it, inside a JAAS string."""
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in password)


def set_password(admin: AdminClient, user: str, password: str) -> None:
    """Make the SCRAM user, or change the password, for both mechanisms."""
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        information = ScramCredentialInfo(mechanism, 4096)
        change = UserScramCredentialUpsertion(user, information, password.encode())
        # Kafka takes one change of a user in a request.
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(20)
