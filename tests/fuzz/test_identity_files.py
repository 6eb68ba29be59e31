"""Whatever stands in a file of access keys is taken, or refused without a secret: nothing ends the watch."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.fakes.iam_identities import EVERYTHING, ROLE_SESSION, entry, write_raw
from tests.fakes.mutation import mutate
from tests.oracles.iam_tokens import LONG_TERM, TEMPORARY
from tidemill_broker.auth.iam.identities import Identities
from tidemill_broker.auth.iam.identity_file import IdentityFileError

SEED = 20131231
FILES = 500
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "\ud800",
    "\0",
    "x" * 9000,
    [],
    {},
    [[]],
    {"": {}},
    ["a"],
)


def document() -> dict[str, Any]:
    full = entry(
        TEMPORARY,
        ROLE_SESSION,
        expiration="2026-01-31T12:00:00Z",
        sessionPolicies=[EVERYTHING],
        permissionsBoundary=[EVERYTHING],
        tags={"team": "blue"},
    )
    return {"version": 1, "identities": [entry(LONG_TERM), full]}


def refusal(file: Path) -> str:
    """What is told, "" where the file is taken; any exception but IdentityFileError fails the test."""
    try:
        Identities([file])
    except IdentityFileError as error:
        return str(error)
    return ""


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container in the document with every key or index of it."""
    pairs: list[tuple[Any, Any]] = []
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        pairs += [(node, key), *places(node[key])]
    return pairs


def test_any_value_in_any_place_is_taken_or_rejected(tmp_path: Path) -> None:
    generator = random.Random(SEED)
    for _ in range(FILES):
        whole = json.loads(json.dumps(document()))
        for _ in range(generator.randrange(1, 3)):
            container, key = generator.choice(places(whole))
            container[key] = generator.choice(VALUES)
        assert LONG_TERM.secret not in refusal(write_raw(tmp_path / "identities.json", whole))


def test_a_spoiled_file_is_taken_or_rejected(tmp_path: Path) -> None:
    generator = random.Random(SEED)
    file = tmp_path / "identities.json"
    for _ in range(FILES):
        content = bytearray(json.dumps(document()).encode())
        mutate(generator, content)
        file.write_bytes(content)
        file.chmod(0o600)
        assert LONG_TERM.secret not in refusal(file)
