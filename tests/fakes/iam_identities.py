"""Files of access keys for tests, written as a user's editor or another program would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.oracles.iam_tokens import LONG_TERM, TEMPORARY, Keys

ACCOUNT = "123456789012"
USER = f"arn:aws:iam::{ACCOUNT}:user/alice"
ROLE_SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/pod-1"
CLUSTER_ARN = f"arn:aws:kafka:eu-west-1:{ACCOUNT}:cluster/tidemill/5f0e2b8e-9c0a-4f0e-8a53-0f5d0f5c7c11-1"
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "kafka-cluster:*", "Resource": "*"}],
}
READ_ONLY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "kafka-cluster:ReadData", "Resource": "*"}],
}


def entry(keys: Keys, principal: str = USER, **more: Any) -> dict[str, Any]:
    token = {"sessionToken": keys.session_token} if keys.session_token else {}
    return {
        "accessKeyId": keys.access_key_id,
        "secretAccessKey": keys.secret,
        "principalArn": principal,
        "policies": [EVERYTHING],
        **token,
        **more,
    }


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def usual(*, expires_ms: int) -> list[dict[str, Any]]:
    """A user's key for ever, and a role session's key until then."""
    return [entry(LONG_TERM), entry(TEMPORARY, ROLE_SESSION, expiration=iso(expires_ms))]


def write(file: Path, entries: list[Any], **more: Any) -> Path:
    return write_raw(file, {"version": 1, "identities": entries, **more})


def write_raw(file: Path, document: Mapping[str, Any] | str) -> Path:
    draft = file.with_name(file.name + ".draft")
    draft.write_text(document if isinstance(document, str) else json.dumps(document))
    draft.chmod(0o600)
    draft.replace(file)
    return file
