"""IAM logins: real clients' tokens are believed, and nothing that differs from them in anything."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.iam_door import HOUR_MS, NOW_MS, Door, Make, make_json, make_url, open_door
from tests.fakes.iam_identities import READ_ONLY, ROLE_SESSION, USER, entry, usual, write
from tests.oracles.iam_tokens import BOTH, HOST, LONG_TERM, REGION, TEMPORARY, Keys, aws_signer_token
from tidemill_broker.auth.mechanism import AuthenticationFailed


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return open_door(tmp_path)


each_mechanism = pytest.mark.parametrize("make", [make_json, make_url], ids=["AWS_MSK_IAM", "OAUTHBEARER"])


@each_mechanism
@pytest.mark.parametrize("keys", BOTH.values(), ids=BOTH)
def test_who_signs_with_kafka_pythons_client_gets_in(door: Door, make: Make, keys: Keys) -> None:
    session = door.session(make(keys))

    assert str(session.principal) == f"IAM:{ROLE_SESSION if keys.session_token else USER}"
    assert session.access_key_id == keys.access_key_id


@pytest.mark.parametrize("keys", BOTH.values(), ids=BOTH)
def test_who_signs_with_awss_python_signer_gets_in(door: Door, tmp_path: Path, keys: Keys) -> None:
    token, door.now_ms = aws_signer_token(keys)
    write(door.file, usual(expires_ms=door.now_ms + HOUR_MS))
    door.identities.reload()

    assert door.session(token).access_key_id == keys.access_key_id


def test_the_answer_of_aws_msk_iam_is_exactly_a_version_and_a_request_id(door: Door) -> None:
    answer = json.loads(door.answer(make_json()).token)

    assert answer.keys() == {"version", "request-id"}
    assert answer["version"] == "2020_10_22"


def test_the_answer_of_oauthbearer_is_empty(door: Door) -> None:
    assert door.answer(make_url()).token == b""


@each_mechanism
def test_a_session_lives_as_long_as_temporary_credentials_and_for_ever_with_long_term_ones(
    door: Door, make: Make
) -> None:
    assert door.session(make(TEMPORARY)).expires_ms == NOW_MS + HOUR_MS
    assert door.session(make(LONG_TERM)).expires_ms is None


@each_mechanism
def test_an_exchange_takes_one_token(door: Door, make: Make) -> None:
    token = make()
    exchange = door.mechanism("AWS_MSK_IAM" if make is make_json else "OAUTHBEARER").begin()
    exchange.respond(token)

    with pytest.raises(AuthenticationFailed):
        exchange.respond(token)


WRONG_SECRET = replace(LONG_TERM, secret=LONG_TERM.secret[:-1] + "Z")
# What is signed, rightly but for one thing, and what the log says about it.
SIGNED_OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "wrong secret": ({"keys": WRONG_SECRET}, "signature does not match"),
    "unknown access key": ({"keys": replace(LONG_TERM, access_key_id="AKIANOBODY")}, "no such access key"),
    "access key in lower case": (
        {"keys": replace(LONG_TERM, access_key_id=LONG_TERM.access_key_id.lower())},
        "no such access key",
    ),
    "another key's id": (
        {"keys": replace(LONG_TERM, access_key_id=TEMPORARY.access_key_id, secret="other")},
        "session token",
    ),
    "access key with a slash": (
        {"keys": replace(LONG_TERM, access_key_id="AKIA/20251121")},
        "X-Amz-Credential is not",
    ),
    "huge access key": ({"keys": replace(LONG_TERM, access_key_id="A" * 4000)}, "X-Amz-Credential is not"),
    "session token of another key": (
        {"keys": replace(TEMPORARY, session_token="IQoJb3JpZ2luX2Vj")},
        "session token",
    ),
    "session token left out": ({"keys": replace(TEMPORARY, session_token=None)}, "session token"),
    "session token for a key without one": (
        {"keys": replace(LONG_TERM, session_token="IQoJb3JpZ2luX2Vj")},
        "session token",
    ),
    "wrong region": ({"region": "us-east-1"}, "signed for the region us-east-1"),
    "region in upper case": ({"region": REGION.upper()}, ""),
    "wrong service": ({"service": "kafka"}, "signed for the service kafka"),
    "wrong action": ({"action": "kafka-cluster:AlterCluster"}, "Action is not"),
    "action in lower case": ({"action": "kafka-cluster:connect"}, "Action is not"),
    "wrong algorithm": ({"algorithm": "AWS4-HMAC-SHA1"}, "X-Amz-Algorithm is not"),
    "another signed header": ({"headers": [("host", HOST), ("x-evil", "1")]}, "X-Amz-SignedHeaders is not"),
    "scope of another day": ({"datestamp": "20251120"}, "another day"),
    "expired": ({"at_ms": NOW_MS - 900_000}, "expired 0 ms ago"),
    "from the future": ({"at_ms": NOW_MS + 301_000}, "in the future"),
    "no date": ({"timestamp": "20251321T000000Z", "datestamp": "20251321"}, "X-Amz-Date is no time"),
    "a date of other digits": (
        {"timestamp": "\uff12\uff10251121T155200Z", "datestamp": "\uff12\uff10251121"},
        "",
    ),
    "a short date": ({"timestamp": "20251121", "datestamp": "20251121"}, "X-Amz-Date is no time"),
    **{
        f"expires {value!r}": ({"expires": value}, "X-Amz-Expires is no number")
        for value in ("0", "-1", "901", "1000000000", "1e2", "NaN", "inf", "", "900.0001", "0x10", ".5")
    },
    "expires with a space": ({"expires": " 900"}, "printable ASCII"),
    "expires in other digits": ({"expires": "\uff19\uff10\uff10"}, "printable ASCII"),
}


@each_mechanism
@pytest.mark.parametrize(("parts", "reason"), SIGNED_OTHERWISE.values(), ids=SIGNED_OTHERWISE)
def test_what_is_signed_otherwise_lets_nobody_in(
    door: Door, make: Make, parts: dict[str, Any], reason: str
) -> None:
    rejection = door.rejects(make(**parts))

    assert reason in rejection.reason
    assert LONG_TERM.secret not in rejection.reason


@each_mechanism
def test_a_token_is_good_until_it_expires_and_never_again(door: Door, make: Make) -> None:
    """Within its validity a token may be used again, as at AWS."""
    token = make()
    for door.now_ms in (NOW_MS - 300_000, NOW_MS, NOW_MS, NOW_MS + 899_999):
        assert door.session(token)
    for door.now_ms in (NOW_MS - 301_000, NOW_MS + 900_000, NOW_MS + 10**10):
        door.rejects(token)


@each_mechanism
def test_a_shorter_validity_ends_sooner(door: Door, make: Make) -> None:
    token = make(expires="300")
    door.now_ms = NOW_MS + 299_999
    assert door.session(token)
    door.now_ms += 1
    door.rejects(token)


@each_mechanism
def test_a_fraction_of_a_second_counts_as_awss_javascript_signer_writes_it(door: Door, make: Make) -> None:
    token = make(expires="899.456")
    door.now_ms = NOW_MS + 899_455
    assert door.session(token)
    door.now_ms += 1
    door.rejects(token)


@each_mechanism
def test_expired_credentials_log_nobody_in_and_nearly_expired_ones_are_told_so(
    door: Door, make: Make
) -> None:
    write(door.file, usual(expires_ms=NOW_MS + 10_000))
    door.identities.reload()
    token = make(TEMPORARY, at_ms=NOW_MS - 1000)

    assert door.session(token).expires_ms == NOW_MS + 10_000
    door.now_ms += 1
    door.rejects(token, "Session too short")
    door.now_ms += 10_000
    assert "credentials have expired" in door.rejects(token).reason


@each_mechanism
def test_only_a_right_signature_learns_that_credentials_expired(door: Door, make: Make) -> None:
    write(door.file, usual(expires_ms=NOW_MS + 5000))
    door.identities.reload()

    door.rejects(make(replace(TEMPORARY, secret="other")))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token,
        lambda token: token[:-9],
        lambda token: token + b"\xff",
        lambda token: token.replace(b"PLANTED", b"PLANTED\xff"),
        lambda token: b"[" + token,
    ],
)
@each_mechanism
def test_no_error_behind_a_rejection_holds_the_token(
    door: Door, make: Make, spoil: Callable[[bytes], bytes]
) -> None:
    """Decoders keep what they could not read in their errors, and a crash dump would show it."""
    token = spoil(make(replace(TEMPORARY, session_token="PLANTED"), at_ms=NOW_MS - HOUR_MS))
    error: BaseException | None = door.refuses_of(
        "AWS_MSK_IAM" if make is make_json else "OAUTHBEARER", token
    )
    while error is not None:
        assert "PLANTED" not in repr((error, error.args, vars(error)))
        assert not isinstance(error, ValueError)
        error = error.__cause__ or error.__context__


@each_mechanism
def test_who_may_not_connect_is_denied_though_the_signature_is_right(door: Door, make: Make) -> None:
    write(door.file, [entry(LONG_TERM, policies=[READ_ONLY])])
    door.identities.reload()

    reason = door.rejects(make()).reason
    assert "may not connect: no policy allows kafka-cluster:Connect on arn:" in reason
    assert reason.count("kafka-cluster:Connect") == 1


@each_mechanism
def test_a_policy_may_ask_where_the_client_is(door: Door, make: Make) -> None:
    near = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    allow = {"Effect": "Allow", "Action": "kafka-cluster:*", "Resource": "*", "Condition": near}
    write(door.file, [entry(LONG_TERM, policies=[{"Version": "2012-10-17", "Statement": [allow]}])])
    door.identities.reload()
    mechanism = door.mechanism("AWS_MSK_IAM" if make is make_json else "OAUTHBEARER")

    mechanism.begin("10.1.2.3").respond(make())
    with pytest.raises(AuthenticationFailed):
        mechanism.begin("192.0.2.1").respond(make())


@each_mechanism
def test_a_removed_key_logs_nobody_in(door: Door, make: Make) -> None:
    token = make()
    assert door.session(token)
    write(door.file, [])
    door.identities.reload()

    assert "no such access key" in door.rejects(token).reason


@each_mechanism
def test_an_unknown_key_costs_the_same_hashes_as_a_wrong_signature(
    door: Door, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each HMAC and comparison with the bytes it works on: time on a loaded machine would tell less."""
    work: list[tuple[str, int, int]] = []
    for name in ("digest", "compare_digest"):
        monkeypatch.setattr(hmac, name, noted(name, getattr(hmac, name), work))
    unknown = replace(LONG_TERM, access_key_id=LONG_TERM.access_key_id[:-1] + "X")
    costs = []
    for keys in (unknown, replace(LONG_TERM, secret="guess")):
        token = make(keys)
        work.clear()
        door.rejects(token)
        costs.append(work.copy())

    assert costs[0] == costs[1]
    assert [name for name, *_ in costs[0]] == ["digest"] * 5 + ["compare_digest"] * 2


