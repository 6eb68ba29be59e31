"""A folder of topics, and topics opened on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.log_disk import Disk
from tidemill_broker.log.topics import Topics


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "log")
    yield disk
    for topics in disk.opened:
        topics.close()


@pytest.fixture
def topics(disk: Disk) -> Topics:
    return disk.open()
