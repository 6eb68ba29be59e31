"""What the table of runtimes says of names that it does not run, and of programs that are missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from tests.harness.contract.cases import zipped
from tests.harness.functions_server import ROLE, FunctionsServer

Name = Callable[[], str]


def test_a_bootstrap_that_is_missing_is_named(server: FunctionsServer, name: Name) -> None:
    server.client.create_function(
        FunctionName=(function := name()),
        Runtime="provided.al2",
        Role=ROLE,
        Handler="any",
        Code={"ZipFile": zipped({"app": "x"})},
    )
    result, _ = server.invoke(function)
    assert result["errorType"] == "Runtime.InvalidEntrypoint"
    assert "Couldn't find valid bootstrap(s)" in result["errorMessage"]


@pytest.mark.parametrize(
    ("runtime", "instead"),
    [
        ("ruby3.3", "package it with a bootstrap for provided.al2023"),
        ("dotnet8", "publish it with native AOT and a bootstrap for provided.al2023"),
        ("java11", "choose java17 or newer"),
        ("java8.al2", "choose java17 or newer"),
        ("go1.x", "build it as bootstrap for provided.al2023"),
        ("nodejs16.x", "choose nodejs18.x or newer"),
        ("python3.9", "choose one of python3.10"),
    ],
)
def test_a_runtime_that_is_not_built_names_what_to_do(
    server: FunctionsServer, name: Name, runtime: str, instead: str
) -> None:
    with pytest.raises(ClientError) as raised:
        server.client.create_function(
            FunctionName=name(),
            Runtime=runtime,
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": zipped({"app": "x"})},
        )
    message = raised.value.response["Error"]["Message"]
    assert message.startswith(f"The runtime {runtime} cannot be run here: {instead}")


def test_a_container_image_is_rejected_with_what_to_do(server: FunctionsServer, name: Name) -> None:
    with pytest.raises(ClientError) as raised:
        server.client.create_function(
            FunctionName=name(), PackageType="Image", Role=ROLE, Code={"ImageUri": "any/image:1"}
        )
    message = raised.value.response["Error"]["Message"]
    assert "image" in message.lower()
    assert "zip" in message.lower()
