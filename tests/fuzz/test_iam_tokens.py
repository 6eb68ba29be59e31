"""Whatever bytes come as an IAM token, nobody gets in without a secret, and all are told the same."""

from __future__ import annotations

import json
import random
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.fakes.iam_door import NOW_MS, make_json, make_url, open_door
from tests.fakes.mutation import mutate
from tests.oracles.iam_tokens import BOTH, LONG_TERM, TEMPORARY, Keys, fields_of, frame
from tidemill_broker.auth.mechanism import AuthenticationFailed, Mechanism

SEED = 20131231
TOKENS = 10_000

Make = Callable[..., bytes]
each_mechanism = pytest.mark.parametrize(
    ("name", "make"),
    [("AWS_MSK_IAM", make_json), ("OAUTHBEARER", make_url)],
    ids=["AWS_MSK_IAM", "OAUTHBEARER"],
)


def admitted(mechanism: Mechanism, token: bytes) -> bool:
    """Whether the token lets somebody in; any exception but AuthenticationFailed fails the test."""
    told = None
    try:
        mechanism.begin().respond(token)
    except AuthenticationFailed as rejection:
        told = rejection.public or ""
    assert told is None or told.endswith(": Access denied")
    return told is None


def spoiled(generator: random.Random, token: bytes) -> bytes:
    mutant = bytearray(token)
    for _ in range(generator.randrange(1, 4)):
        mutate(generator, mutant)
    return bytes(mutant)


def inside(token: bytes) -> str | None:
    """The URL within a frame, as some lenient reader would find it."""
    bearer = re.search(rb"(?i)bearer +([\w-]+)", token)
    if bearer is None:
        return None
    try:
        return urlsafe_b64decode(bearer[1] + b"=" * (-len(bearer[1]) % 4)).decode()
    except ValueError:
        return None


def spoiled_inside(generator: random.Random, token: bytes) -> bytes:
    """The frame anew around a spoiled URL: else base64 would hide most of what a mutation means."""
    return frame(spoiled(generator, (inside(token) or "").encode()).decode(errors="replace"))


def meaning(token: bytes) -> object:
    """What is said and signed, by the standard library's lenient parsers; the user agent is neither."""
    if token.startswith(b"{"):
        return {key: value for key, value in fields_of(token).items() if key != "user-agent"}
    url = urlsplit(inside(token) or "")
    return url.netloc, sorted(pair for pair in parse_qsl(url.query) if pair[0] != "User-Agent")


@each_mechanism
def test_random_tokens_let_nobody_in(tmp_path: Path, name: str, make: Make) -> None:
    generator = random.Random(SEED)
    mechanism = open_door(tmp_path).mechanism(name)
    words = [*json.loads(make_json(TEMPORARY)), *json.loads(make_json(TEMPORARY)).values()]
    for _ in range(TOKENS):
        if generator.random() < 0.5:
            token = generator.randbytes(generator.randrange(600))
        elif name == "AWS_MSK_IAM":
            count = generator.randrange(14)
            token = json.dumps(
                {generator.choice(words): generator.choice(words) for _ in range(count)}
            ).encode()
        else:
            token = frame("https://" + "&=?/%".join(generator.choices(words, k=generator.randrange(14))))
        assert not admitted(mechanism, token)


@each_mechanism
def test_no_mutation_makes_up_for_a_wrong_secret(tmp_path: Path, name: str, make: Make) -> None:
    generator = random.Random(SEED)
    mechanism = open_door(tmp_path).mechanism(name)
    forged = [
        make(Keys(access_key_id=keys.access_key_id, secret="guess", session_token=keys.session_token))
        for keys in (LONG_TERM, TEMPORARY)
    ]
    for turn in range(TOKENS):
        token = generator.choice(forged)
        inner = name == "OAUTHBEARER" and turn % 2
        assert not admitted(
            mechanism, spoiled_inside(generator, token) if inner else spoiled(generator, token)
        )


@each_mechanism
def test_a_mutated_good_token_lets_in_only_who_it_was_made_for(tmp_path: Path, name: str, make: Make) -> None:
    """Bytes that nobody signs may change: the user agent, padding, an extension. What is said may not."""
    generator = random.Random(SEED)
    mechanism = open_door(tmp_path).mechanism(name)
    good = [make(keys, at_ms=NOW_MS) for keys in BOTH.values()]
    let_in = 0
    for turn in range(TOKENS):
        token = generator.choice(good)
        inner = name == "OAUTHBEARER" and turn % 2
        mutant = spoiled_inside(generator, token) if inner else spoiled(generator, token)
        if admitted(mechanism, mutant):
            let_in += 1
            assert meaning(mutant) == meaning(token)
    assert 0 < let_in < TOKENS / 4
