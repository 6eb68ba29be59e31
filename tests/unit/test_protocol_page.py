"""docs/protocol.md says what the table of APIs says."""

from __future__ import annotations

import pytest

from docs.tables.protocol import FILE, with_tables
from tidemill_broker.apis import APIS


def test_the_matrix_is_up_to_date() -> None:
    text = FILE.read_text()
    assert with_tables(text) == text, "run `make docs`"


@pytest.mark.parametrize("name", [api.name for api in APIS.values()])
def test_every_api_has_a_word_on_how_it_differs(name: str) -> None:
    _, _, deviations = FILE.read_text().partition("## How it differs from Apache Kafka")
    assert f"**{name}**" in deviations
