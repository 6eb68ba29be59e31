"""A template's URL names its bucket by path or by host; the engine gets the path."""

from __future__ import annotations

import pytest

from tidemill_local.stacks.template_urls import by_path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://b.s3.amazonaws.com/a/t.json", "/b/a/t.json"),
        ("https://my.b.s3.us-east-1.amazonaws.com/t.json", "/my.b/t.json"),
        ("https://b.s3-us-west-2.amazonaws.com/t.json", "/b/t.json"),
        ("http://b.127.0.0.1:4580/t.json", "/b/t.json"),
        ("http://b.localhost:4580/t.json", "/b/t.json"),
        ("https://s3.us-east-1.amazonaws.com/b/t.json", "/b/t.json"),
        ("http://s3.localhost:4580/b/t.json", "/b/t.json"),
        ("http://127.0.0.1:4580/b/t.json", "/b/t.json"),
        ("http://localhost:4580/b/t.json", "/b/t.json"),
    ],
)
def test_the_bucket_comes_into_the_path(url: str, path: str) -> None:
    assert by_path(url, "127.0.0.1").partition("://")[2].partition("/")[2] == path[1:]
