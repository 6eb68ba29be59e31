"""The read half of the MSK API, with boto3 as the client."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.harness.tidemill_broker import TidemillBroker
from tests.harness.tls_broker import tls_broker
from tidemill_broker.control_plane import client_authentication, client_broker
from tidemill_broker.listeners import ListenerName
from tidemill_broker.settings import Settings

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TidemillBroker]:
    started = TidemillBroker(data_dir=tmp_path_factory.mktemp("broker")).start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def msk(broker: TidemillBroker) -> Any:
    endpoint = f"http://127.0.0.1:{broker.ready['control_port']}"
    quick = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=10)
    return boto3.client("kafka", endpoint_url=endpoint, config=quick, **KEYS)


@pytest.fixture(scope="module")
def arn(broker: TidemillBroker) -> str:
    return str(broker.ready["cluster_arn"])


def test_an_arn_is_enough_to_find_the_broker(msk: Any, broker: TidemillBroker, arn: str) -> None:
    reply = msk.get_bootstrap_brokers(ClusterArn=arn)
    reply.pop("ResponseMetadata")
    assert reply == {"BootstrapBrokerString": broker.bootstrap_servers}, (
        "ways in that are not there are absent"
    )


def test_the_cluster_is_described_in_both_versions(msk: Any, arn: str) -> None:
    old = msk.describe_cluster(ClusterArn=arn)["ClusterInfo"]
    new = msk.describe_cluster_v2(ClusterArn=arn)["ClusterInfo"]
    for info in (old, new):
        assert info["ClusterArn"] == arn
        assert info["ClusterName"] == "tidemill"
        assert info["State"] == "ACTIVE"
        assert info["CurrentVersion"].startswith("K")
        assert info["CreationTime"].year >= 2024
    assert new["ClusterType"] == "PROVISIONED"
    for provisioned in (old, new["Provisioned"]):
        assert provisioned["NumberOfBrokerNodes"] == 1
        assert provisioned["EncryptionInfo"]["EncryptionInTransit"]["ClientBroker"] == "PLAINTEXT"
        assert provisioned["ClientAuthentication"]["Unauthenticated"]["Enabled"] is True
        assert "ZookeeperConnectString" not in provisioned


def test_each_way_in_that_is_on_has_its_bootstrap_string(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as running:
        endpoint = f"http://127.0.0.1:{running.broker.ready['control_port']}"
        msk = boto3.client("kafka", endpoint_url=endpoint, **KEYS)
        arn = running.broker.ready["cluster_arn"]
        reply = msk.get_bootstrap_brokers(ClusterArn=arn)
        reply.pop("ResponseMetadata")
        assert reply == {
            "BootstrapBrokerString": f"127.0.0.1:{running.port('plaintext')}",
            "BootstrapBrokerStringTls": f"127.0.0.1:{running.port('tls')}",
            "BootstrapBrokerStringSaslScram": f"127.0.0.1:{running.port('scram')}",
            "BootstrapBrokerStringSaslIam": f"127.0.0.1:{running.port('iam')}",
        }
        info = msk.describe_cluster_v2(ClusterArn=arn)["ClusterInfo"]["Provisioned"]
        assert info["EncryptionInfo"]["EncryptionInTransit"]["ClientBroker"] == "TLS_PLAINTEXT"


ALL: Mapping[ListenerName, int] = {"plaintext": 1, "tls": 2, "scram": 3, "iam": 4}


@pytest.mark.parametrize(
    ("on", "client_auth", "told"),
    [
        (["plaintext"], "requested", "PLAINTEXT: Unauthenticated"),
        (["tls"], "requested", "TLS: Tls, Unauthenticated"),
        (["tls"], "required", "TLS: Tls"),
        (["tls"], "none", "TLS: Unauthenticated"),
        (["scram"], "requested", "TLS: Scram"),
        (["scram", "iam"], "requested", "TLS: Scram, Iam"),
        (["plaintext", "iam"], "requested", "TLS_PLAINTEXT: Iam, Unauthenticated"),
    ],
)
def test_a_description_says_how_clients_come_in(on: list[ListenerName], client_auth: str, told: str) -> None:
    settings = Settings(listeners={name: ALL[name] for name in on}, ssl_client_auth=client_auth)
    found = client_authentication(settings)
    ways = {**found.pop("Sasl"), **found}
    enabled = ", ".join(name for name, way in ways.items() if way["Enabled"])
    assert f"{client_broker(settings)}: {enabled}" == told


@pytest.mark.parametrize("operation", ["list_clusters", "list_clusters_v2"])
@pytest.mark.parametrize(
    ("prefix", "found"), [(None, 1), ("", 1), ("tide", 1), ("tidemill", 1), ("mill", 0), ("tidemill2", 0)]
)
def test_clusters_are_listed_by_the_beginning_of_their_name(
    msk: Any, arn: str, operation: str, prefix: str | None, found: int
) -> None:
    asked = {} if prefix is None else {"ClusterNameFilter": prefix}
    reply = getattr(msk, operation)(**asked, MaxResults=1)
    assert [each["ClusterArn"] for each in reply["ClusterInfoList"]] == [arn] * found
    assert "NextToken" not in reply


def test_clusters_are_listed_by_type(msk: Any) -> None:
    assert len(msk.list_clusters_v2(ClusterTypeFilter="PROVISIONED")["ClusterInfoList"]) == 1
    assert msk.list_clusters_v2(ClusterTypeFilter="SERVERLESS")["ClusterInfoList"] == []


def test_the_paginators_of_boto3_end(msk: Any, arn: str) -> None:
    for operation in ("list_clusters", "list_clusters_v2"):
        pages = list(msk.get_paginator(operation).paginate())
        assert [len(page["ClusterInfoList"]) for page in pages] == [1]
    (page,) = msk.get_paginator("list_nodes").paginate(ClusterArn=arn)
    assert len(page["NodeInfoList"]) == 1


def test_the_one_node_is_listed(msk: Any, arn: str) -> None:
    (node,) = msk.list_nodes(ClusterArn=arn)["NodeInfoList"]
    assert node["NodeType"] == "BROKER"
    assert node["BrokerNodeInfo"]["BrokerId"] == 1.0
    assert node["BrokerNodeInfo"]["Endpoints"] == ["127.0.0.1"]
    assert node["NodeARN"].startswith("arn:aws:kafka:us-east-1:123456789012:broker/tidemill/")


@pytest.mark.parametrize(
    "operation", ["describe_cluster", "describe_cluster_v2", "get_bootstrap_brokers", "list_nodes"]
)
@pytest.mark.parametrize(
    ("asked", "code", "status"),
    [
        ("arn:aws:kafka:us-east-1:123456789012:cluster/other/abc-1", "NotFoundException", 404),
        ("arn:aws:kafka:eu-west-1:123456789012:cluster/tidemill/abc-1", "NotFoundException", 404),
        ("tidemill", "BadRequestException", 400),
    ],
)
def test_another_cluster_is_not_found(msk: Any, operation: str, asked: str, code: str, status: int) -> None:
    with pytest.raises(ClientError) as raised:
        getattr(msk, operation)(ClusterArn=asked)
    response = raised.value.response
    assert response["Error"]["Code"] == code
    assert response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("list_clusters", {"NextToken": "made-up"}),
        ("list_clusters", {"MaxResults": 101}),
        ("list_clusters_v2", {"ClusterTypeFilter": "EXPRESS"}),
    ],
)
def test_what_the_request_may_not_say_is_a_bad_request(
    msk: Any, operation: str, asked: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as raised:
        getattr(msk, operation)(**asked)
    assert raised.value.response["Error"]["Code"] == "BadRequestException"


def test_an_operation_that_is_not_built_says_so_by_its_name(msk: Any, arn: str) -> None:
    with pytest.raises(ClientError, match="CreateCluster") as raised:
        msk.create_cluster_v2(ClusterName="other", Serverless={"VpcConfigs": [{"SubnetIds": ["subnet-1"]}]})
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert msk.describe_cluster(ClusterArn=arn)["ClusterInfo"]["State"] == "ACTIVE"


def test_an_arn_whose_slashes_some_http_stack_decoded_is_understood(broker: TidemillBroker, arn: str) -> None:
    url = f"http://127.0.0.1:{broker.ready['control_port']}/v1/clusters/{arn}/bootstrap-brokers"
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert json.load(reply) == {"bootstrapBrokerString": broker.bootstrap_servers}


def test_region_and_account_are_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("TIDEMILL_ACCOUNT_ID", "111122223333")
    started = TidemillBroker(data_dir=tmp_path).start()
    started.stop()
    assert started.ready["cluster_arn"].startswith(
        "arn:aws:kafka:eu-central-1:111122223333:cluster/tidemill/"
    )
