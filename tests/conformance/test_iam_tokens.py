"""Tokens that AWS's own Java library signs are believed; whole clients are tried in test_secure_clients."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fakes.iam_door import HOUR_MS, Door, open_door
from tests.fakes.iam_identities import ROLE_SESSION, USER, usual, write
from tests.oracles.apache_kafka import jars_or_skip
from tests.oracles.aws_msk_iam_auth import Wanted, java_tokens
from tests.oracles.iam_tokens import BOTH, REGION

pytestmark = pytest.mark.kafka

WANTED = [
    *(Wanted("AWS_MSK_IAM", host, keys) for keys in BOTH.values() for host in ("localhost", "127.0.0.1")),
    *(Wanted("OAUTHBEARER", "", keys) for keys in BOTH.values()),
]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    now_ms = time.time_ns() // 1_000_000
    door = open_door(tmp_path)
    door.now_ms = now_ms
    write(door.file, usual(expires_ms=now_ms + HOUR_MS))
    door.identities.reload()
    return door


def test_every_token_of_awss_java_library_lets_its_signer_in(door: Door, tmp_path: Path) -> None:
    jars_or_skip()

    for wanted, token in zip(WANTED, java_tokens(tmp_path, WANTED, region=REGION), strict=True):
        expected = ROLE_SESSION if wanted.keys.session_token else USER
        assert door.session(token).principal.name == expected, wanted
