"""What one connection may do: decided once, told when denied, void when the rules change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inner_broker import InnerBroker, finished, inner_broker
from tests.fakes.kafka_frames import read_response, request, request_frame
from tests.fakes.log_frames import FETCH, PRODUCE, fetch_frame, fetch_partition, produce_frame
from tests.fakes.record_batches import batch
from tests.fakes.recording_authorizer import Question, RecordingAuthorizer, everything, nothing
from tests.harness.processes import wait_until
from tidemill_broker.apis import CloseConnection, dispatch
from tidemill_broker.auth.audit import Audit
from tidemill_broker.auth.authorization_cache import DECISIONS_MAX, AuthorizationCache
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.auth.authorizers import ByPrincipal
from tidemill_broker.auth.session import UNAUTHENTICATED, Principal, Session
from tidemill_broker.protocol.errors import ErrorCode

TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
DENIED = ErrorCode.topic_authorization_failed
# A revoked right must end within this.
SOON_S = 1.0


@pytest.fixture
def authorizer() -> RecordingAuthorizer:
    return RecordingAuthorizer(everything)


@pytest.fixture
def rights(authorizer: RecordingAuthorizer) -> AuthorizationCache:
    return AuthorizationCache(
        authorizer, UNAUTHENTICATED, host="10.0.0.1", audit=Audit(), peer="10.0.0.1:5000"
    )


@pytest.fixture
def inner(tmp_path: Path, authorizer: RecordingAuthorizer) -> Iterator[InnerBroker]:
    """A broker with topic t of one partition and one batch, whose next connections are authorized."""
    with inner_broker(tmp_path) as inner:
        topic = inner.broker.topics.create("t", partitions=1)
        topic.partitions[0].append(batch())
        inner.broker = replace(inner.broker, authorizer=authorizer)
        inner.connection = inner.open()
        yield inner


def produce(inner: InnerBroker, **rest: Any) -> ErrorCode:
    frame = produce_frame(batch(), version=12, **rest)
    reply = dispatch(inner.broker, inner.connection, memoryview(frame))
    assert isinstance(reply, bytes)
    error: ErrorCode = read_response(PRODUCE, 12, reply).responses[0].partition_responses[0].error_code
    return error


def waiting_fetch(inner: InnerBroker, *, max_wait_ms: int = 60_000) -> Awaitable[Any]:
    frame = fetch_frame([fetch_partition(offset=1)], version=12, min_bytes=1, max_wait_ms=max_wait_ms)
    reply = dispatch(inner.broker, inner.connection, memoryview(frame))
    assert isinstance(reply, Awaitable), "there is nothing to read yet"
    return reply


def fetched(frame: Any) -> ErrorCode:
    error: ErrorCode = read_response(FETCH, 12, bytes(frame)).responses[0].partitions[0].error_code
    return error


def test_a_decision_is_asked_for_once_while_the_rules_stay(
    rights: AuthorizationCache, authorizer: RecordingAuthorizer
) -> None:
    for _ in range(3):
        assert rights.allows(Operation.READ, TOPIC, "t", api="Fetch")
        assert rights.allows_some(Operation.WRITE, TOPIC)
    assert authorizer.asked == [(Operation.READ, TOPIC, "t"), (Operation.WRITE, TOPIC, "*")]


def test_changed_rules_void_every_decision(
    rights: AuthorizationCache, authorizer: RecordingAuthorizer
) -> None:
    assert rights.allows(Operation.READ, TOPIC, "t", api="Fetch")
    assert rights.allows_some(Operation.WRITE, TOPIC)
    authorizer.change(nothing)
    assert not rights.allows(Operation.READ, TOPIC, "t", api="Fetch")
    assert not rights.allows_some(Operation.WRITE, TOPIC)


def test_a_client_that_names_a_million_things_does_not_fill_the_memory(
    rights: AuthorizationCache, authorizer: RecordingAuthorizer
) -> None:
    for number in range(DECISIONS_MAX + 1):
        rights.allows(Operation.READ, TOPIC, f"t{number}", api="Metadata", audited=False)
    rights.allows(Operation.READ, TOPIC, "t0", api="Metadata", audited=False)
    assert authorizer.asked.count((Operation.READ, TOPIC, "t0")) == 2


def test_all_that_may_be_done_is_told_as_bits(
    rights: AuthorizationCache, authorizer: RecordingAuthorizer
) -> None:
    authorizer.change(lambda question: question[0] in (Operation.READ, Operation.ALTER))
    assert rights.operations(TOPIC, "t") == 1 << 3 | 1 << 7
    assert rights.operations(GROUP, "g") == 1 << 3
    assert rights.operations(ResourceType.CLUSTER, CLUSTER_NAME) == 1 << 7


def test_each_denial_is_told_but_not_what_a_listing_leaves_out(
    rights: AuthorizationCache, authorizer: RecordingAuthorizer, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer.change(nothing)
    for _ in range(2):
        rights.allows(Operation.WRITE, TOPIC, "t", api="Produce", client_id="shop")
    rights.allows(Operation.DESCRIBE, TOPIC, "t", api="Metadata", audited=False)
    rights.operations(TOPIC, "t")
    line = (
        "denied principal=User:ANONYMOUS operation=WRITE resource=TOPIC:t api=Produce"
        ' mechanism="" peer=10.0.0.1:5000 client=shop reason="told not to"'
    )
    assert caplog.messages == [line] * 2


def test_iam_principals_are_authorized_by_policies_and_all_others_by_acls() -> None:
    acls, iam = RecordingAuthorizer(everything), RecordingAuthorizer(nothing)
    both = ByPrincipal(acls=acls, iam=iam)
    user, role = (
        Session(principal=Principal(type="User", name="a")),
        Session(principal=Principal(type="IAM", name="arn:aws:iam::1:user/a")),
    )
    question = ("10.0.0.1", Operation.READ, TOPIC, "t")
    assert both.decide(user, *question).allowed
    assert not both.decide(role, *question).allowed
    assert both.allows_some(user, *question[:3])
    assert not both.allows_some(role, *question[:3])
    before = both.version
    iam.change(everything)
    assert both.version > before


def test_without_policies_iam_principals_may_do_nothing() -> None:
    """Also where everybody may do everything that no ACL names."""
    both = ByPrincipal(acls=RecordingAuthorizer(everything), iam=None)
    role = Session(principal=Principal(type="IAM", name="arn:aws:iam::1:user/a"))
    assert not both.decide(role, "10.0.0.1", Operation.READ, TOPIC, "t").allowed
    assert not both.allows_some(role, "10.0.0.1", Operation.READ, TOPIC)


def test_the_core_asks_once_about_a_topic_that_it_may_write_to(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    for _ in range(3):
        assert produce(inner) is ErrorCode.none
    assert authorizer.asked == [(Operation.WRITE, TOPIC, "t")]


def test_each_denied_batch_is_told_and_none_is_appended(
    inner: InnerBroker, authorizer: RecordingAuthorizer, caplog: pytest.LogCaptureFixture
) -> None:
    authorizer.change(nothing)
    assert [produce(inner), produce(inner)] == [DENIED, DENIED]
    assert len(caplog.messages) == 2
    topic = inner.broker.topics.get("t")
    assert topic is not None
    assert topic.partitions[0].high_watermark == 1


def test_a_denied_batch_without_an_answer_ends_the_connection(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    """As in Kafka: with acks=0 there is no other way to tell."""
    authorizer.change(nothing)
    with pytest.raises(CloseConnection):
        dispatch(inner.broker, inner.connection, memoryview(produce_frame(batch(), acks=0)))


MANY = [f"g{number}" for number in range(10_001)]


@pytest.mark.parametrize(
    "asked",
    [
        request(15, 5, groups=MANY, include_authorized_operations=False),
        request(75, 0, topics=[{"name": name} for name in MANY], response_partition_limit=1, cursor=None),
        request(
            PRODUCE,
            12,
            transactional_id=None,
            acks=-1,
            topic_data=[{"name": name, "partition_data": []} for name in MANY],
        ),
    ],
    ids=lambda asked: type(asked).__name__,
)
def test_who_asks_for_ten_thousand_things_that_are_denied_is_sent_away(
    inner: InnerBroker, authorizer: RecordingAuthorizer, asked: Any
) -> None:
    """Each denial is decided and told while everybody else waits."""
    authorizer.change(nothing)
    with pytest.raises(CloseConnection, match="denied"):
        finished(dispatch(inner.broker, inner.connection, memoryview(request_frame(asked))))
    assert produce(inner) is DENIED


def test_acks_that_cannot_be_are_told_to_who_may_write_only(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    assert produce(inner, acks=7) is ErrorCode.invalid_required_acks
    authorizer.change(nothing)
    inner.connection = inner.open()
    assert produce(inner, acks=7) is DENIED


def test_a_revoked_right_to_write_ends_within_a_second(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    assert produce(inner) is ErrorCode.none
    authorizer.change(nothing)
    wait_until(lambda: produce(inner) is DENIED, timeout_s=SOON_S, what="the end of the right")


def test_a_decoded_request_makes_a_revoked_right_end_at_once(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    assert produce(inner) is ErrorCode.none
    authorizer.change(nothing)
    inner.ask(3, 9, topics=[{"name": "t"}])
    assert produce(inner) is DENIED


def test_a_granted_right_holds_within_a_second(inner: InnerBroker, authorizer: RecordingAuthorizer) -> None:
    authorizer.change(nothing)
    assert produce(inner) is DENIED
    authorizer.change(everything)
    wait_until(lambda: produce(inner) is ErrorCode.none, timeout_s=SOON_S, what="the right")


async def test_a_fetch_that_waits_is_told_within_a_second_that_its_right_is_gone(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    waiting = waiting_fetch(inner)
    authorizer.change(nothing)
    async with asyncio.timeout(SOON_S):
        assert fetched(await waiting) is DENIED


async def test_a_fetch_that_waits_reads_nothing_once_its_right_is_gone(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    """Also when the record comes before the next look at the rules, if another request has looked."""
    waiting = waiting_fetch(inner)
    authorizer.change(nothing)
    inner.connection.rights.refresh()
    topic = inner.broker.topics.get("t")
    assert topic is not None
    topic.partitions[0].append(batch())
    inner.broker.topics.growth.grew([topic.partitions[0].handle])
    async with asyncio.timeout(SOON_S):
        assert fetched(await waiting) is DENIED


async def test_a_fetch_waits_on_when_other_rules_change(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    waiting = waiting_fetch(inner, max_wait_ms=700)
    authorizer.change(lambda question: question[2] == "t")
    assert fetched(await waiting) is ErrorCode.none
    assert authorizer.asked == [(Operation.READ, TOPIC, "t")] * 2


async def test_a_fetch_that_waits_has_the_rights_of_a_later_login(inner: InnerBroker) -> None:
    waiting = waiting_fetch(inner)
    mallory = Session(principal=Principal(type="User", name="mallory"))
    inner.broker.authorizer = RecordingAuthorizer(nothing)
    inner.broker.let_in(inner.connection, mallory)
    async with asyncio.timeout(SOON_S):
        assert fetched(await waiting) is DENIED


def test_a_topic_that_comes_back_under_a_name_is_decided_by_its_name(
    inner: InnerBroker, authorizer: RecordingAuthorizer
) -> None:
    def only_t(question: Question) -> bool:
        return question[2] == "t"

    authorizer.change(only_t)
    inner.broker.topics.create("u", partitions=1)
    for _ in range(2):
        assert produce(inner) is ErrorCode.none
        assert produce(inner, topic="u") is DENIED
        inner.broker.topics.delete("t")
        inner.broker.topics.create("t", partitions=1)
