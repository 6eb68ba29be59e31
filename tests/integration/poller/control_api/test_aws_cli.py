"""The AWS CLI creates, sees and deletes mappings, and shows the rejections as it shows AWS's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.poller.control_api.requests import MSK

AWS = Path(sys.executable).with_name("aws")


def aws(endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_LAMBDA": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
    }
    return subprocess.run(
        [AWS, "lambda", *arguments, "--output", "json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answered(endpoint: str, *arguments: str) -> Any:
    done = aws(endpoint, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_aws_cli_creates_lists_and_deletes_a_mapping(endpoint: str) -> None:
    created = answered(
        endpoint,
        *("create-event-source-mapping", "--function-name", "f", "--event-source-arn", MSK),
        *("--topics", "orders", "--batch-size", "50", "--maximum-batching-window-in-seconds", "2"),
        *("--provisioned-poller-config", "MinimumPollers=1,MaximumPollers=2"),
        *("--maximum-retry-attempts", "2", "--bisect-batch-on-function-error"),
    )
    assert (created["State"], created["BatchSize"], created["MaximumRetryAttempts"]) == ("Creating", 50, 2)
    listed = answered(endpoint, "list-event-source-mappings", "--function-name", "f")
    assert listed == {"EventSourceMappings": [created]}
    deleted = answered(endpoint, "delete-event-source-mapping", "--uuid", created["UUID"])
    assert deleted["State"] == "Deleting"


def test_the_aws_cli_shows_a_rejection_word_for_word(endpoint: str) -> None:
    done = aws(
        endpoint,
        *("create-event-source-mapping", "--function-name", "f", "--event-source-arn", MSK),
        *("--topics", "orders", "--parallelization-factor", "2"),
    )
    assert done.returncode != 0
    assert (
        "(InvalidParameterValueException) when calling the CreateEventSourceMapping operation:"
        " Unsupported 'parallelizationFactor' parameter for given event source mapping type." in done.stderr
    )


def test_the_aws_cli_shows_a_broken_constraint(endpoint: str) -> None:
    done = aws(
        endpoint,
        *("create-event-source-mapping", "--function-name", "f", "--event-source-arn", MSK),
        *("--topics", "orders", "--batch-size", "20000"),
    )
    assert done.returncode != 0
    assert (
        "(ValidationException) when calling the CreateEventSourceMapping operation:"
        " 1 validation error detected: Value '20000' at 'batchSize' failed to satisfy constraint:"
        " Member must have value less than or equal to 10000" in done.stderr
    )
