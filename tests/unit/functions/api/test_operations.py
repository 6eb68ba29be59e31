"""Every operation of Lambda's API is accounted for, and the page says so."""

from __future__ import annotations

from collections import Counter

import botocore.session

from docs.tables.functions import FILE, with_tables
from tidemill_functions.api.operations import MAPPINGS, NOT_BUILT, SERVED


def test_every_operation_of_the_model_stands_in_the_table_once() -> None:
    """Another botocore than the one that the table was made with may know fewer."""
    model = botocore.session.get_session().get_service_model("lambda")
    listed = Counter([*MAPPINGS, *NOT_BUILT, *(name for names in SERVED.values() for name in names)])
    assert set(model.operation_names) <= set(listed)
    assert set(listed.values()) == {1}


def test_the_page_has_the_present_table() -> None:
    text = FILE.read_text()
    assert with_tables(text) == text, "run `make docs`"
