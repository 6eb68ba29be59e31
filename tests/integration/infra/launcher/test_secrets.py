"""What a running `tidemill up` shows to other users of the machine, and where secrets end up: nowhere."""

from __future__ import annotations

import io
import json
import socket
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.harness.processes import wait_until
from tests.harness.up import Up, running_up

pytestmark = pytest.mark.slow

SECRET_KEY = "planted-secret-key"
SESSION_TOKEN = "planted-session-token"
OTLP_KEY = "planted-otlp-key"
VARIABLE = "planted-variable"
VALUE = "planted-value"
ACCESS = "planted-source-access"
BODY = "planted-body"
PLANTED = (SECRET_KEY, SESSION_TOKEN, OTLP_KEY, VARIABLE, VALUE, ACCESS, BODY)
HANDLER = "def handler(event, context):\n    raise ValueError('poison')\n"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Everything at work, with secrets in all places that take one, and faults that could tell them."""
    with running_up(
        tmp_path_factory.mktemp("secrets") / "data",
        AWS_ACCESS_KEY_ID="AKIAPLANTED",
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_SESSION_TOKEN=SESSION_TOKEN,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_HEADERS=f"api-key={OTLP_KEY}",
        TIDEMILL_POLLER_RETRY_BACKOFF_BASE_S="0.01",
    ) as running:
        _fail_with_secrets(running)
        yield running


def _fail_with_secrets(up: Up) -> None:
    functions = up.client("lambda")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", HANDLER)
    functions.create_function(
        FunctionName="fails",
        Runtime="python3.11",
        Role="arn:aws:iam::123456789012:role/r",
        Handler="app.handler",
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"PASSWORD": VARIABLE}},
    )
    queue = up.client("sqs").create_queue(QueueName="failed")["QueueUrl"]
    up.cli("topic", "create", "orders")
    mapping = {
        "FunctionName": "fails",
        "Topics": ["orders"],
        "EventSourceArn": up.ready["cluster_arn"],
        "StartingPosition": "TRIM_HORIZON",
    }
    access = {"Type": "BASIC_AUTH", "URI": f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{ACCESS}"}
    with pytest.raises(ClientError):
        functions.create_event_source_mapping(**mapping, SourceAccessConfigurations=[access])
    functions.create_event_source_mapping(
        **mapping,
        ProvisionedPollerConfig={"MinimumPollers": 1},
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:failed"}},
    )
    up.cli("topic", "produce", "orders", json.dumps({"card": VALUE}), "--key", VALUE)
    _send(up, f"X-Amz-Security-Token : {SESSION_TOKEN}", "")
    _send(up, "A: b", f'{{"FunctionName": "{BODY}"')
    wait_until(
        lambda: up.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages"),
        what="the failure record",
    )
    wait_until(lambda: "decision=GiveUp" in up.log, what="the poller to give up")


def _send(up: Up, header: str, body: str) -> None:
    """A request that no client library would send."""
    _, _, address = up.ready["endpoint_url"].rpartition("/")
    host, _, port = address.partition(":")
    head = f"POST /2015-03-31/event-source-mappings/ HTTP/1.1\r\nHost: {address}\r\n{header}\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        assert b" 400 " in client.recv(65_536)


def test_no_secret_is_logged_traced_or_told(up: Up) -> None:
    """Not in the log, a status, a trace, a ready file, the poller's store, or a command line."""
    [uuid] = [
        mapping["UUID"] for mapping in up.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    ]
    told = {"log": up.log, "mapping": up.cli("mapping", "get", uuid, "--json")}
    told["watch"] = up.cli("mapping", "watch", uuid, "--once", "--json")
    told |= {str(file): file.read_text() for file in (up.data_dir / "run").iterdir()}
    told |= {
        str(file): file.read_bytes().decode("latin-1")
        for file in (up.data_dir / "poller").glob("mappings.db*")
    }
    for pid in _processes(up):
        told[f"command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_text()
    assert "Traceback" not in told["log"]
    assert {(where, secret) for where, text in told.items() for secret in PLANTED if secret in text} == set()


def test_no_file_can_be_read_by_another_user(up: Up) -> None:
    """Records, function code and functions' environments are the user's own, whatever the umask."""
    files = [path for path in up.data_dir.rglob("*") if path.name != "up.log" and not path.is_symlink()]
    assert any(path.name == "fails.json" for path in files)
    assert any(path.name == "mappings.db" for path in files)
    assert any(path.suffix == ".log" for path in files)
    others = stat.S_IRWXG | stat.S_IRWXO
    # Handlers with users of their own read code where it is shown to them; here it lies in private folders.
    private = [up.data_dir / "functions" / name for name in ("code", "runtimes")]
    assert all(folder.stat().st_mode & others == 0 for folder in private)
    files = [path for path in files if not any(folder in path.parents for folder in private)]
    # What a link shows, the packages of Tidemill's own environment, is no file of ours.
    own = [path for path in files if up.data_dir.resolve() in path.resolve().parents]
    assert {str(path): oct(path.stat().st_mode) for path in own if path.stat().st_mode & others} == {}


def test_every_program_listens_on_loopback_only(up: Up) -> None:
    """Also the ports that nobody asks for by name: moto's, the Runtime API's."""
    inodes = {inode for pid in _processes(up) for inode in _sockets(pid)}
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in inodes
    ]
    assert len(listening) >= 6
    assert {address.partition(":")[0] for address in listening} == {"0100007F"}


def _processes(up: Up) -> list[int]:
    """The launcher and all that it started."""
    found, parents = [up.process.pid], [up.process.pid]
    while parents:
        pid = parents.pop()
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = [int(child) for child in (task / "children").read_text().split()]
            found += children
            parents += children
    return found


def _sockets(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]
