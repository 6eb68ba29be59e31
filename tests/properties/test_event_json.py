"""Any record becomes JSON that says what the record says."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.poller import FakeRecord
from tidemill_poller.event import event_bytes, event_json, event_source, records_json

RECORDS = st.lists(
    st.builds(
        FakeRecord,
        offset=st.integers(0, 2**63 - 1),
        topic=st.just("a.b_c-d"),
        partition=st.just(7),
        timestamp=st.integers(-1, 2**62),
        timestamp_type=st.sampled_from([0, 1, -1]),
        key=st.none() | st.binary(max_size=40),
        value=st.none() | st.binary(max_size=200),
        headers=st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
                st.none() | st.binary(max_size=20),
            ),
            max_size=3,
        ),
    ),
    max_size=10,
)


@given(RECORDS, st.none() | st.just("arn:aws:kafka:us-east-1:123456789012:cluster/c/u"))
def test_an_event_says_what_its_records_say_and_has_the_size_it_was_counted_with(
    records: list[FakeRecord], arn: str | None
) -> None:
    source = event_source("a.b_c-d", 7, bootstrap_servers=("h:1",), event_source_arn=arn)
    parts = records_json(records)
    event = event_json(source, parts)
    assert len(event) == event_bytes(source, len(parts), sum(map(len, parts)))
    shown = json.loads(event)["records"]["a.b_c-d-7"]
    assert len(shown) == len(records)
    for record, said in zip(records, shown, strict=True):
        for field, value in (("key", record.key), ("value", record.value)):
            assert (base64.b64decode(said[field]) if field in said else None) == value
        assert (said["offset"], said["timestamp"]) == (record.offset, record.timestamp)
        assert said["headers"] == [
            {name: [byte - 256 if byte > 127 else byte for byte in value or b""]}
            for name, value in record.headers
        ]
