"""What the command line reads as records, and whom it reaches without a proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill_cli.kafka import records_to_produce
from tidemill_cli.topic import _lines
from tidemill_local.programs import reach_loopback_directly


def test_a_record_is_the_bytes_of_its_line(tmp_path: Path) -> None:
    """Neither bytes that are no UTF-8 nor Unicode's own ends of lines change or cut a record."""
    lines = [b"a\xffb", '{"note": "one\u2028record\x85still"}'.encode(), b"key:\xc3\xa4"]
    file = tmp_path / "records"
    file.write_bytes(b"\n".join(lines))
    assert [value for _, value in records_to_produce(_lines(None, file), None, None)] == lines


@pytest.mark.parametrize(
    ("environ", "direct"),
    [
        ({}, None),
        ({"NO_PROXY": "example.org"}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "127.0.0.1,localhost"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "a.org,127.0.0.1"}, "a.org,127.0.0.1,localhost"),
        ({"ALL_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
    ],
)
def test_a_proxy_is_kept_out_of_what_this_machine_says_to_itself(
    environ: dict[str, str], direct: str | None
) -> None:
    expected = {} if direct is None else {"no_proxy": direct, "NO_PROXY": direct}
    assert reach_loopback_directly(environ) == expected
