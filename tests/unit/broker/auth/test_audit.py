"""The audit log: one line each that cannot be forged, and never more lines than somebody can read."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tidemill_broker.auth.audit import LINES_EACH_MAX, LINES_MAX, VALUE_CHARACTERS_MAX, WINDOW_S, Audit
from tidemill_broker.auth.authorizer import Operation, ResourceType
from tidemill_broker.auth.session import Principal, Session


class Clock:
    """Monotonic seconds that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(clock: Clock) -> Audit:
    return Audit(clock)


def deny(audit: Audit, principal: str = "alice", peer: str = "10.0.0.1:5000", **changed: Any) -> None:
    values: dict[str, Any] = {
        "client_id": "shop",
        "api": "Produce",
        "operation": Operation.WRITE,
        "resource_type": ResourceType.TOPIC,
        "name": "orders",
        "reason": "no ACL",
    } | changed
    session = Session(principal=Principal(type="User", name=principal), mechanism="SCRAM-SHA-512")
    audit.denied(session=session, peer=peer, **values)


def fail(audit: Audit, claimed: str = "alice", peer: str = "10.0.0.1:5000", reason: str = "no") -> None:
    audit.login_failed(listener="scram", peer=peer, mechanism="SCRAM-SHA-512", claimed=claimed, reason=reason)


def test_a_denial_says_who_what_which_why_and_from_where(
    audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    deny(audit)
    line = (
        "denied principal=User:alice operation=WRITE resource=TOPIC:orders api=Produce"
        ' mechanism=SCRAM-SHA-512 peer=10.0.0.1:5000 client=shop reason="no ACL"'
    )
    assert caplog.record_tuples == [("tidemill_broker.audit", logging.WARNING, line)]


def test_a_failed_login_says_who_they_said_they_were(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    fail(audit, reason="wrong password")
    line = (
        "login_failed claimed=alice listener=scram mechanism=SCRAM-SHA-512 peer=10.0.0.1:5000"
        ' reason="wrong password"'
    )
    assert caplog.messages == [line]


@pytest.mark.parametrize(
    ("claimed", "spelled"),
    [
        ("alice", "alice"),
        ("", '""'),
        ("CN=a,O=b", '"CN=a,O=b"'),
        ("a b", '"a b"'),
        ('a" reason=ok', '"a\\" reason=ok"'),
        ("a\nlogin_failed claimed=b", '"a\\nlogin_failed claimed=b"'),
        ("a\r\x00\x1b[2K\x7f", '"a\\r\\x00\\x1b[2K\\x7f"'),
        ("a\u2028\u202eb", '"a\\u2028\\u202eb"'),
        ("naïve", '"na\\xefve"'),
        ("a\\b", '"a\\\\b"'),
        ("\ud800", '"\\ud800"'),
        ("x" * 301, f'"{"x" * VALUE_CHARACTERS_MAX}..."'),
    ],
)
def test_a_value_cannot_end_its_line_or_its_quotes(
    audit: Audit, caplog: pytest.LogCaptureFixture, claimed: str, spelled: str
) -> None:
    fail(audit, claimed)
    assert caplog.messages[0].startswith(f"login_failed claimed={spelled} listener=scram ")
    assert caplog.messages[0].isprintable()


def test_one_who_tries_again_and_again_fills_no_log(
    audit: Audit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for port in range(1000):
        fail(audit, peer=f"10.0.0.1:{port}")
    assert len(caplog.messages) == LINES_EACH_MAX
    clock.now_s += WINDOW_S
    fail(audit)
    assert caplog.messages[LINES_EACH_MAX] == f"held_back lines={1000 - LINES_EACH_MAX}"
    assert len(caplog.messages) == LINES_EACH_MAX + 2


def test_others_are_told_beside_one_who_is_held_back(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        fail(audit)
    fail(audit, "bob")
    fail(audit, peer="10.0.0.2:1")
    deny(audit)
    assert len(caplog.messages) == LINES_EACH_MAX + 3


def test_invented_names_are_held_back_too_and_not_remembered(
    audit: Audit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10_000):
        fail(audit, f"user{number}", peer=f"10.0.{number % 200}.1:5000")
    assert len(caplog.messages) == LINES_MAX
    assert len(audit._lines) == LINES_MAX  # what memory it takes
    clock.now_s += WINDOW_S
    fail(audit)
    assert len(audit._lines) == 1  # the same


def test_failed_logins_hide_no_denial(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(LINES_MAX + 1):
        fail(audit, f"user{number}")
    deny(audit)
    assert caplog.messages[-1].startswith("denied principal=User:alice ")


def test_what_was_held_back_is_told_at_the_end(audit: Audit, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(LINES_EACH_MAX + 5):
        deny(audit)
    audit.flush()
    audit.flush()
    assert caplog.messages[LINES_EACH_MAX:] == ["held_back lines=5"]
