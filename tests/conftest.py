"""One Apache Kafka for all tests that leave it standing; those that kill one (e2e) start their own.

Topics and groups are each test's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.oracles.apache_kafka import ApacheKafka, jars_or_skip
from tests.oracles.group_members import SHORT_SESSIONS

# Two workers share the files out in this order: long ones first, so that both come to an end together.
LONG = ("e2e", "conformance", "integration")
# Builds a wheel and an environment, some 100 s before its first test: the longest file of all.
FIRST = "test_wheel.py"
HERE = Path(__file__).parent


# A busy machine takes longer for one example than for another: that is no finding.
settings.register_profile("tidemill", deadline=None)
settings.load_profile("tidemill")


@pytest.hookimpl(trylast=True)  # pytest-randomly has shuffled them, and within a folder that stays
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {folder: place for place, folder in enumerate(LONG)}
    items.sort(
        key=lambda item: (
            item.path.name != FIRST,
            places.get(item.path.relative_to(HERE).parts[0], len(LONG)),
        )
    )


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A real Apache Kafka; skipped where Java or Maven is missing, but not in CI."""
    jars_or_skip()
    broker = ApacheKafka(data_dir=tmp_path_factory.mktemp("kafka"), properties=SHORT_SESSIONS).start()
    yield broker
    broker.kill()  # an orderly end would take seconds, and nobody reads its log again
