"""An error of several lines is shown in one, with its cause first."""

from __future__ import annotations

import pytest

from tidemill_cli.cause import cause_first

CHAINED = """Traceback (most recent call last):
  File "/task/orders.py", line 3, in parse
    int(text)
ValueError: no number

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/var/runtime/awslambdaric/bootstrap.py", line 180, in handle
  File "/task/app.py", line 9, in handler
    parse(text)
  File "/task/orders.py", line 5, in parse
    raise Bad(text)
orders.Bad: a message
of two lines
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("ValueError: poison", "ValueError: poison"),
        ("two\n  lines", "two lines"),
        (CHAINED, "orders.Bad: a message of two lines (app.py:9 in handler)"),
        (f"RuntimeError: job 7 failed\n{CHAINED}", None),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
        (
            'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\nKeyError: 1',
            "KeyError: 1",
        ),
    ],
)
def test_the_cause_comes_first(text: str, line: str | None) -> None:
    expected = "orders.Bad: a message of two lines (app.py:9 in handler) · RuntimeError: job 7 failed"
    assert cause_first(text) == (expected if line is None else line)
