"""A control API on a free port, with the store it writes and a boto3 client that checks nothing itself."""

from __future__ import annotations

from collections import abc
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.loaders import create_loader

import tidemill_awsapi
from tests.fakes.http_thread import serving
from tests.fakes.kafka_access import secrets_are_fine
from tests.fakes.lambda_functions import FakeFunctions
from tidemill_poller.control_api import application
from tidemill_poller.settings import Settings
from tidemill_poller.store import MappingStore

FUNCTIONS = {"f": 30, "f:1": 30, "f:live": 30, "g": 30, "slow": 900, "edge": 840}


@contextmanager
def serving_control_api(data_dir: Path, settings: Settings) -> abc.Iterator[str]:
    with serving(
        lambda: application(MappingStore(data_dir), FakeFunctions(FUNCTIONS), settings, secrets_are_fine)
    ) as url:
        yield url


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poller")


@pytest.fixture(scope="module")
def endpoint(data_dir: Path) -> abc.Iterator[str]:
    """One server a module; every test finds it without mappings."""
    with serving_control_api(data_dir, Settings()) as url:
        yield url


@pytest.fixture
def store(endpoint: str, data_dir: Path) -> abc.Iterator[MappingStore]:
    """The same file through a connection of our own: what is on disk, not what the API says."""
    opened = MappingStore(data_dir)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def emptied(store: MappingStore) -> abc.Iterator[None]:
    yield
    for uuid in [one.uuid for one in store.all()] + [one.uuid for one in store.damaged()]:
        store.delete(uuid)


@pytest.fixture(scope="module")
def client(endpoint: str) -> Any:
    return client_of(endpoint)


def client_of(endpoint: str) -> Any:
    """A client that knows the parameters that the server knows, whichever botocore is installed."""
    session = botocore.session.Session()
    models = Path(tidemill_awsapi.__file__).parent / "models"
    session.register_component("data_loader", create_loader(str(models)))
    return boto3.Session(botocore_session=session).client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )
