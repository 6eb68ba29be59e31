"""Secrets of every kind are used and misused: none is found in what programs log, write or answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.harness.processes import wait_until
from tests.harness.up import REGION, Up, running_up
from tidemill_local.secured.aws_setup import CERTIFICATE_SECRET, SCRAM_SECRET, secret_arn

pytestmark = pytest.mark.slow

ACCOUNT = "123456789012"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/reader"
WRONG_PASSWORD = "planted-wrong-password"
NEW_PASSWORD = "planted-new-password"
NOT_JSON = "planted-secret-that-is-no-json"
BAD_KEY = "planted-private-key"
KEY_PASSWORD = "planted-key-password"
TYPED_KEY = "planted-identity-secret"
PLANTED = (WRONG_PASSWORD, NEW_PASSWORD, NOT_JSON, BAD_KEY, KEY_PASSWORD, TYPED_KEY)
# Secrets lie here for their user, and for nobody else.
KEPT = ("auth.json", "clients/", "tls/", "broker/identities.json", "broker/identities-aws.json")
HANDLER = "def handler(event, context):\n    return None\n"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(
        tmp_path_factory.mktemp("planted") / "data",
        *("--auth", "iam,scram,mtls,plain"),
        TIDEMILL_POLLER_SECRET_REFRESH_S="0.3",
    ) as running:
        yield running


def create_mapping(up: Up, topic: str, kind: str, secret: str) -> str:
    return str(
        up.client("lambda").create_event_source_mapping(
            FunctionName="any",
            Topics=[topic],
            EventSourceArn=up.ready["cluster_arn"],
            StartingPosition="TRIM_HORIZON",
            SourceAccessConfigurations=[{"Type": kind, "URI": secret_arn(secret, REGION, ACCOUNT)}],
        )["UUID"]
    )


def has_problem(up: Up, uuid: str) -> bool:
    mapping = up.client("lambda").get_event_source_mapping(UUID=uuid)
    return "PROBLEM" in mapping["LastProcessingResult"]


def spoil_mappings(up: Up) -> Iterator[str]:
    """Mappings whose secrets turn bad; what the API says of them, and of those that it refuses."""
    up.cli("topic", "create", "planted")
    secrets = up.client("secretsmanager")
    wrong = {"username": "tidemill", "password": WRONG_PASSWORD}
    bad = {"certificate": "none", "privateKey": BAD_KEY, "privateKeyPassword": KEY_PASSWORD}
    secrets.create_secret(Name="wrong", SecretString=json.dumps(wrong))
    secrets.create_secret(Name="AmazonMSK_odd", SecretString=NOT_JSON)
    uuids = [
        create_mapping(up, "planted", "CLIENT_CERTIFICATE_TLS_AUTH", CERTIFICATE_SECRET),
        create_mapping(up, "planted-too", "SASL_SCRAM_512_AUTH", "wrong"),
    ]
    secrets.put_secret_value(SecretId=CERTIFICATE_SECRET, SecretString=json.dumps(bad))
    wait_until(lambda: "secrets not followed" in up.log, what="the bad certificate to be looked at")
    wait_until(lambda: has_problem(up, uuids[1]), what="the password to be refused")
    for uuid in uuids:
        yield up.cli("mapping", "get", uuid, "--json")
        yield up.cli("mapping", "watch", uuid, "--once", "--json")
    for kind, name in (("SASL_SCRAM_512_AUTH", "AmazonMSK_odd"), ("CLIENT_CERTIFICATE_TLS_AUTH", "wrong")):
        with pytest.raises(ClientError) as refused:
            create_mapping(up, "planted", kind, name)
        yield str(refused.value)


def spoil_logins(up: Up) -> Iterator[str]:
    """A wrong password, a wrong token and a broken file of keys; what clients are told."""
    secrets = up.client("secretsmanager")
    new = json.dumps({"username": "tidemill", "password": NEW_PASSWORD})
    secrets.put_secret_value(SecretId=SCRAM_SECRET, SecretString=new)
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        options: dict[str, Any] = {
            "bootstrap.servers": up.ready["listeners"]["scram"],
            "ssl.ca.location": str(up.data_dir / "tls" / "ca.pem"),
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": mechanism,
            "sasl.username": "tidemill",
            "sasl.password": WRONG_PASSWORD,
            "log_level": 0,
        }
        with pytest.raises(KafkaException) as refused:
            AdminClient(options).list_topics(timeout=1)
        yield str(refused.value)
    identities = up.data_dir / "broker" / "identities.json"
    good = identities.read_text()
    identities.write_text(good.replace('"secretAccessKey"', f'"{TYPED_KEY}"'))
    wait_until(lambda: "auth.iam.identities" in up.log and "stays in force" in up.log, what="the complaint")
    identities.write_text(good)


def kept_secrets(up: Up) -> dict[str, str]:
    """What `up` made by itself, or issued."""
    role = json.dumps({"Version": "2012-10-17", "Statement": []})
    up.client("iam").create_role(RoleName="reader", AssumeRolePolicyDocument=role)
    session = up.client("sts").assume_role(RoleArn=ROLE_ARN, RoleSessionName="session")["Credentials"]
    made = json.loads((up.data_dir / "auth.json").read_text())
    found = {
        "session token": session["SessionToken"],
        "session secret": session["SecretAccessKey"],
        "SCRAM password": made["scram_password"],
        "secret access key": made["secret_access_key"],
    }
    for file in (up.data_dir / "tls").iterdir():
        if key := re.search(r"PRIVATE KEY-----\n(.+?)\n-----END", file.read_text(), re.DOTALL):
            found[f"key in {file.name}"] = key[1].splitlines()[1]
    assert len(found) == 7
    return found


def test_no_planted_secret_is_told(up: Up, tmp_path: Path) -> None:
    """Not in the log, a ready file, a command line, the stores, a status, a trace or an error."""
    (tmp_path / "app.py").write_text(HANDLER)
    up.cli("function", "register", "any", f"{tmp_path}/app.py:handler")
    secrets = kept_secrets(up) | {text: text for text in PLANTED}
    told = {"answers": "\n".join((*spoil_mappings(up), *spoil_logins(up))), "log": up.log}
    for file in up.data_dir.rglob("*"):
        place = str(file.relative_to(up.data_dir))
        if file.is_file() and not place.startswith(KEPT):
            told[place] = file.read_bytes().decode("latin-1")
    for name, pid in up.pids.items():
        for view in ("cmdline", "environ"):
            told[f"{view} of {name}"] = Path(f"/proc/{pid}/{view}").read_text(errors="replace")
    assert "login_failed" in told["log"]
    assert "Traceback" not in told["log"]
    assert {
        (where, what) for where, text in told.items() for what, s in secrets.items() if s in text
    } == set()


def test_what_is_secret_is_its_users_alone(up: Up) -> None:
    """Of all that `up --auth` writes, other users may read the CA's certificate."""
    files = [path for path in up.data_dir.rglob("*") if path.name != "up.log"]
    assert {path.name for path in files if path.stat().st_mode & 0o077} == {"ca.pem"}
    for pid in up.pids.values():
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE), "a crash dump holds secrets"
    assert sorted(path.name for path in (up.data_dir / "clients").iterdir()) == sorted(
        [
            *(
                f"{mechanism}{ending}"
                for mechanism in ("iam", "scram", "plain", "mtls")
                for ending in (".java.properties", ".librdkafka.properties", "_python.py")
            ),
            "iam.env",
        ]
    )
