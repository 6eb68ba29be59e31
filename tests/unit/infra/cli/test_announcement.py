"""What `up` says once everything answers: all that a shell needs to reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_cli.announcement import announcement
from tidemill_local.launcher import Ready
from tidemill_local.settings import read_settings

READY = Ready(
    endpoint_url="http://127.0.0.1:4580",
    bootstrap_servers="127.0.0.1:9092",
    listeners={"plaintext": "127.0.0.1:9092"},
    cluster_arn="arn",
    region="eu-west-1",
    pids={},
)
TEST = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
OWN = {"AWS_ACCESS_KEY_ID": "own", "AWS_SECRET_ACCESS_KEY": "own-secret"}


@pytest.mark.parametrize(
    ("other_aws", "own", "keys"),
    [
        (None, {}, TEST),
        (None, OWN, TEST),
        ("http://127.0.0.1:4566", {}, TEST),
        ("http://127.0.0.1:4566", OWN, {}),
    ],
)
def test_the_exports_are_all_that_a_client_needs(
    tmp_path: Path, other_aws: str | None, own: dict[str, str], keys: dict[str, str]
) -> None:
    """Region and keys too, unless another AWS is called with the user's own keys."""
    environ = {"AWS_REGION": "eu-west-1", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), **own}
    settings = read_settings(data_dir=tmp_path, aws_endpoint_url=other_aws, environ=environ)
    said = announcement(READY, (), settings)
    exported = {
        word.partition("=")[0]: word.partition("=")[2]
        for line in said.splitlines()
        if line.startswith("  export ")
        for word in line.split()[1:]
    }
    assert exported == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4580",
        "AWS_DEFAULT_REGION": "eu-west-1",
        **keys,
    }
    assert "own" not in said
