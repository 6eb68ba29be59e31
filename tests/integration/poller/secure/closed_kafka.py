"""Apache Kafka that asks for ACLs (StandardAuthorizer) of whoever does not come by its plaintext listener."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported untyped
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.fakes.certificates import Authority
from tests.oracles.secure_apache_kafka import SecureApacheKafka, set_password
from tidemill_poller.mapping import SelfManagedSource

RIGHTS = {
    "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


class ClosedKafka(SecureApacheKafka):
    """Users, and what they may read."""

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers})

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


def closed_kafka(directory: Path, authority: Authority, *, plain_users: dict[str, str]) -> ClosedKafka:
    """Start one whose certificate the authority has issued."""
    directory.mkdir(parents=True)
    (directory / "ca.pem").write_text(authority.pem)
    server = authority.issue("broker", hosts=("localhost", "127.0.0.1"))
    (directory / "broker.pem").write_text(server.keystore_pem)
    kafka = ClosedKafka(
        data_dir=directory, certificates=directory, plain_users=plain_users, properties=RIGHTS
    )
    kafka.start()
    return kafka