# HMAC fills every shorter key up to a block (RFC 2104), so their lengths cost the same.
SHA256_BLOCK_BYTES = 64


def noted(name: str, function: Callable[..., Any], work: list[tuple[str, int, int]]) -> Callable[..., Any]:
    """The function, which also says how many bytes it was given."""

    def call(first: Any, second: Any, *rest: Any) -> Any:
        work.append((name, max(SHA256_BLOCK_BYTES, len(first)), len(second)))
        return function(first, second, *rest)

    return call


@each_mechanism
def test_a_rejection_names_who_was_claimed_and_no_secret(door: Door, make: Make) -> None:
    rejection = door.rejects(make(replace(TEMPORARY, session_token="IQoJ-PLANTED", secret="other")))

    assert rejection.claimed == TEMPORARY.access_key_id
    assert "PLANTED" not in f"{rejection!r} {rejection.reason} {rejection.public}"


@pytest.mark.parametrize(("make", "mechanism"), [(make_json, "OAUTHBEARER"), (make_url, "AWS_MSK_IAM")])
def test_tokens_of_one_mechanism_are_nothing_in_the_other(door: Door, make: Make, mechanism: str) -> None:
    with pytest.raises(AuthenticationFailed):
        door.mechanism(mechanism).begin().respond(make())


@pytest.mark.parametrize(("make", "mechanism"), [(make_json, "AWS_MSK_IAM"), (make_url, "OAUTHBEARER")])
def test_a_truncated_token_lets_nobody_in(door: Door, make: Make, mechanism: str) -> None:
    token = make(TEMPORARY)
    for end in range(len(token)):
        with pytest.raises(AuthenticationFailed):
            door.mechanism(mechanism).begin().respond(token[:end])
