"""A real Apache Kafka with the listeners of self-managed clusters: SASL over TLS, mTLS, brief sessions.

Who comes by the plaintext listener is a super user; everybody else needs ACLs (StandardAuthorizer).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported untyped
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from poller.mapping import SelfManagedSource
from tests.fakes.certificates import Authority
from tests.oracles.apache_kafka import ApacheKafka, free_port_pair

SESSION_MS = 500
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required {};"


class SecureApacheKafka:
    """Apache Kafka at `servers["SASL"]`, `servers["MTLS"]` and `servers["BRIEF"]` (SASL, brief sessions)."""

    def __init__(self, data_dir: Path, authority: Authority, *, plain_users: dict[str, str]) -> None:
        data_dir.mkdir(parents=True)
        (data_dir / "ca.pem").write_text(authority.pem)
        server = authority.issue("broker", hosts=("localhost", "127.0.0.1"))
        (data_dir / "broker.pem").write_text(server.keystore_pem)
        plain, sasl = free_port_pair(), free_port_pair()
        ports = {"SASL": sasl, "MTLS": sasl + 1, "BRIEF": plain + 1}
        self.servers = {name: f"localhost:{port}" for name, port in ports.items()}
        self.kafka = ApacheKafka(data_dir=data_dir, port=0)
        self.kafka.port = free_port_pair()
        self.kafka.properties = self._properties(data_dir, ports, plain_users)

    def start(self) -> SecureApacheKafka:
        self.kafka.start()
        self.admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers})
        return self

    def stop(self) -> None:
        self.kafka.kill()

    def _properties(self, data_dir: Path, ports: dict[str, int], users: dict[str, str]) -> dict[str, str]:
        own, controller = f"127.0.0.1:{self.kafka.port}", f"127.0.0.1:{self.kafka.port + 1}"
        named = [f"{name}://{server}" for name, server in self.servers.items()]
        known = " ".join(f'user_{user}="{password}"' for user, password in users.items())
        modules = {"plain": _PLAIN.format(known), "scram-sha-256": _SCRAM, "scram-sha-512": _SCRAM}
        return {
            "listeners": ",".join([f"PLAINTEXT://{own}", f"CONTROLLER://{controller}", *named]),
            "advertised.listeners": ",".join([f"PLAINTEXT://{own}", *named]),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "SASL:SASL_SSL,BRIEF:SASL_SSL,MTLS:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            **{
                f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
                for listener in ("sasl", "brief")
                for mechanism, module in modules.items()
            },
            "listener.name.brief.connections.max.reauth.ms": str(SESSION_MS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(data_dir / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(data_dir / "ca.pem"),
            "listener.name.mtls.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "connection.failed.authentication.delay.ms": "10",
        }

    def set_password(self, user: str, password: str) -> None:
        """Make the SCRAM user, or change the password."""
        set_password(self.admin, user, password)

    def source(self, listener: str) -> SelfManagedSource:
        """Name a listener as a mapping does."""
        return SelfManagedSource(bootstrap_servers=(self.servers[listener],))

    def reader(self, user: str) -> Callable[[str], None]:
        """What lets this user read a topic in a group of the same name."""
        return lambda name: self.allow(user, topic=name, group=name)

    def allow(self, user: str, *, topic: str | None = None, group: str | None = None) -> None:
        """Let a user read."""
        for future in self.admin.create_acls(self._bindings(user, topic, group)).values():
            future.result(10)

    def forbid(self, user: str, *, topic: str | None = None, group: str | None = None) -> None:
        """Take away what `allow` gave."""
        filters = [
            AclBindingFilter(
                one.restype,
                one.name,
                one.resource_pattern_type,
                one.principal,
                one.host,
                one.operation,
                one.permission_type,
            )
            for one in self._bindings(user, topic, group)
        ]
        for future in self.admin.delete_acls(filters).values():
            future.result(10)

    def _bindings(self, user: str, topic: str | None, group: str | None) -> list[AclBinding]:
        named = {ResourceType.TOPIC: topic, ResourceType.GROUP: group}
        return [
            AclBinding(
                kind,
                name,
                ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                AclOperation.READ,
                AclPermissionType.ALLOW,
            )
            for kind, name in named.items()
            if name is not None
        ]


def set_password(admin: AdminClient, user: str, password: str) -> None:
    """Make the SCRAM user, or change the password, for both mechanisms."""
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        information = ScramCredentialInfo(mechanism, 4096)
        change = UserScramCredentialUpsertion(user, information, password.encode())
        # Kafka takes one change of a user in a request.
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(10)
