"""Our own broker as an MSK cluster: listeners, MSK API, and what the poller's access key may do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.harness.tidemill_broker import ROOT, TidemillBroker
from tidemill_poller.mapping import MskSource

SESSION_MS = 800
RIGHTS = ("Connect", "DescribeTopic", "ReadData", "DescribeGroup", "AlterGroup")
ACCESS_KEY_ID, SECRET_KEY, SESSION_TOKEN = "TKIAPOLLER0000000001", "planted-iam", "planted-token"


@dataclass(frozen=True, kw_only=True)
class Msk:
    """A broker with TLS, SCRAM and IAM, and its MSK API; logins hold for SESSION_MS."""

    broker: TidemillBroker
    certificates: Path

    @property
    def source(self) -> MskSource:
        return MskSource(arn=self.broker.ready["cluster_arn"])

    @property
    def plaintext(self) -> str:
        return f"127.0.0.1:{self.broker.ready['listeners']['plaintext']}"

    def let(self, *actions: str) -> None:
        """Give the poller's access key these rights, and no others."""
        statement = {"Effect": "Allow", "Action": [f"kafka-cluster:{a}" for a in actions], "Resource": "*"}
        identity = {
            "accessKeyId": ACCESS_KEY_ID,
            "secretAccessKey": SECRET_KEY,
            "sessionToken": SESSION_TOKEN,
            "principalArn": "arn:aws:sts::123456789012:assumed-role/poller/session",
            "policies": [{"Version": "2012-10-17", "Statement": [statement]}],
        }
        file = self.broker.data_dir / "data" / "identities.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.touch(0o600)
        draft.write_text(json.dumps({"version": 1, "identities": [identity]}))
        draft.replace(file)


def start_msk(directory: Path) -> Msk:
    """Start it with a CA of its own."""
    certificates = directory / "tls"
    make = [sys.executable, "-m", "tidemill_broker", "init-tls", str(certificates)]
    subprocess.run(make, check=True, capture_output=True, cwd=ROOT)
    broker = TidemillBroker(
        data_dir=directory,
        settings={"connections.max.reauth.ms": str(SESSION_MS), "super.users": "User:ANONYMOUS"},
        flags=(
            *(f"--listener={name}=0" for name in ("plaintext", "tls", "scram", "iam")),
            f"--tls-dir={certificates}",
        ),
        environment={"AWS_REGION": "us-east-1"},
    )
    made = Msk(broker=broker, certificates=certificates)
    made.let(*RIGHTS)
    broker.start()
    return made
