"""What travels in a commit's metadata: whatever was written is read, and whatever is there is survived."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tidemill_poller.offsets import METADATA_BYTES_MAX, Pending, decode, encode
from tidemill_poller.retry import Attempts


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, list[Pending]]:
    start = draw(st.integers(0, 2**60))
    at = start
    pending = []
    for _ in range(draw(st.integers(1, 20))):
        runs = []
        for _ in range(draw(st.integers(1, 30))):
            first = at + draw(st.integers(0, 10))
            last = first + draw(st.integers(0, 1000))
            runs.append((first, last))
            at = last + 1
        pending.append(Pending(runs=runs, attempts=Attempts(failed=draw(st.integers(0, 10_000)))))
    return start, pending


@given(parts())
def test_tries_are_never_lost_and_no_pending_record_is_taken_for_settled(
    state: tuple[int, list[Pending]],
) -> None:
    offset, pending = state
    text = encode(offset, pending)
    assert len(text.encode()) <= METADATA_BYTES_MAX
    found = decode(offset, text)
    if not text:
        return  # the offset says it all
    assert [part.attempts for part in found] == [part.attempts for part in pending]
    for before, after in zip(pending, found, strict=True):
        assert all(after.holds(edge) for run in before.runs for edge in run)


@given(st.integers(0, 2**62), st.text(max_size=200))
def test_any_text_is_survived(offset: int, text: str) -> None:
    assert decode(offset, text) == []


@given(
    st.integers(0, 2**62),
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=5),
        max_leaves=20,
    ),
)
def test_any_content_of_our_own_shape_is_survived(offset: int, content: object) -> None:
    for part in decode(offset, json.dumps({"tidemill": 1, "pending": content})):
        assert part.first_offset >= offset
        assert part.first_offset <= part.last_offset
