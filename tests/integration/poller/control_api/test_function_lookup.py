"""Functions are found by the real lookup as by the fake one, and a Lambda that gives no answer is named."""

from __future__ import annotations

from collections import abc
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from tests.fakes.http_thread import serving
from tests.fakes.kafka_access import secrets_are_fine
from tests.fakes.lambda_functions import ARN, FakeFunctions, lambda_api
from tests.integration.poller.control_api.conftest import FUNCTIONS, client_of
from tests.integration.poller.control_api.requests import msk
from tidemill_poller.aws import AwsClients
from tidemill_poller.control_api import FunctionLookup, FunctionView, LambdaFunctions, application
from tidemill_poller.errors import FunctionLookupFailed
from tidemill_poller.mapping import State
from tidemill_poller.settings import Settings
from tidemill_poller.store import MappingStore

NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def lambda_functions() -> LambdaFunctions:
    return LambdaFunctions(AwsClients(boto3.Session(region_name="us-east-1")))


@pytest.fixture(params=["fake", "real"])
def lookup(
    request: pytest.FixtureRequest, aws_environment: pytest.MonkeyPatch
) -> abc.Iterator[FunctionLookup]:
    if request.param == "fake":
        yield FakeFunctions(FUNCTIONS)
        return
    with serving(lambda: lambda_api(FUNCTIONS)) as url:
        aws_environment.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        yield lambda_functions()


@pytest.mark.parametrize("qualifier", ["", ":1", ":live", ":$LATEST"])
@pytest.mark.parametrize("prefix", ["", "123456789012:function:", ARN])
async def test_a_function_is_found_by_every_form_of_its_name(
    lookup: FunctionLookup, prefix: str, qualifier: str
) -> None:
    found = await lookup.resolve(f"{prefix}f{qualifier}")
    assert found is not None
    assert (found.arn, found.timeout_s) == (f"{ARN}f{qualifier}", 30)


@pytest.mark.parametrize("name", ["absent", "f:absent", "999999999999:function:f"])
async def test_a_function_that_is_not_there_is_none(lookup: FunctionLookup, name: str) -> None:
    assert await lookup.resolve(name) is None


async def test_a_lambda_that_cannot_be_reached_is_named_without_secrets(
    aws_environment: pytest.MonkeyPatch,
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_LAMBDA", NOBODY)
    with pytest.raises(FunctionLookupFailed, match="AWS_ENDPOINT_URL_LAMBDA") as caught:
        await lambda_functions().resolve("f")
    assert NOBODY in str(caught.value)
    assert "very-secret" not in str(caught.value)


async def test_a_lambda_in_trouble_is_quoted(aws_environment: pytest.MonkeyPatch) -> None:
    with serving(lambda: lambda_api({})) as url:
        aws_environment.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
        with pytest.raises(FunctionLookupFailed, match="Out of order"):
            await lambda_functions().resolve("broken")


class _WhileAsked(FakeFunctions):
    """Deletes the mapping while the caller waits for the answer, as another client might."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(FUNCTIONS)
        self._store = MappingStore(tmp_path)

    async def resolve(self, function_name: str) -> FunctionView | None:
        for mapping in self._store.all():
            self._store.replace(replace(mapping, state=State.DELETING), expected_version=mapping.version)
        return await super().resolve(function_name)


def test_what_happens_to_a_mapping_while_lambda_is_asked_is_not_overwritten(tmp_path: Path) -> None:
    settings = Settings()
    with serving(
        lambda: application(MappingStore(tmp_path), _WhileAsked(tmp_path), settings, secrets_are_fine)
    ) as endpoint:
        client = client_of(endpoint)
        uuid = client.create_event_source_mapping(**msk())["UUID"]
        store = MappingStore(tmp_path)
        store.set_status(uuid, state=State.ENABLED)
        with pytest.raises(client.exceptions.ResourceInUseException):
            client.update_event_source_mapping(UUID=uuid, FunctionName="g")
        mapping = store.get(uuid)
        store.close()
    assert mapping is not None
    assert (mapping.state, mapping.function_arn) == (State.DELETING, f"{ARN}f")


def test_without_lambda_a_create_answers_a_service_exception_and_stores_nothing(
    aws_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_LAMBDA", NOBODY)
    settings = Settings()
    with serving(
        lambda: application(MappingStore(tmp_path), lambda_functions(), settings, secrets_are_fine)
    ) as endpoint:
        client = client_of(endpoint)
        with pytest.raises(client.exceptions.ServiceException) as caught:
            client.create_event_source_mapping(**msk())
        error = caught.value.response
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert error["Error"]["Message"].startswith("Lambda cannot be asked about the function: ")
        assert client.list_event_source_mappings()["EventSourceMappings"] == []
