"""Secrets are read at create and update, as on AWS: one that cannot be used stores nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from tests.fakes.certificates import Authority
from tests.fakes.http_thread import serving
from tests.fakes.lambda_functions import FakeFunctions
from tests.integration.poller.control_api.conftest import FUNCTIONS, client_of
from tests.integration.poller.control_api.requests import smk
from tidemill_poller.aws import AwsClients
from tidemill_poller.control_api import application
from tidemill_poller.kafka_auth import KafkaAccess
from tidemill_poller.mapping import State
from tidemill_poller.settings import Settings
from tidemill_poller.store import MappingStore

Put = Callable[[str, dict[str, Any] | str], str]
MISSING = "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-AbCdEf"


@pytest.fixture(scope="module")
def put() -> Iterator[Put]:
    """Makes a secret and gives its ARN."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_PROFILE", raising=False)
        environment.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        secrets = boto3.client("secretsmanager", region_name="us-east-1")

        def put(name: str, content: dict[str, Any] | str) -> str:
            text = content if isinstance(content, str) else json.dumps(content)
            return str(secrets.create_secret(Name=name, SecretString=text)["ARN"])

        yield put
    moto.stop()


@pytest.fixture(scope="module")
def client(put: Put, data_dir: Path) -> Iterator[Any]:
    access = KafkaAccess(AwsClients(boto3.Session(region_name="us-east-1")))
    with serving(
        lambda: application(MappingStore(data_dir), FakeFunctions(FUNCTIONS), Settings(), access.check)
    ) as url:
        yield client_of(url)


def entries(**access: str) -> list[dict[str, str]]:
    return [{"Type": kind, "URI": uri} for kind, uri in access.items()]


def rejection(call: Callable[..., Any], **arguments: Any) -> tuple[str, str, str | None]:
    with pytest.raises(ClientError) as raised:
        call(**arguments)
    response = raised.value.response
    reason = response["ResponseMetadata"]["HTTPHeaders"].get("x-tidemill-reason")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return response["Error"]["Code"], response["Error"]["Message"], reason


def test_a_secret_that_is_not_there_is_rejected_in_awss_words(client: Any, store: MappingStore) -> None:
    """aws-cdk#18571; the reason stands beside."""
    code, message, reason = rejection(
        client.create_event_source_mapping,
        **smk(SourceAccessConfigurations=entries(BASIC_AUTH=MISSING)),
    )
    assert code == "InvalidParameterValueException"
    assert message == (
        f"Cannot access secret manager value {MISSING}. Please ensure the role can perform the"
        " 'secretsmanager:GetSecretValue' action on your broker in IAM."
    )
    assert reason is not None
    assert "ResourceNotFoundException" in reason
    assert store.all() == []


@pytest.mark.parametrize(
    ("kind", "content", "fault"),
    [
        ("BASIC_AUTH", "planted", "is no JSON object"),
        ("SASL_SCRAM_256_AUTH", {"username": "planted"}, "has no text under 'password': add that key."),
        ("SASL_SCRAM_512_AUTH", {"user": "planted"}, "has no text under 'username': add that key."),
        ("CLIENT_CERTIFICATE_TLS_AUTH", {"certificate": "planted"}, "'certificate' is not in PEM"),
        ("SERVER_ROOT_CA_CERTIFICATE", {"certificate": "planted"}, "'certificate' is not in PEM"),
    ],
)
def test_a_secret_that_cannot_be_used_is_rejected_with_the_fix(
    client: Any, put: Put, store: MappingStore, kind: str, content: dict[str, Any] | str, fault: str
) -> None:
    arn = put(f"bad-{kind}", content)
    code, message, _ = rejection(
        client.create_event_source_mapping,
        **smk(SourceAccessConfigurations=entries(**{kind: arn})),
    )
    assert code == "InvalidParameterValueException"
    assert arn in message
    assert fault in message
    assert "planted" not in message
    assert store.all() == []


def test_every_kind_of_access_is_taken_and_replied(client: Any, put: Put, data_dir: Path) -> None:
    """By ARN and by name; IAM_AUTH names no secret, VPC components are the machine's own."""
    authority = Authority()
    issued = authority.issue("client")
    login = put("login", {"username": "u", "password": "planted"})
    certificate = put("certificate", {"certificate": issued.chain_pem, "privateKey": issued.key_pem})
    put("ca", {"certificate": authority.pem})
    vpc = {"VPC_SUBNET": "subnet:subnet-1", "VPC_SECURITY_GROUP": "security_group:sg-1"}
    for number, access in enumerate(
        [
            entries(BASIC_AUTH=login, SERVER_ROOT_CA_CERTIFICATE="ca", **vpc),
            entries(SASL_SCRAM_256_AUTH="login"),
            entries(SASL_SCRAM_512_AUTH=login),
            entries(CLIENT_CERTIFICATE_TLS_AUTH=certificate, SERVER_ROOT_CA_CERTIFICATE="ca"),
            entries(SERVER_ROOT_CA_CERTIFICATE="ca"),
            [{"Type": "IAM_AUTH"}, *entries(SERVER_ROOT_CA_CERTIFICATE="ca")],
        ]
    ):
        reply = client.create_event_source_mapping(
            **smk(SourceAccessConfigurations=access, Topics=[f"topic-{number}"])
        )
        assert reply["SourceAccessConfigurations"] == access
    assert b"planted" not in b"".join(file.read_bytes() for file in data_dir.iterdir())


def test_an_update_reads_the_secrets_that_it_names(client: Any, put: Put, store: MappingStore) -> None:
    created = client.create_event_source_mapping(**smk())
    store.set_status(created["UUID"], state=State.ENABLED)
    before = store.all()
    _, message, _ = rejection(
        client.update_event_source_mapping,
        UUID=created["UUID"],
        SourceAccessConfigurations=entries(BASIC_AUTH=MISSING),
    )
    assert message.startswith("Cannot access secret manager value")
    assert store.all() == before


def test_a_secrets_manager_that_cannot_be_reached_is_rejected_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    access = KafkaAccess(AwsClients(boto3.Session(region_name="us-east-1")))
    with serving(
        lambda: application(MappingStore(tmp_path), FakeFunctions(FUNCTIONS), Settings(), access.check)
    ) as url:
        _, message, reason = rejection(
            client_of(url).create_event_source_mapping,
            **smk(SourceAccessConfigurations=entries(BASIC_AUTH="login")),
        )
    assert message.startswith("Cannot access secret manager value login.")
    assert reason is not None
    assert "http://127.0.0.1:1" in reason
