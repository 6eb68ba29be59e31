"""A disk that takes nothing is told of now and then."""

from __future__ import annotations

import pytest

from tidemill_broker.log.faults import WINDOW_S, Faults


def test_a_full_disk_is_one_line_in_a_window_and_the_next_counts_what_was_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 100.0
    faults = Faults(lambda: now_s)
    for _ in range(1000):
        faults.tell("No space left on device")
    assert caplog.messages == ["a batch could not be written untold=0: No space left on device"]
    now_s += WINDOW_S
    faults.tell("No space left on device")
    assert caplog.messages[1:] == ["a batch could not be written untold=999: No space left on device"]
