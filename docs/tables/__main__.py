"""`make docs`: write every table that the code decides into its page.

Generators stand beside the pages, not among the tests: a test only asks whether a page is up to date. The
figures of docs/performance.md have to be measured, so `make bench` writes those.
"""

from __future__ import annotations

from docs.tables import functions, operations, protocol

for page in (functions, operations, protocol):
    page.FILE.write_text(page.with_tables(page.FILE.read_text()))
