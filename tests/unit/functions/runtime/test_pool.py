"""The pool's own arithmetic; what it does to processes is tested with processes."""

from __future__ import annotations

from pathlib import Path

from tidemill_functions.runtime.pool import size_bytes


def test_an_empty_file_takes_a_page_so_that_files_without_content_have_a_limit_too(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).touch()
    (tmp_path / "full").write_bytes(b"x" * 100_000)
    assert size_bytes(tmp_path) >= 10 * 4096 + 100_000
