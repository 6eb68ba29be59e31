"""Which auth method of an MSK cluster is taken: AWS's order, never a weaker one than enabled."""

from __future__ import annotations

import pytest

from tidemill_poller.errors import LoginFailed, SourceUnavailable
from tidemill_poller.kafka_auth.cluster import AuthMethod, MskCluster
from tidemill_poller.kafka_auth.iam import region_in
from tidemill_poller.kafka_auth.msk import choose, read_cluster

ALL = {method: f"b-1:{9090 + number}" for number, method in enumerate(AuthMethod)}
MTLS, SCRAM = "CLIENT_CERTIFICATE_TLS_AUTH", "SASL_SCRAM_512_AUTH"


def cluster(*enabled: str, servers: dict[AuthMethod, str] | None = None) -> MskCluster:
    return MskCluster(
        servers=ALL if servers is None else servers,
        **{name: name in enabled for name in ("mtls", "scram", "iam", "unauthenticated")},
    )


@pytest.mark.parametrize(
    ("enabled", "secret", "method"),
    [
        (("mtls", "scram", "iam", "unauthenticated"), MTLS, AuthMethod.TLS),
        (("mtls", "scram", "iam", "unauthenticated"), SCRAM, AuthMethod.SCRAM),
        (("mtls", "scram", "iam", "unauthenticated"), None, AuthMethod.IAM),
        (("iam",), None, AuthMethod.IAM),
        (("mtls", "scram", "unauthenticated"), None, AuthMethod.TLS),
        (("unauthenticated",), None, AuthMethod.TLS),
    ],
)
def test_a_secret_chooses_and_without_one_the_strongest_is_taken(
    enabled: tuple[str, ...], secret: str | None, method: AuthMethod
) -> None:
    assert choose(cluster(*enabled), secret) == (method, ALL[method])


def test_plaintext_is_taken_only_when_there_is_no_tls() -> None:
    offered = {AuthMethod.PLAINTEXT: "b-1:9092"}
    assert choose(cluster("unauthenticated", servers=offered), None) == (AuthMethod.PLAINTEXT, "b-1:9092")


@pytest.mark.parametrize(
    ("enabled", "secret", "fault"),
    [
        (("scram", "iam", "unauthenticated"), MTLS, "TLS client authentication switched off"),
        (("mtls", "iam", "unauthenticated"), SCRAM, "SASL/SCRAM switched off"),
        (("mtls",), None, "as CLIENT_CERTIFICATE_TLS_AUTH"),
        (("mtls", "scram"), None, "as CLIENT_CERTIFICATE_TLS_AUTH or SASL_SCRAM_512_AUTH"),
    ],
)
def test_nothing_weaker_is_taken_for_what_is_off(
    enabled: tuple[str, ...], secret: str | None, fault: str
) -> None:
    with pytest.raises(LoginFailed, match=fault):
        choose(cluster(*enabled), secret)


def test_the_strongest_without_servers_is_no_reason_for_a_weaker_one() -> None:
    offered = {AuthMethod.PLAINTEXT: "b-1:9092", AuthMethod.TLS: "b-1:9094"}
    with pytest.raises(
        SourceUnavailable, match="no BootstrapBrokerStringSaslIam but BootstrapBrokerString, "
    ):
        choose(cluster("iam", "unauthenticated", servers=offered), None)


@pytest.mark.parametrize(
    ("info", "enabled"),
    [
        ({"Provisioned": {}}, {"unauthenticated"}),
        ({"Provisioned": {"ClientAuthentication": {"Tls": {"Enabled": True}}}}, {"mtls"}),
        (
            {
                "Provisioned": {
                    "ClientAuthentication": {
                        "Sasl": {"Scram": {"Enabled": True}, "Iam": {"Enabled": False}},
                        "Tls": {"CertificateAuthorityArnList": [], "Enabled": False},
                        "Unauthenticated": {"Enabled": True},
                    }
                }
            },
            {"scram", "unauthenticated"},
        ),
        ({"Serverless": {"ClientAuthentication": {"Sasl": {"Iam": {"Enabled": True}}}}}, {"iam"}),
    ],
)
def test_what_is_enabled_is_read_of_both_kinds_of_clusters(
    info: dict[str, object], enabled: set[str]
) -> None:
    found = read_cluster({}, info)
    assert {name for name in ("mtls", "scram", "iam", "unauthenticated") if getattr(found, name)} == enabled


@pytest.mark.parametrize(
    ("servers", "region"),
    [
        (
            "b-1.c.abc.c2.kafka.eu-west-1.amazonaws.com:9098,b-2.c.abc.c2.kafka.eu-west-1.amazonaws.com:9098",
            "eu-west-1",
        ),
        ("boot-abc.c1.kafka-serverless.us-east-2.amazonaws.com:9098", "us-east-2"),
        ("b-1.c.abc.c1.kafka.cn-north-1.amazonaws.com.cn:9098", "cn-north-1"),
        ("localhost:9098", None),
        ("kafka.example.com:9098", None),
    ],
)
def test_a_self_managed_name_of_msk_says_its_region(servers: str, region: str | None) -> None:
    assert region_in(servers) == region
