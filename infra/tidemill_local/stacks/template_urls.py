"""Owns the forms of an S3 object's URL in `TemplateURL`. Pure.

AWS and tools name an object by path and by host; ministack's CloudFormation reads the path alone.
"""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

# BUCKET.s3.REGION.HOST, BUCKET.s3-REGION.HOST; a bucket's name may have dots.
_BUCKET_AT_S3: Final = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]*)\.s3[.-].+")


def by_path(url: str, endpoint_host: str) -> str:
    """Return the URL with its bucket in the path; ``endpoint_host`` may follow the bucket in the host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = _BUCKET_AT_S3.fullmatch(host)
    bucket = found["bucket"] if found else ""
    for suffix in (f".{endpoint_host}", ".localhost"):
        if not bucket and host.endswith(suffix) and not host.startswith("s3."):
            bucket = host.removesuffix(suffix)
    if not bucket:
        return url
    return urlunsplit(parts._replace(path=f"/{bucket}{parts.path}"))
