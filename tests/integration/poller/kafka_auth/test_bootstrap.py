"""An MSK cluster's ARN is enough to find its brokers; failures name the ARN, the endpoint and the cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aiohttp import web

from tests.fakes.http_thread import serving
from tidemill_awsapi import ApiError, Call, Service
from tidemill_poller.aws import AwsClients
from tidemill_poller.errors import LoginFailed, SourceUnavailable
from tidemill_poller.kafka_auth import KafkaAccess
from tidemill_poller.mapping import Mapping, MskSource, SelfManagedSource

ARN = "arn:aws:kafka:eu-west-1:123456789012:cluster/tidemill/0b4f12a8-1"
UNAUTHENTICATED = {"Unauthenticated": {"Enabled": True}}
IAM = {"Sasl": {"Iam": {"Enabled": True}}}


def mapping(source: MskSource | SelfManagedSource) -> Mapping:
    return Mapping(
        uuid="0b4f12a8",
        function_arn="arn:aws:lambda:eu-west-1:123456789012:function:orders",
        source=source,
        topic="orders",
        consumer_group_id="group",
    )


class Msk:
    """The MSK API with the answers it was given."""

    def __init__(self) -> None:
        self.answer: dict[str, str] | ApiError = {}
        self.authentication: dict[str, Any] = UNAUTHENTICATED
        self.asked: list[tuple[str, str]] = []

    def application(self) -> web.Application:
        service = Service(
            "kafka",
            {"GetBootstrapBrokers": self._brokers, "DescribeClusterV2": self._cluster},
            region="us-east-1",
            account_id="123456789012",
        )
        return service.application()

    async def _brokers(self, call: Call) -> dict[str, Any]:
        self.asked.append((call.params["ClusterArn"], call.region))
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer

    async def _cluster(self, call: Call) -> dict[str, Any]:
        provisioned = {
            "BrokerNodeGroupInfo": {"ClientSubnets": [], "InstanceType": "kafka.t3.small"},
            "ClientAuthentication": self.authentication,
            "NumberOfBrokerNodes": 1,
        }
        return {"ClusterInfo": {"ClusterType": "PROVISIONED", "Provisioned": provisioned}}


@pytest.fixture
def msk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Msk]:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = Msk()
    with serving(server.application) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KAFKA", url)
        yield server


def access() -> KafkaAccess:
    return KafkaAccess(AwsClients(boto3.Session(region_name="us-east-1")))


async def test_self_managed_servers_are_taken_as_given() -> None:
    source = SelfManagedSource(bootstrap_servers=("a:9092", "b:9092"))
    options = await access().options(mapping(source))
    assert options.bootstrap_servers == "a:9092,b:9092"
    assert options.security_protocol == "PLAINTEXT"


async def test_a_cluster_s_servers_are_asked_of_its_own_region(msk: Msk) -> None:
    msk.answer = {"BootstrapBrokerString": "b-1:9092,b-2:9092"}
    options = await access().options(mapping(MskSource(arn=ARN)))
    assert (options.bootstrap_servers, options.security_protocol) == ("b-1:9092,b-2:9092", "PLAINTEXT")
    assert msk.asked == [(ARN, "eu-west-1")]


async def test_a_cluster_with_tls_and_plaintext_is_entered_by_tls(msk: Msk) -> None:
    msk.answer = {"BootstrapBrokerString": "b-1:9092", "BootstrapBrokerStringTls": "b-1:9094"}
    options = await access().options(mapping(MskSource(arn=ARN)))
    assert (options.bootstrap_servers, options.security_protocol) == ("b-1:9094", "SSL")


async def test_a_cluster_with_iam_is_entered_by_a_token_of_its_region(msk: Msk) -> None:
    msk.answer = {"BootstrapBrokerString": "b-1:9092", "BootstrapBrokerStringSaslIam": "b-1:9098"}
    msk.authentication = UNAUTHENTICATED | IAM
    options = await access().options(mapping(MskSource(arn=ARN)))
    assert (options.bootstrap_servers, options.security_protocol) == ("b-1:9098", "SASL_SSL")
    assert options.sasl_mechanism == "OAUTHBEARER"
    assert options.sign is not None
    assert await options.sign()


async def test_an_unknown_cluster_is_named_with_the_endpoint_and_the_answer(msk: Msk) -> None:
    msk.answer = ApiError("NotFoundException", "The cluster does not exist.")
    with pytest.raises(SourceUnavailable) as raised:
        await access().options(mapping(MskSource(arn=ARN)))
    assert ARN in str(raised.value)
    assert "http://127.0.0.1:" in str(raised.value)
    assert "NotFoundException: The cluster does not exist." in str(raised.value)


async def test_a_cluster_that_wants_a_secret_names_itself_and_the_fix(msk: Msk) -> None:
    msk.answer = {"BootstrapBrokerStringTls": "b-1:9094"}
    msk.authentication = {"Tls": {"Enabled": True}, "Unauthenticated": {"Enabled": False}}
    with pytest.raises(LoginFailed) as raised:
        await access().options(mapping(MskSource(arn=ARN)))
    assert str(raised.value) == (
        f"The MSK cluster {ARN} cannot be used: the cluster accepts no unauthenticated"
        " connections: name a secret in SourceAccessConfigurations as CLIENT_CERTIFICATE_TLS_AUTH."
    )


async def test_a_control_plane_that_is_down_is_named(msk: Msk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KAFKA", "http://127.0.0.1:1")
    with pytest.raises(SourceUnavailable, match=r"http://127\.0\.0\.1:1 for the bootstrap brokers of arn"):
        await access().options(mapping(MskSource(arn=ARN)))
    assert msk.asked == []


async def test_missing_credentials_are_named_without_asking(
    msk: Msk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SourceUnavailable, match="Unable to locate credentials"):
        await access().options(mapping(MskSource(arn=ARN)))
    assert msk.asked == []
