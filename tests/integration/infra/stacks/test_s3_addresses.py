"""A bucket's object is found by path and by host, as tools name it in the URL of a template."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.harness.deploying import Target
from tests.harness.up import running_up

TEMPLATE = json.dumps({"Resources": {"Failures": {"Type": "AWS::SQS::Queue"}}})


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running_up(tmp_path_factory.mktemp("addresses")) as up:
        up.client("s3").create_bucket(Bucket="templates")
        up.client("s3").put_object(Bucket="templates", Key="app/one.json", Body=TEMPLATE.encode())
        yield Target(up=up)


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("127.0.0.1", "/templates/app/one.json"),
        ("templates.s3.localhost", "/app/one.json"),
        ("templates.s3.us-east-1.localhost", "/app/one.json"),
        ("templates.localhost", "/app/one.json"),
    ],
)
def test_an_object_is_read_by_path_and_by_host(target: Target, host: str, path: str) -> None:
    endpoint = str(target.up.ready["endpoint_url"])
    port = endpoint.rpartition(":")[2]
    request = urllib.request.Request(endpoint + path, headers={"Host": f"{host}:{port}"})
    with urllib.request.urlopen(request) as reply:
        assert reply.read().decode() == TEMPLATE


@pytest.mark.parametrize(
    "url",
    [
        "{endpoint}/templates/app/one.json",
        "http://templates.s3.localhost:{port}/app/one.json",
        "http://templates.localhost:{port}/app/one.json",
        "https://templates.s3.us-east-1.amazonaws.com/app/one.json",
        "https://s3.us-east-1.amazonaws.com/templates/app/one.json",
    ],
)
def test_a_template_is_read_by_each_form_of_its_url(target: Target, url: str) -> None:
    endpoint = str(target.up.ready["endpoint_url"])
    client = target.up.client("cloudformation")
    found = url.format(endpoint=endpoint, port=endpoint.rpartition(":")[2])
    reply = client.get_template_summary(TemplateURL=found)
    assert reply["ResourceTypes"] == ["AWS::SQS::Queue"]
