"""Apache Kafka and Tidemill with the same super user, SCRAM users and ACLs, asked by the same raw requests.

The plaintext listener is the super user's (User:ANONYMOUS), the other one asks everybody for a login. As on
MSK everybody may do everything that no ACL names.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.raw_kafka import LoginFailed, RawKafka, salted_password
from tests.harness.processes import wait_until
from tests.harness.secure_brokers import make_certificates
from tests.harness.tidemill_broker import TidemillBroker
from tests.oracles.apache_kafka import ApacheKafka, free_port_pair

FIND_COORDINATOR, DESCRIBE_GROUPS, INIT_PRODUCER_ID = 10, 15, 22
DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS, ALTER_USERS = 29, 30, 31, 51
SALT, ITERATIONS, SCRAM_SHA_512 = b"sixteen bytes of", 4096, 2
ANY_ACL = {"resource_type_filter": 1, "pattern_type_filter": 1, "operation": 1, "permission_type": 1}
RIGHTS = {"super.users": "User:ANONYMOUS", "allow.everyone.if.no.acl.found": "true"}


class Rule(NamedTuple):
    """One ACL in Kafka's codes; as in AclBinding."""

    resource_type: int
    name: str
    principal: str
    operation: int
    permission: int = 3
    pattern_type: int = 3
    host: str = "*"

    def creation(self) -> dict[str, Any]:
        """Its form in CreateAcls."""
        return {
            "resource_type": self.resource_type,
            "resource_name": self.name,
            "resource_pattern_type": self.pattern_type,
            "principal": self.principal,
            "host": self.host,
            "operation": self.operation,
            "permission_type": self.permission,
        }


@dataclass
class AclBroker:
    """One of the two, and who is logged in."""

    broker: ApacheKafka | TidemillBroker
    scram_port: int
    tls: ssl.SSLContext | None
    root: RawKafka = field(init=False)
    users: dict[str, RawKafka] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = RawKafka(self.broker.port)

    @property
    def bootstrap_servers(self) -> str:
        return self.broker.bootstrap_servers

    def close(self) -> None:
        for connection in (self.root, *self.users.values()):
            connection.close()
        self.broker.stop()

    def user(self, name: str) -> RawKafka:
        """The connection of a SCRAM user, who is made by the first call."""
        if name not in self.users:
            salted = salted_password("sha512", name, SALT, ITERATIONS)
            credential = {
                "name": name,
                "mechanism": SCRAM_SHA_512,
                "iterations": ITERATIONS,
                "salt": SALT,
                "salted_password": salted,
            }
            (made,) = self.root.ask(ALTER_USERS, 0, deletions=[], upsertions=[credential]).results
            assert not made.error_code, made.error_message
            # Kafka's controller confirms before its broker knows.
            self.users[name] = wait_until(lambda: self._login(name), what=f"the login of {name}")
        return self.users[name]

    def settle(self) -> None:
        """Wait for what Kafka makes at the first question: the coordinator's topic, and producer ids."""
        wait_until(self._coordinates, what="the coordinator")
        wait_until(self._numbers_producers, what="producer ids")

    def rules(self) -> set[Rule]:
        """All ACLs, as the authorizer of the broker has them."""
        return {
            Rule(
                resource.resource_type,
                resource.resource_name,
                acl.principal,
                acl.operation,
                acl.permission_type,
                resource.pattern_type,
                acl.host,
            )
            for resource in self.root.ask(DESCRIBE_ACLS, 3, **ANY_ACL).resources
            for acl in resource.acls
        }

    def hold(self, rules: Iterable[Rule]) -> None:
        """Have these ACLs and no others; they hold when this returns."""
        wanted, present = set(rules), self.rules()
        gone: Sequence[dict[str, Any]] = [_filter(rule) for rule in present - wanted]
        if gone:
            self.root.ask(DELETE_ACLS, 3, filters=gone)
        if wanted - present:
            self.root.ask(CREATE_ACLS, 3, creations=[rule.creation() for rule in wanted - present])
        wait_until(lambda: self.rules() == wanted, what="the ACLs in the authorizer")

    def _coordinates(self) -> bool:
        self.root.ask(FIND_COORDINATOR, 3, key="any", key_type=0)
        groups = [f"any-{number}" for number in range(20)]  # of every partition
        return not any(each.error_code for each in self.root.ask(DESCRIBE_GROUPS, 5, groups=groups).groups)

    def _numbers_producers(self) -> bool:
        reply = self.root.ask(INIT_PRODUCER_ID, 4, transactional_id=None, producer_id=-1)
        return not reply.error_code

    def _login(self, name: str) -> RawKafka | None:
        connection = RawKafka(self.scram_port, self.tls)
        try:
            connection.login(name, name)
        except LoginFailed:
            connection.close()
            return None
        return connection


def _filter(rule: Rule) -> dict[str, Any]:
    return {
        "resource_type_filter": rule.resource_type,
        "resource_name_filter": rule.name,
        "pattern_type_filter": rule.pattern_type,
        "principal_filter": rule.principal,
        "host_filter": rule.host,
        "operation": rule.operation,
        "permission_type": rule.permission,
    }


def apache_kafka_with_acls(data_dir: Path) -> AclBroker:
    """Start Apache Kafka with its StandardAuthorizer."""
    port, scram_port = free_port_pair(), free_port_pair()
    own = f"PLAINTEXT://127.0.0.1:{port},SCRAM://127.0.0.1:{scram_port}"
    jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "listeners": f"{own},CONTROLLER://127.0.0.1:{port + 1}",
        "advertised.listeners": own,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SCRAM:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": jaas,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        **RIGHTS,
    }
    broker = ApacheKafka(data_dir=data_dir, port=port, properties=properties).start()
    return AclBroker(broker, scram_port, None)


def tidemill_with_acls(data_dir: Path) -> AclBroker:
    """Start Tidemill, with certificates that its own command made."""
    certificates = make_certificates(data_dir / "tls")
    flags = ("--listener=plaintext", "--listener=scram=0", f"--tls-dir={certificates}")
    broker = TidemillBroker(data_dir=data_dir, settings=RIGHTS, flags=flags).start()
    tls = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    return AclBroker(broker, broker.ready["listeners"]["scram"], tls)
