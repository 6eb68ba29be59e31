"""An MSK cluster as its API describes it: brokers by auth method, and which methods are enabled. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class AuthMethod(StrEnum):
    """How a client connects to an MSK cluster, by the name of its servers in GetBootstrapBrokers."""

    TLS = "BootstrapBrokerStringTls"
    SCRAM = "BootstrapBrokerStringSaslScram"
    IAM = "BootstrapBrokerStringSaslIam"
    PLAINTEXT = "BootstrapBrokerString"


@dataclass(frozen=True, slots=True, kw_only=True)
class MskCluster:
    """What GetBootstrapBrokers and DescribeClusterV2 say."""

    servers: Mapping[AuthMethod, str]
    mtls: bool
    scram: bool
    iam: bool
    unauthenticated: bool
