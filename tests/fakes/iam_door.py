"""Both IAM mechanisms over one file of identities, and tokens for them at a time that a test sets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.fakes.iam_identities import CLUSTER_ARN, usual, write
from tests.oracles.iam_tokens import HOST, LONG_TERM, REGION, Keys, json_token, signer, url_token
from tidemill_broker.auth.iam.authorizer import IamAuthorizer
from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.iam.msk_iam import MskIamMechanism
from tidemill_broker.auth.iam.oauthbearer import OauthBearerMechanism
from tidemill_broker.auth.mechanism import AuthenticationFailed, Mechanism, Step
from tidemill_broker.auth.session import Session

NOW_MS = 1_763_740_000_000
HOUR_MS = 3_600_000
ANSWER = re.compile(r"\[[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\]: (.*)")


@dataclass(kw_only=True)
class Door:
    """Both mechanisms over one file of identities, and a clock that a test sets."""

    file: Path
    identities: Identities
    now_ms: int = NOW_MS
    hosts: frozenset[str] = frozenset({HOST, "127.0.0.1", "::1", "*.brokers.example"})

    def mechanism(self, name: str) -> Mechanism:
        clock = lambda: self.now_ms  # noqa: E731 - two callers, one line
        authorizer = IamAuthorizer(self.identities, cluster_arn=CLUSTER_ARN, now_ms=clock)
        if name == "OAUTHBEARER":
            return OauthBearerMechanism(self.identities, authorizer, region=REGION, now_ms=clock)
        return MskIamMechanism(
            self.identities, authorizer, region=REGION, hosts=lambda: self.hosts, now_ms=clock
        )

    def answer(self, token: bytes) -> Step:
        """The answer to a first token of the mechanism that it is written for."""
        return cast("Step", self.mechanism(_mechanism_of(token)).begin().respond(token))

    def session(self, token: bytes) -> Session:
        session = self.answer(token).session
        assert session is not None
        return session

    def rejects(self, token: bytes, public: str = "Access denied") -> AuthenticationFailed:
        """Whoever brings this token is told MSK's text and nothing else; returned for what the log says."""
        return self.refuses_of(_mechanism_of(token), token, public)

    def refuses_of(self, name: str, token: bytes, public: str = "Access denied") -> AuthenticationFailed:
        """The same for a token that need not look like one of the mechanism."""
        with pytest.raises(AuthenticationFailed) as refusal:
            self.mechanism(name).begin().respond(token)
        told = ANSWER.fullmatch(refusal.value.public or "")
        assert told is not None
        assert told[2] == public
        assert refusal.value.reason.startswith(refusal.value.public[1:37] if refusal.value.public else "-")
        return refusal.value


def _mechanism_of(token: bytes) -> str:
    return "AWS_MSK_IAM" if token.startswith(b"{") else "OAUTHBEARER"


def open_door(directory: Path) -> Door:
    file = write(directory / "identities.json", usual(expires_ms=NOW_MS + HOUR_MS))
    return Door(file=file, identities=Identities([file]))


# A signed token of each mechanism; `parts` are what is signed in the place of what should be.
Make = Callable[..., bytes]


def make_json(keys: Keys = LONG_TERM, *, at_ms: int = NOW_MS, **parts: Any) -> bytes:
    return json_token(signer(keys, at_ms=at_ms, **parts))


def make_url(keys: Keys = LONG_TERM, *, at_ms: int = NOW_MS, **parts: Any) -> bytes:
    return url_token(keys, at_ms=at_ms, **parts)
