"""InitProducerId: ids that are never given twice, and transactions that are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes.inner_broker import inner_broker
from tidemill_broker.log.producer_ids import BLOCK, ProducerIds
from tidemill_broker.protocol.errors import ErrorCode

INIT_PRODUCER_ID = 22


@pytest.mark.parametrize("version", range(6))
def test_each_idempotent_producer_gets_an_id_of_its_own(tmp_path: Path, version: int) -> None:
    with inner_broker(tmp_path) as inner:
        replies = [inner.ask(INIT_PRODUCER_ID, version, transactional_id=None) for _ in range(3)]
    assert [(each.error_code, each.producer_id, each.producer_epoch) for each in replies] == [
        (ErrorCode.none, number, 0) for number in range(3)
    ]


@pytest.mark.parametrize("transactional_id", ["payments", ""])
def test_a_transaction_is_rejected(tmp_path: Path, transactional_id: str) -> None:
    with inner_broker(tmp_path) as inner:
        reply = inner.ask(INIT_PRODUCER_ID, 4, transactional_id=transactional_id)
    assert (reply.error_code, reply.producer_id) == (ErrorCode.transactional_id_authorization_failed, -1)


def test_ids_go_on_where_no_earlier_life_can_have_been(tmp_path: Path) -> None:
    """A life that ends without a word (kill -9) is one that is simply not closed here."""
    given: set[int] = set()
    for take in (1, 5, BLOCK, BLOCK + 1, 3):
        ids = ProducerIds(tmp_path / "ids.json")
        life = {ids.take() for _ in range(take)}
        assert len(life) == take
        assert not life & given
        given |= life


def test_no_id_is_given_when_it_cannot_be_reserved(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    ids = ProducerIds(folder / "ids.json")
    folder.rmdir()
    with pytest.raises(OSError, match="No such file"):
        ids.take()
    folder.mkdir()
    assert ids.take() == 0
    assert ProducerIds(folder / "ids.json").take() == BLOCK


def test_a_failing_disk_is_an_error_of_storage(tmp_path: Path) -> None:
    with inner_broker(tmp_path) as inner:
        (tmp_path / f"producer_ids.json.{os.getpid()}.tmp").mkdir()
        reply = inner.ask(INIT_PRODUCER_ID, 4, transactional_id=None)
        assert (reply.error_code, reply.producer_id) == (ErrorCode.kafka_storage_error, -1)
