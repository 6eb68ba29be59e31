"""`tidemill up --auth` over its life: what a second start keeps, and what a restart of its AWS gives back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import wait_until
from tests.harness.stack import ACCOUNT, Program
from tests.harness.up import Up, running_up
from tidemill_local.secured.aws_setup import CERTIFICATE_SECRET, SCRAM_SECRET

pytestmark = pytest.mark.slow

HANDLER = "def handler(event, context):\n    print('got', sorted(event['records']))\n"
MADE_ONCE = ("auth.json", "tls/ca.pem", "tls/broker.pem", "tls/client.pem")


def scram_user(up: Up) -> Any:
    return json.loads(up.client("secretsmanager").get_secret_value(SecretId=SCRAM_SECRET)["SecretString"])


def user_keys(up: Up) -> list[str]:
    keys = up.client("iam").list_access_keys(UserName="tidemill")["AccessKeyMetadata"]
    return [key["AccessKeyId"] for key in keys]


def create_mapping(up: Up, folder: Path, topic: str) -> tuple[str, str]:
    """By our own command line, which is not told how to come in; the way that it took: type and secret."""
    (folder / "app.py").write_text(HANDLER)
    up.cli("function", "register", topic, f"{folder}/app.py:handler")
    up.cli("topic", "create", topic)
    mapping = json.loads(up.cli("mapping", "create", topic, "--topic", topic, "--json"))
    [access] = mapping["SourceAccessConfigurations"]
    return access["Type"], access["URI"].rpartition(":")[2]


def await_record(up: Up, topic: str) -> None:
    up.cli("topic", "produce", topic, "one")
    wait_until(lambda: f"got ['{topic}-0']" in up.cli("function", "logs", topic), what="the record")


def test_a_second_start_goes_on_with_the_same_ca_users_and_keys(tmp_path: Path) -> None:
    """A mapping of the first start works in the second; so do its users when the embedded AWS was killed."""
    data_dir = tmp_path / "data"
    with running_up(data_dir, "--auth", "scram") as up:
        assert up.ready["listeners"] == {"scram": up.ready["bootstrap_servers"]}
        assert create_mapping(up, tmp_path, "kept") == ("SASL_SCRAM_512_AUTH", SCRAM_SECRET)
        user = scram_user(up)
        before = {name: (data_dir / name).read_bytes() for name in MADE_ONCE}
        assert up.stop() == 0
    with running_up(data_dir, "--auth", "iam,scram") as again:
        assert {name: (data_dir / name).read_bytes() for name in MADE_ONCE} == before
        assert scram_user(again) == user
        await_record(again, "kept")
        [key] = user_keys(again)
        os.kill(again.pids["aws"], signal.SIGKILL)
        wait_until(lambda: "the secrets of --auth are made again" in again.log, what="the secrets")
        assert scram_user(again) == user
        assert user_keys(again) == [key]


def test_with_mtls_alone_the_certificate_of_up_is_the_way_in(tmp_path: Path) -> None:
    with running_up(tmp_path / "data", "--auth", "mtls") as up:
        assert create_mapping(up, tmp_path, "orders") == ("CLIENT_CERTIFICATE_TLS_AUTH", CERTIFICATE_SECRET)
        await_record(up, "orders")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Program]:
    """An AWS of somebody else: moto once more, without what `up` gives to its own."""
    aws = Program(
        name="aws",
        module="tidemill_local.aws",
        arguments=("--account-id", ACCOUNT),
        environ={},
        run_dir=tmp_path / "emulator",
    )
    try:
        yield aws.start()
    finally:
        aws.kill()


def test_another_emulator_gets_the_secrets_and_the_user(tmp_path: Path, emulator: Program) -> None:
    """Of its keys Kafka knows the one that `up` asked for, and the log says so."""
    with running_up(tmp_path / "data", "--auth", "iam,scram", "--aws-endpoint-url", emulator.url) as up:
        told = json.loads((up.data_dir / "broker" / "identities-aws.json").read_text())
        assert [identity["accessKeyId"] for identity in told["identities"]] == user_keys(up)
        password = scram_user(up)["password"]
        assert password in (up.data_dir / "clients" / "scram.librdkafka.properties").read_text()
        assert "does not tell which access keys it issues" in up.log
        up.cli("topic", "create", "orders")


def test_a_damaged_file_of_secrets_stops_the_start_with_the_fix(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "auth.json").write_text('{"scram_password": "planted"')
    with pytest.raises(AssertionError) as told, running_up(data_dir, "--auth", "scram"):
        pass
    assert f"error: {data_dir}/auth.json is damaged: restore a backup, or remove it" in str(told.value)
    assert "planted" not in str(told.value)
